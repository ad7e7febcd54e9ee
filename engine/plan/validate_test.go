package plan

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func chain(ids ...string) *Plan {
	p := &Plan{}
	for i, id := range ids {
		p.Steps = append(p.Steps, &Step{ID: id})
		if i > 0 {
			p.Edges = append(p.Edges, &Edge{From: p.Steps[i-1], To: p.Steps[i]})
		}
	}
	return p
}

func TestValidateCompletes(t *testing.T) {
	p := chain("a", "b", "c")
	p.Options.StepTimeout = time.Second
	p.Steps[1].Python = &Python{Path: "x.py"}
	p.Steps[2].Timeout = time.Minute
	p.Steps[2].Command = &Command{Argv: []string{"jq"}}
	for range 2 { // a second time changes nothing
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(p.Start) != 1 || p.Start[0] != "a" || p.Steps[2].Index != 2 || len(p.Steps[0].Next) != 1 || p.Steps[0].Next[0].To != p.Steps[1] {
			t.Errorf("%+v", p)
		}
		if p.Steps[0].Timeout != time.Second || p.Steps[2].Timeout != time.Minute || p.Steps[1].Python.Function != "step" ||
			p.Steps[2].Command.Stdin.From != ChannelState || len(p.Options.DropKeys) != 2 {
			t.Errorf("%+v %+v", p.Steps[0], p.Steps[2])
		}
		if p.Step("b") != p.Steps[1] || p.Step("z") != nil || len(p.Warnings) != 0 {
			t.Errorf("lookup or warnings %v", p.Warnings)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	for _, c := range []struct {
		change func(p *Plan)
		want   string
	}{
		{func(p *Plan) { p.Steps = nil; p.Edges = nil }, "steps: a workflow needs at least one step"},
		{func(p *Plan) { p.Steps[2] = nil; p.Edges = nil }, "steps[2]: is nil"},
		{func(p *Plan) { p.Steps[1].ID = "" }, "steps[1]: the step has no id"},
		{func(p *Plan) { p.Steps[1].ID = "a\n" }, "steps[1].id: must be UTF-8 without control characters"},
		{func(p *Plan) { p.Steps[1].ID = strings.Repeat("x", 256) }, "steps[1].id: is 256 bytes long, the limit is 255"},
		{func(p *Plan) { p.Steps[2].ID = "a" }, `steps[2].id: duplicate id "a": already used at steps[0]`},
		{func(p *Plan) { p.Edges[0].To = &Step{ID: "b"} }, "edges[0]: must lead from one step of the plan to another"},
		{func(p *Plan) { p.Edges[0].To = &Step{ID: "b", Index: -1} }, "edges[0]: must lead from one step"},
		{func(p *Plan) { p.Edges[1] = nil }, "edges[1]: must lead from one step"},
		{func(p *Plan) { p.Edges[1].Condition = "bad(" }, "steps[1].next.c: the condition is not valid: SyntaxError"},
		{func(p *Plan) { p.Start = []string{"bb"} }, `start[0]: there is no step "bb" to start at`},
		{func(p *Plan) { p.Start = []string{"a", "a"} }, `start[1]: "a" is in the list twice`},
		{func(p *Plan) { p.Options.End = []string{"zzz"} }, `options.end[0]: there is no step "zzz" to end at`},
		{func(p *Plan) { p.Steps[0].Command = &Command{} }, "steps[0].command: names no program"},
		{func(p *Plan) { p.Steps[0].Command = &Command{Argv: []string{"a", "b\x00"}} }, "steps[0].command[1]: must not contain a NUL"},
		{func(p *Plan) { p.Steps[0].Command = &Command{Argv: []string{"a"}, Stdin: Stdin{From: "x"}} }, `steps[0].stdin: unknown source "x"`},
		{func(p *Plan) {
			p.Steps[0].Command = &Command{Argv: []string{"a"}, Stdout: Stdout{To: ChannelStream, Key: "k", Encoding: EncodingArrow}}
		}, `steps[0].stdout.encoding: the items of a stream are lines`},
		{func(p *Plan) { p.Steps[0].Command = &Command{Argv: []string{"a"}, Stdout: Stdout{Encoding: "x"}} }, `unknown encoding "x"`},
		{func(p *Plan) { p.Steps[0].Command = &Command{Argv: []string{"a"}, Env: []EnvVar{{"A=B", ""}}} }, "steps[0].env[0]:"},
		{func(p *Plan) { p.Steps[0].Worker = &Worker{Argv: []string{"w"}} }, `steps[0]: "worker" needs "function" beside it`},
		{func(p *Plan) { p.Steps[0].Python = &Python{} }, "steps[0].python: must not be empty"},
		{func(p *Plan) { p.Steps[0].Expression = &Expression{} }, "steps[0].expression: must not be empty"},
		{func(p *Plan) {
			p.Steps[0].Python, p.Steps[0].Worker = &Python{Path: "x"}, &Worker{Argv: []string{"w"}, Function: "f"}
		}, `steps[0]: several kinds of work in one step: "worker", "python"`},
		{func(p *Plan) { p.Steps[0].Configuration = []byte(`[1]`) }, "steps[0].configuration: must be a JSON object"},
		{func(p *Plan) { p.Steps[0].State = []byte(`null`) }, "steps[0].state: must be a JSON object"},
		{func(p *Plan) { p.Steps[0].State, p.Steps[0].StateID = []byte(`{}`), "x" }, "steps[0].state: has both"},
		{func(p *Plan) { p.Steps[0].Timeout = -1 }, "steps[0].timeout: must not be negative, is -1ns"},
		{func(p *Plan) { p.Steps[0].Memory = -1 }, "steps[0].memory: must not be negative, is -1"},
		{func(p *Plan) { p.Steps[0].Retry.Jitter = math.NaN() }, "steps[0].retry.jitter: must be between 0 and 1"},
		{func(p *Plan) { p.Steps[0].Retry = Retry{1, 2, 1, 0} }, "steps[0].retry.max_backoff: 1ns is shorter"},
		{func(p *Plan) { p.Steps[0].Reserve = -1 }, "steps[0].reserve: must not be negative"},
		{func(p *Plan) { p.Steps[0].MaxDemand, p.Steps[0].MinDemand = 5, 5 }, "steps[0].min_demand: 5 is not below max_demand, which is 5"},
		{func(p *Plan) { p.Steps[0].MinDemand = 1000 }, "steps[0].min_demand: 1000 is not below max_demand, which is 1000"},
		{func(p *Plan) { p.Options.Concurrency = -1 }, "options.concurrency: must not be negative"},
		{func(p *Plan) { p.Options.Sanitize = "x" }, "options.sanitize: unknown policy"},
		{func(p *Plan) { p.Credentials = []byte(`{`) }, "credentials: must be a JSON object"},
	} {
		p := chain("a", "b", "c")
		c.change(p)
		err := p.Validate(Options{CheckCondition: checkParens})
		var invalid *InvalidError
		if !errors.As(err, &invalid) || len(invalid.Problems) != 1 || !strings.HasPrefix(err.Error(), c.want) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v\nwant only %s", err, c.want)
		}
	}
}

// The condition's own error can be reached through the report.
func TestConditionErrorIsWrapped(t *testing.T) {
	cause := errors.New("cause")
	var asked []string
	p := chain("a", "b", "c")
	p.Edges[0].Condition = "always"
	p.Edges[1].Condition = "x"
	err := p.Validate(Options{CheckCondition: func(expr string) error {
		asked = append(asked, expr)
		if expr == "x" {
			return cause
		}
		return nil
	}})
	if !errors.Is(err, cause) || strings.Join(asked, " ") != "always x" {
		t.Errorf("got %v, asked %v", err, asked)
	}
}

// A disabled edge makes no loop and reaches nothing.
func TestDisabledEdges(t *testing.T) {
	p := chain("a", "b")
	p.Edges = append(p.Edges, &Edge{From: p.Steps[1], To: p.Steps[0], Disabled: true})
	if err := p.Validate(); err != nil || len(p.Warnings) != 0 || p.Edges[0].Loop {
		t.Fatal(err, p.Warnings)
	}
	p.Edges[0].Disabled = true
	if err := p.Validate(); err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0].Message, `"b" is never reached from "a"`) {
		t.Errorf("%v, warnings %v", err, p.Warnings)
	}
}

