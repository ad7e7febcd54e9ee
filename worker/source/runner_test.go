package source

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// The test binary is its own executor.
func TestMain(m *testing.M) {
	switch os.Getenv("MILLRACE_TEST_ROLE") {
	case "source":
		Main()
	case "":
		os.Exit(m.Run())
	}
	os.Exit(3)
}

func startSource(t *testing.T) *testhost.Executor {
	t.Helper()
	return testhost.NewWorld(t).Start("source", testhost.Options{Streams: &testhost.StreamSettings{MaxDemand: 4, MinDemand: 2}})
}

// code prepares a step.
func code(t *testing.T, x *testhost.Executor, id uint64, spec any) ipc.Execute {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	x.Prepare(id, "source", string(b))
	return ipc.Execute{Code: id}
}

func TestRunner(t *testing.T) {
	x := startSource(t)
	var lines strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&lines, "{\"i\":%d}\n", i)
	}
	path := write(t, "a.ndjson", lines.String())
	step := x.Begin(code(t, x, 1, Spec{Paths: []string{path}, Batch: 10, Key: "pages"}), x.World.State(`{"n":1}`))
	st := x.Streamed()
	if got := x.World.Document(st.State); got != `{"n":1,"pages":"[stream]"}` {
		t.Error(got)
	}
	r := st.Reader()
	for i := range 500 {
		batch, end, ok := r.Take()
		var records []struct{ I int }
		if err := json.Unmarshal([]byte(batch), &records); !ok || err != nil || len(records) != 10 || records[9].I != 10*i+9 {
			t.Fatalf("batch %d: %q %v %+v", i, batch, err, end)
		}
	}
	if _, end, ok := r.Take(); ok || end.Name != "" {
		t.Errorf("%v %+v", ok, end)
	}
	if f := x.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
	if got := x.LogText(); !strings.Contains(got, "info source: read 5000 records in 500 batches, ") || !strings.Contains(got, "from 1 of 1 files") {
		t.Error(got)
	}
}

func TestRunnerReadsArrow(t *testing.T) {
	x := startSource(t)
	path := writeColumns(t, 30)["parquet"]
	step := x.Begin(code(t, x, 1, Spec{Paths: []string{path}, Batch: 20, Encoding: "arrow"}), x.World.State(`[1]`))
	st := x.Streamed()
	if st.Key != DefaultKey || st.Encoding.String() != "arrow-stream" {
		t.Errorf("%q %s", st.Key, st.Encoding)
	}
	r := st.Reader()
	for range 2 {
		if batch, end, ok := r.Take(); !ok || !strings.HasPrefix(batch, "\xff\xff\xff\xff") {
			t.Errorf("%q %+v", batch, end)
		}
	}
	if f := x.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestRunnerOfNothing(t *testing.T) {
	x := startSource(t)
	step := x.Begin(code(t, x, 1, Spec{Paths: []string{write(t, "a.csv", "a,b\n")}}), x.World.State(`{}`))
	if item, end, ok := x.Streamed().Reader().Take(); ok || end.Name != "" {
		t.Errorf("%q %+v", item, end)
	}
	if f := x.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestRunnerOfTooLargeBatches(t *testing.T) {
	x := startSource(t)
	path := writeColumns(t, 200_000)["file"]
	step := x.Begin(code(t, x, 1, Spec{Paths: []string{path}, Encoding: "arrow", Batch: 200_000}), x.World.State(`{}`))
	x.Streamed()
	if f := x.End(step).Fail; f == nil || f.Name != "StreamItemTooLargeError" || !strings.Contains(f.Message, "set a `batch` of fewer than 200000 records") {
		t.Errorf("%+v", f)
	}
}

func TestRunnerFails(t *testing.T) {
	x := startSource(t)
	path := write(t, "a.ndjson", "{}\n{}\n{}\n  {\"a\":\n{}\n")
	for name, c := range map[string]struct {
		spec           any
		severity, want string
		begun          bool
	}{
		"no such file":   {Spec{Paths: []string{"/nowhere/a.csv"}}, "fail", "/nowhere/a.csv: ", false},
		"the first one":  {Spec{Paths: []string{write(t, "b.ndjson", "{")}}, "fail", "b.ndjson:1: ", false},
		"one later":      {Spec{Paths: []string{path}, Batch: 1}, "fail", "a.ndjson:4: not a JSON value: ", true},
		"a field":        {map[string]any{"paths": []string{path}, "bacth": 1}, "crash", "bacth", false},
		"a wrong format": {Spec{Paths: []string{path}, Format: "xml"}, "crash", `unknown format "xml"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			step := x.Begin(code(t, x, uint64(len(name)), c.spec), x.World.State(`{}`))
			if c.begun {
				if end := x.Streamed().Reader().Ended(); end.Name != "SourceError" || !strings.Contains(end.Message, c.want) {
					t.Errorf("the reader was told %+v", end)
				}
			}
			f := x.End(step).Fail
			if f == nil || string(f.Severity) != c.severity || !strings.Contains(f.Message, c.want) {
				t.Fatalf("%+v", f)
			}
			if !c.begun {
				return
			}
			var details struct {
				Path         string
				Line, Offset int64
			}
			if err := json.Unmarshal([]byte(f.Details), &details); err != nil || details.Path != path || details.Line != 4 || details.Offset != 16 {
				t.Errorf("%s %v", f.Details, err)
			}
		})
	}
}

func TestRunnerSkipsAndStops(t *testing.T) {
	x := startSource(t)
	path := write(t, "a.csv", "a,b\n1,2\n3\n"+strings.Repeat("4,5\n", 10_000))
	step := x.Begin(code(t, x, 1, Spec{Paths: []string{path}, Batch: 1, SkipBad: true}), x.World.State(`{}`))
	r := x.Streamed().Reader()
	for _, want := range []string{`[{"a":1,"b":2}]`, `[{"a":4,"b":5}]`} {
		if got, _, ok := r.Take(); !ok || got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	r.End(ipc.StreamEnd{})
	if f := x.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
	log := x.LogText()
	for _, want := range []string{"warn source: passed over a record: " + path + ":3: the line does not have 2 fields", "(byte 8 of the file)", "info source: stopped after ", "passed over 1 records"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
}
