package plan

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mustParse parses a workflow that is expected to be valid.
func mustParse(t *testing.T, name, src, dir string) *Plan {
	t.Helper()
	p, err := Parse(name, []byte(src), dir)
	if err != nil {
		t.Fatalf("%s\nis not valid:\n%v", src, err)
	}
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const everything = `
$schema: ../docs/workflow.schema.json
id: 42
x-retry: &retry {attempts: 4, backoff: 2s, max_backoff: 1m, jitter: 0.5}
name: everything
start: in
globals: lib/globals.mjs
credentials: {token: t}
options:
  end: out
  timeout: 1h30m
  step_timeout: 90s
  memory: 1GiB
  concurrency: 8
  sanitize: remove
  drop_keys: []
  node: node --no-warnings
  python: [python3, -I]
  reuse: true
  max_iterations: 10
steps:
  - id: in
    type: webhook
    next: {js: true}
  - id: js
    name: Expression
    expression: jobs/a.js
    adaptor: "@openfn/language-common@1.0.0"
    adaptors: [x]
    linker: {x: {path: ../x}, y: {version: "2"}}
    configuration: cred-1
    state: {z: 1.10, a: [12345678901234567890, "é"]}
    retry: *retry
    timeout: 2500
    next: [cmd]
  - id: cmd
    command: ./bin/tool --flag 'two words'
    stdin: {key: data}
    stdout: {key: data, encoding: arrow}
    state_fd: true
    env: {PORT: 8080, A: "x"}
    cwd: work
    configuration: {b: 1, a: 2}
    memory: 512MB
    concurrency: 3
    reuse: false
    next:
      wrk: {condition: "state.data.length > 0", label: has data}
      out: {condition: always, disabled: true}
      py: on_job_failure
  - id: wrk
    worker: [mill-worker, 1.10, true]
    function: count
    retry: 2
    process: per-task
    reserve: 5MB
    max_demand: 100
    min_demand: 20
    demand: manual
    next: out
  - id: py
    python: py/step.py
  - id: out
`

func TestParseEverything(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "lib/globals.mjs"), "export const g = 1")
	write(t, filepath.Join(dir, "jobs/a.js"), "fn(state => state)")
	write(t, filepath.Join(dir, "py/step.py"), "def step(s): return s")
	write(t, filepath.Join(dir, "work/.keep"), "")
	write(t, filepath.Join(dir, "flow.yaml"), everything)
	p, err := Load(filepath.Join(dir, "flow.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	steps := []*Step{
		{ID: "in"},
		{ID: "js", Name: "Expression", Credential: "cred-1", Timeout: 2500 * time.Millisecond,
			Expression: &Expression{
				Source:   Source{Text: "fn(state => state)", Path: filepath.Join(dir, "jobs/a.js")},
				Adaptors: []string{"@openfn/language-common@1.0.0", "x"},
				Linker:   map[string]Module{"x": {Path: filepath.Join(filepath.Dir(dir), "x")}, "y": {Version: "2"}},
			},
			State: json.RawMessage(`{"z":1.10,"a":[12345678901234567890,"é"]}`),
			Retry: Retry{Attempts: 4, Backoff: 2 * time.Second, MaxBackoff: time.Minute, Jitter: 0.5}},
		{ID: "cmd", Configuration: json.RawMessage(`{"b":1,"a":2}`), Memory: 512e6, Concurrency: 3, Reuse: &no,
			Command: &Command{
				Argv:  []string{filepath.Join(dir, "bin/tool"), "--flag", "two words"},
				Stdin: Stdin{From: ChannelKey, Key: "data"}, Stdout: Stdout{To: ChannelKey, Key: "data", Encoding: EncodingArrow},
				StateFD: true, Env: []EnvVar{{"A", "x"}, {"PORT", "8080"}}, Dir: filepath.Join(dir, "work")}},
		{ID: "wrk", Worker: &Worker{Argv: []string{"mill-worker", "1.10", "true"}, Function: "count"},
			Retry: Retry{Attempts: 2, Backoff: time.Second, MaxBackoff: 30 * time.Second, Jitter: 0.2}},
		{ID: "py", Python: &Python{Path: filepath.Join(dir, "py/step.py"), Function: "step"}},
		{ID: "out"},
	}
	for i, s := range steps {
		s.Index = i
		if s.Timeout == 0 {
			s.Timeout = 90 * time.Second
		}
		if s.Reuse == nil {
			s.Reuse = &yes
		}
		if s.ID == "wrk" {
			s.PerTask, s.Reserve, s.MaxDemand, s.MinDemand, s.ManualDemand = true, 5e6, 100, 20, true
		} else {
			s.MaxDemand, s.MinDemand = DefaultMaxDemand, DefaultMaxDemand/2
		}
		got := *p.Steps[i]
		got.Next, got.at = nil, nil
		if diff := cmp.Diff(*s, got, cmp.AllowUnexported(Step{})); diff != "" {
			t.Errorf("step %s (-want +got):\n%s", s.ID, diff)
		}
	}
	if p.ID != "42" || p.Name != "everything" || p.Dir != dir || string(p.Credentials) != `{"token":"t"}` ||
		p.Globals.Text != "export const g = 1" || !slices.Equal(p.Start, []string{"in"}) {
		t.Errorf("plan: %+v", p)
	}
	want := RunOptions{End: []string{"out"}, Timeout: 90 * time.Minute, StepTimeout: 90 * time.Second, Memory: 1 << 30,
		Concurrency: 8, Sanitize: "remove", DropKeys: []string{}, Node: []string{"node", "--no-warnings"},
		Python: []string{"python3", "-I"}, Reuse: &yes, MaxIterations: 10, MaxCallDepth: DefaultMaxCallDepth}
	if diff := cmp.Diff(want, p.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if got := edges(p); got != `in->js [] js->cmd [] cmd->wrk [state.data.length > 0] cmd->out [always] off cmd->py [on_job_failure] wrk->out []` {
		t.Errorf("edges: %s", got)
	}
	if len(p.Step("cmd").Next) != 2 || p.Edges[2].Label != "has data" || len(p.Warnings) != 0 {
		t.Errorf("next %v, label %q, warnings %v", p.Step("cmd").Next, p.Edges[2].Label, p.Warnings)
	}
}

func edges(p *Plan) string {
	var all []string
	for _, e := range p.Edges {
		s := e.From.ID + "->" + e.To.ID + " [" + e.Condition + "]"
		if e.Disabled {
			s += " off"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// The meaning of edges is that of OpenFn's runtime (compile-plan, calculateNext).
func TestEdgesAsOpenFn(t *testing.T) {
	for _, c := range []struct{ next, want, warning string }{
		{`"b"`, "a->b []", ""},
		{`""`, "", ""},
		{`null`, "", ""},
		{`{"b": true}`, "a->b []", ""},
		{`{"b": false}`, "a->b [] off", ""},
		{`{"b": "state.ok"}`, "a->b [state.ok]", ""},
		{`{"b": ""}`, "a->b [] off", "its condition is empty"},
		{`{"b": {}}`, "a->b [] off", "it has no condition"},
		{`{"b": {"label": "x"}}`, "a->b [] off", "it has no condition"},
		{`{"b": {"condition": "true"}}`, "a->b [true]", ""},
		{`{"b": {"condition": true}}`, "a->b []", ""},
		{`{"b": {"condition": false}}`, "a->b [] off", ""},
		{`{"b": {"condition": null, "disabled": true}}`, "a->b [] off", ""},
		{`{"b": {"condition": "always", "disabled": true}}`, "a->b [always] off", ""},
		{`{"c": true, "b": true}`, "a->c [] a->b []", ""},
		{`["c", "b"]`, "a->c [] a->b []", ""},
	} {
		p := mustParse(t, "x.json", `{"steps":[{"id":"a","next":`+c.next+`},{"id":"b"},{"id":"c"}],"start":["a","b","c"]}`, "")
		if got := edges(p); got != c.want {
			t.Errorf("next %s: got %s, want %s", c.next, got, c.want)
		}
		warning := ""
		if len(p.Warnings) > 0 {
			warning = p.Warnings[0].Message
		}
		if (c.warning == "") != (warning == "") || !strings.Contains(warning, c.warning) {
			t.Errorf("next %s: warning %q, want %q", c.next, warning, c.warning)
		}
		for _, s := range p.Steps {
			for _, e := range s.Next {
				if e.Disabled {
					t.Errorf("next %s: Next holds an edge that is never taken", c.next)
				}
			}
		}
	}
}

// options.start goes before workflow.start, which goes before the first step.
func TestStartAsOpenFn(t *testing.T) {
	for _, c := range []struct{ extra, options, want string }{
		{``, `{}`, "a"},
		{`,"start":"b"`, `{}`, "b"},
		{`,"start":"b"`, `{"start":"c"}`, "c"},
		{``, `{"start":["c","a"]}`, "c,a"},
		{``, `null`, "a"},
	} {
		p := mustParse(t, "x.json", `{"workflow":{"steps":[{"id":"a"},{"id":"b"},{"id":"c"}]`+c.extra+`},"options":`+c.options+`}`, "")
		if got := strings.Join(p.Start, ","); got != c.want {
			t.Errorf("%s %s: starts at %s, want %s", c.extra, c.options, got, c.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	p := mustParse(t, "dir/flow.yaml", "steps: [{id: a, command: cat}, {id: b, command: cat, stdin: {stream: s}, stdout: {key: k}}, {id: c, command: cat, stdout: {stream: s}}]", "")
	if p.Name != "flow" || !slices.Equal(p.Options.DropKeys, []string{"configuration", "response"}) {
		t.Errorf("name %q, drop keys %v", p.Name, p.Options.DropKeys)
	}
	if c := p.Steps[0].Command; c.Stdin != (Stdin{From: ChannelState}) || c.Stdout != (Stdout{To: ChannelState}) || c.Dir != "" {
		t.Errorf("command: %+v", c)
	}
	if c := p.Steps[1].Command; c.Stdin != (Stdin{From: ChannelStream, Key: "s"}) || c.Stdout != (Stdout{To: ChannelKey, Key: "k", Encoding: EncodingJSON}) {
		t.Errorf("command: %+v", c)
	}
	if c := p.Steps[2].Command; c.Stdin.From != ChannelState || c.Stdout != (Stdout{To: ChannelStream, Key: "s", Encoding: EncodingJSON}) {
		t.Errorf("command: %+v", c)
	}
	if len(p.Warnings) != 2 || p.Warnings[0].Line != 1 || !strings.Contains(p.Warnings[0].Message, `"b" is never reached`) {
		t.Errorf("warnings: %v", p.Warnings)
	}
}

func TestWarnings(t *testing.T) {
	for src, want := range map[string]string{
		"steps: [{id: a, timeout: 30}]":         `x.yaml:1:26: steps[0].timeout: a number alone counts milliseconds: 30ms (for seconds write 30s)`,
		"steps: [{id: a, command: 'cat | jq'}]": `x.yaml:1:26: steps[0].command: no shell is started: "|" is handed to cat as an argument (for a shell, write [sh, -c, "..."])`,
		"steps: [{id: a, adaptor: x}]":          `x.yaml:1:9: steps[0]: the step has an adaptor but no expression: it only passes the state on`,
	} {
		p := mustParse(t, "x.yaml", src, "")
		if len(p.Warnings) != 1 || p.Warnings[0].Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", src, p.Warnings, want)
		}
	}
}
