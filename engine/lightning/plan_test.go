package lightning

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func testOptions() *Options {
	return &Options{
		Limits:         Limits{RunTimeout: 5 * time.Minute, RunMemory: 500 * megabyte, Payload: 10 * megabyte, LogPayload: megabyte},
		CollectionsURL: "https://example.org/collections", CollectionsVersion: "0.8.2", MonorepoDir: "/adaptors",
	}
}

// describe is a plan for people to compare.
func describe(c *converted) string {
	var b strings.Builder
	p := c.plan
	fmt.Fprintf(&b, "id %s name %q project %q dataclip %q start %v\n", p.ID, p.Name, c.project, c.dataclipID, p.Start)
	fmt.Fprintf(&b, "limits %+v withheld %v sanitize %q level %q\n", c.limits, c.withheld, c.sanitize, c.logLevel)
	fmt.Fprintf(&b, "timeout %v drop %v credentials %s\n", p.Options.Timeout, p.Options.DropKeys, p.Credentials)
	if p.Globals != nil {
		fmt.Fprintf(&b, "globals %q\n", p.Globals.Text)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "step %s name %q configuration %s credential %q state %s memory %d\n", s.ID, s.Name, s.Configuration, s.Credential, s.State, s.Memory)
		if s.Expression != nil {
			fmt.Fprintf(&b, "  expression %q adaptors %v linker %v\n", s.Expression.Text, s.Expression.Adaptors, s.Expression.Linker)
		}
	}
	for _, e := range p.Edges {
		fmt.Fprintf(&b, "edge %s -> %s condition %q disabled %v\n", e.From.ID, e.To.ID, e.Condition, e.Disabled)
	}
	fmt.Fprintf(&b, "to install %v\n", adaptorsOf(p))
	return b.String()
}

func TestConvert(t *testing.T) {
	files, err := filepath.Glob("testdata/plans/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := convert(text, "the-token", testOptions())
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		got, golden := describe(c), strings.TrimSuffix(file, ".json")+".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
}

func TestConvertErrors(t *testing.T) {
	for in, want := range map[string]string{
		`[]`: "cannot unmarshal", `{}`: "at least one step",
		`{"jobs":[{"body":"x"}]}`:                                                   "without an id",
		`{"jobs":[{"id":"a"},{"id":"a"}]}`:                                          `two steps with the id "a"`,
		`{"triggers":[{"id":"a"}],"jobs":[{"id":"a"}]}`:                             `two steps with the id "a"`,
		`{"jobs":[{"id":"a"}],"starting_node_id":"b"}`:                              `no step "b" to start at`,
		`{"jobs":[{"id":"a","credential":[1]}]}`:                                    "neither an object nor an id",
		`{"jobs":[{"id":"a","state":7}]}`:                                           "neither an object nor an id",
		`{"jobs":[{"id":"a"}],"edges":[{"source_job_id":"a","target_job_id":"b"}]}`: "there is no such job",
		`{"jobs":[{"id":"a"},{"id":"b"}],"edges":[{"source_job_id":"a","target_job_id":"b","condition":"(("}]}`: "condition",
	} {
		_, err := convert([]byte(in), "", testOptions())
		var perr *PlanError
		if !errors.As(err, &perr) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", in, err, want)
		}
	}
}

func FuzzConvert(f *testing.F) {
	for _, name := range []string{"ordinary", "collections"} {
		text, err := os.ReadFile("testdata/plans/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	o := testOptions()
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := convert(text, "t", o)
		if err != nil {
			var perr *PlanError
			if !errors.As(err, &perr) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if c.limits.Payload < 0 || c.limits.RunTimeout < 0 || c.plan.Options.Timeout < 0 {
			t.Errorf("limits %+v", c.limits)
		}
		for _, e := range c.plan.Edges {
			if c.plan.Step(e.From.ID) != e.From || c.plan.Step(e.To.ID) != e.To {
				t.Errorf("an edge from %q to %q, which are not the plan's", e.From.ID, e.To.ID)
			}
		}
	})
}