// Diamonds are no loops; a long chain is not a deep recursion; a long loop has
// a short warning.
func TestLargeGraphs(t *testing.T) {
	const n = 200_000
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("s", i)
	}
	p := chain(ids...)
	for i := range n - 2 {
		p.Edges = append(p.Edges, &Edge{From: p.Steps[i], To: p.Steps[i+2]})
	}
	if err := p.Validate(); err != nil || len(p.Warnings) != 0 {
		t.Fatal(err, len(p.Warnings))
	}
	p.Edges = append(p.Edges, &Edge{From: p.Steps[n-1], To: p.Steps[0]})
	if err := p.Validate(); err != nil || len(p.Warnings) != 1 || len(p.Warnings[0].Error()) > 300 || !strings.Contains(p.Warnings[0].Error(), "s0, s1, s2") {
		t.Errorf("%v, warnings %.500v", err, p.Warnings)
	}
}

func TestAlways(t *testing.T) {
	for _, c := range []struct {
		e    Edge
		want bool
	}{{Edge{}, true}, {Edge{Condition: "always"}, true}, {Edge{Condition: "true"}, true}, {Edge{Condition: "state.x"}, false}, {Edge{Disabled: true}, false}} {
		if c.e.Always() != c.want {
			t.Errorf("%+v: %v", c.e, !c.want)
		}
	}
}

// A caller may change where a loaded plan starts and validate it again.
func TestRestart(t *testing.T) {
	p := mustParse(t, "x.yaml", "workflow:\n  steps:\n    - {id: a, next: b}\n    - {id: b}\n", "")
	p.Start = []string{"b"}
	if err := p.Validate(); err != nil || len(p.Warnings) != 1 || p.Warnings[0].Error() != `x.yaml: workflow.steps[0]: step "a" is never reached from "b"` {
		t.Errorf("%v, warnings %v", err, p.Warnings)
	}
	p.Start = []string{"c"}
	if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), `x.yaml: start[0]: there is no step "c" to start at`) {
		t.Errorf("got %v", err)
	}
}

// Edges of a loop are marked, and one without a condition is warned of.
func TestLoops(t *testing.T) {
	for _, c := range []struct{ steps, loop, warning string }{
		{"[{id: a, next: b}, {id: b, next: c}, {id: c}]", "", ""},
		{"[{id: s, next: a}, {id: a, next: b}, {id: b, next: {a: state.more, c: true}}, {id: c}]", "a>b b>a", ""},
		{"[{id: a, next: {a: state.more, b: true}}, {id: b}]", "a>a", ""},
		{"[{id: a, next: b}, {id: b, next: a}]", "a>b b>a", `this loop has no condition that ends it: a, b`},
		{"[{id: a, next: a}]", "a>a", "this loop has no condition that ends it: a"},
		{"[{id: a, next: [b, c]}, {id: b, next: d}, {id: c, next: d}, {id: d}]", "", ""},
	} {
		p := mustParse(t, "x.yaml", "steps: "+c.steps, "")
		var loop []string
		for _, e := range p.Edges {
			if e.Loop {
				loop = append(loop, e.From.ID+">"+e.To.ID)
			}
		}
		if got := strings.Join(loop, " "); got != c.loop {
			t.Errorf("%s: loop %q, want %q", c.steps, got, c.loop)
		}
		if c.warning == "" && len(p.Warnings) > 0 || c.warning != "" && (len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0].Error(), c.warning)) {
			t.Errorf("%s: warnings %v", c.steps, p.Warnings)
		}
	}
}
