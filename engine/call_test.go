package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/worker"
)

func init() { maps.Copy(testFunctions, callFunctions) }

// callConfig is what the steps of these tests are told by their configuration.
type callConfig struct {
	Step      string
	Until     worker.Until
	TimeoutMS int `json:"timeout_ms"`
	Go        bool
	Key       string
	Size      int
}

func configOf(s *worker.State) (callConfig, error) { return worker.Get[callConfig](s, "configuration") }

var callFunctions = worker.Functions{
	// call calls configuration.step on its state, and takes over the keys of the
	// answer, or records the failure.
	"call": func(ctx context.Context, s *worker.State) error {
		c, err := configOf(s)
		if err != nil {
			return err
		}
		return callOnce(ctx, s, c)
	},
	// recurse calls itself until n is 0, and sums.
	"recurse": func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		c, err := configOf(s)
		if err != nil || n == 0 {
			return errors.Join(err, s.Set("sum", 0))
		}
		arg := s.New()
		if err := arg.Set("n", n-1); err != nil {
			return err
		}
		reply, err := worker.Call(ctx, c.Step, arg, worker.CallOptions{})
		if err != nil {
			return err
		}
		defer reply.Close()
		below, err := worker.Get[int](reply.State(), "sum")
		if err != nil {
			return err
		}
		return s.Set("sum", below+n)
	},
	// fan calls configuration.step for each of items, and sums what comes back.
	"fan": func(ctx context.Context, s *worker.State) error {
		c, err := configOf(s)
		if err != nil {
			return err
		}
		items, err := worker.Get[[]int](s, "items")
		if err != nil {
			return err
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var errs []error
		sum := 0
		for _, n := range items {
			arg := s.New()
			if err := arg.Set("n", n); err != nil {
				return err
			}
			wg.Go(func() {
				reply, err := worker.Call(ctx, c.Step, arg, worker.CallOptions{Until: c.Until})
				var got int
				if err == nil {
					got, err = worker.Get[int](reply.State(), "n")
					reply.Close()
				}
				mu.Lock()
				defer mu.Unlock()
				sum += got
				errs = append(errs, err)
			})
		}
		wg.Wait()
		return errors.Join(append(errs, s.Set("sum", sum))...)
	},
	"forward": func(_ context.Context, s *worker.State) error {
		c, err := configOf(s)
		if err != nil {
			return err
		}
		return s.Forward(c.Step)
	},
	"double": func(_ context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		return s.Set("n", 2*n)
	},
	// abandon leaves a call under way.
	"abandon": func(ctx context.Context, s *worker.State) error {
		c, err := configOf(s)
		if err != nil {
			return err
		}
		arg := s.New()
		go worker.Call(ctx, c.Step, arg, worker.CallOptions{})
		time.Sleep(20 * time.Millisecond)
		return s.Set("left", true)
	},
}

func callOnce(ctx context.Context, s *worker.State, c callConfig) error {
	if c.Size > 0 {
		if err := s.Set("data", strings.Repeat("x", c.Size)); err != nil {
			return err
		}
	}
	reply, err := worker.Call(ctx, c.Step, s, worker.CallOptions{Until: c.Until, Timeout: time.Duration(c.TimeoutMS) * time.Millisecond})
	var failed *worker.CallError
	if errors.As(err, &failed) && c.Key != "" {
		return s.Set(c.Key, fmt.Sprintf("%s/%s: %s", failed.Severity, failed.Name, failed.Message))
	}
	if err != nil {
		return err
	}
	defer reply.Close()
	for _, key := range reply.State().Keys() {
		raw, err := reply.State().Raw(key)
		if err != nil {
			return err
		}
		if err := s.Set(key, json.RawMessage(raw)); err != nil {
			return err
		}
	}
	return s.Set("by", reply.Step())
}

func TestCalls(t *testing.T) {
	const tail = `
  - id: double
    @double
    next: {a: true, b: true}
  - id: a
    configuration: {key: "x", value: 1}
    @add
  - id: b
    configuration: {key: "y", value: [2, {"z": 3}]}
    @add
  - id: fail
    @fail
    next: {a: state.errors}
  - id: sleep
    @sleep
  - id: grow
    configuration: {size: 600000}
    @grow
  - id: exit
    @exit
  - id: f1
    configuration: {step: f2}
    @forward
    next: {fail: true}
  - id: f2
    configuration: {step: double}
    @forward
  - id: lost
    configuration: {step: nowhere}
    @forward
  - id: again
    configuration: {step: again, key: why}
    @call
`
	for _, c := range []struct{ name, configuration, want, error string }{
		{"step", `{step: double}`, `{"n":42,"by":"double"}`, ""},
		{"leaf", `{step: double, until: leaf}`, `{"n":21,"a":{"n":42,"x":1},"b":{"n":42,"y":[2,{"z":3}]},"by":"double"}`, ""},
		{"only leaf", `{step: a, until: leaf}`, `{"n":21,"x":1,"by":"a"}`, ""},
		{"failure", `{step: fail, key: why}`, `{"n":21,"why":"fail/JobError: no such patient"}`, ""},
		{"failure handled in the branch", `{step: fail, until: leaf}`, "", ""},
		{"failure not handled", `{step: fail}`, "", "no such patient"},
		{"crash", `{step: exit, key: why}`, "", ""},
		{"timeout", `{step: sleep, timeout_ms: 30, key: why}`, `{"n":21,"why":"fail/TimeoutError: step \"sleep\", called by \"start\", did not answer within 30ms: the call has expired, and its payload is not kept any longer; give the call a longer timeout, or the step less to do"}`, ""},
		{"unknown step", `{step: nowhere, key: why}`, `{"n":21,"why":"fail/CallError: step \"start\" calls \"nowhere\", but the workflow has no such step"}`, ""},
		{"forward", `{step: f1}`, `{"n":42,"by":"double"}`, ""},
		{"forward to nowhere", `{step: lost, key: why}`, `{"n":21,"why":"fail/ForwardError: step \"lost\" forwards to \"nowhere\", but the workflow has no such step"}`, ""},
		{"depth", `{step: again, key: why}`, "", ""},
		{"budget", `{step: grow, size: 600000, key: why}`, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, Options{MaxExecutors: 1})
			p := flow(t, "options: {memory: 1MB, max_call_depth: 5}\nsteps:\n  - id: start\n    configuration: "+c.configuration+"\n    @call\n"+tail)
			out := run(t, e, p, `{"n":21}`, RunOptions{})
			switch {
			case c.error != "" && (out.Err == nil || !strings.Contains(out.Err.Error(), c.error)):
				t.Errorf("got %v, want %s", out.Err, c.error)
			case c.error == "" && out.Err != nil:
				t.Error(out.Err)
			case c.want != "" && out.document != c.want:
				t.Errorf("got  %s\nwant %s", out.document, c.want)
			}
			for name, part := range map[string]string{
				"crash": `crash/ExitError: `, "depth": `fail/CallDepthError: `, "budget": `kill/StateTooLargeError: `,
				"failure handled in the branch": `"x":1`,
			} {
				if name == c.name && !strings.Contains(out.document, part) {
					t.Errorf("got %s, want %s in it", out.document, part)
				}
			}
			if h := e.Host(); h.StateBytes != 0 || h.Demand.Running+h.Demand.Blocked != 0 {
				t.Errorf("left: %+v", h)
			}
		})
	}
}

func TestRecursionAtConcurrencyOne(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 1})
	out := run(t, e, flow(t, `
options: {concurrency: 1}
steps:
  - id: sum
    concurrency: 1
    configuration: {step: sum}
    @recurse
`), `{"n":20}`, RunOptions{})
	if out.Err != nil || out.document != `{"n":20,"sum":210}` {
		t.Fatal(out.document, out.Err)
	}
}

// Two runs whose steps call each other's, with one place for each.
func TestCrossCalls(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 1})
	p := flow(t, `
steps:
  - id: a
    concurrency: 1
    configuration: {step: b}
    @recurse
  - id: b
    concurrency: 1
    configuration: {step: a}
    @recurse
`)
	var wg sync.WaitGroup
	for _, start := range []string{"a", "b"} {
		wg.Go(func() {
			if out := run(t, e, p, `{"n":12}`, RunOptions{Start: start}); out.document != `{"n":12,"sum":78}` {
				t.Error(out.document, out.Err)
			}
		})
	}
	wg.Wait()
}

func TestCallsSideBySide(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 2})
	out := run(t, e, flow(t, `
steps:
  - id: fan
    configuration: {step: double, until: leaf}
    @fan
  - id: double
    concurrency: 1
    @double
    next: {again: true}
  - id: again
    @double
`), `{"items":[1,2,3,4,5,6,7,8,9,10]}`, RunOptions{})
	if out.Err != nil || !strings.Contains(out.document, `"sum":220`) {
		t.Fatal(out.document, out.Err)
	}
}

func TestCallsEndWithTheirStep(t *testing.T) {
	e := newEngine(t, Options{})
	begin := time.Now()
	out := run(t, e, flow(t, `
steps:
  - id: start
    configuration: {step: sleep}
    @abandon
  - id: sleep
    @sleep
`), `{}`, RunOptions{})
	if out.Err != nil || out.document != `{"left":true}` || time.Since(begin) > 20*time.Second {
		t.Fatal(out.document, out.Err, time.Since(begin))
	}
}

func TestForwardInARun(t *testing.T) {
	out := run(t, newEngine(t, Options{}), flow(t, `
options: {max_iterations: 3}
steps:
  - id: a
    configuration: {step: c}
    @forward
    next: {b: true}
  - id: b
    @fail
  - id: c
    @double
`), `{"n":2}`, RunOptions{})
	if out.Err != nil || out.document != `{"n":4}` || len(out.stats.Steps) != 2 {
		t.Fatal(out.document, out.Err)
	}
	out = run(t, newEngine(t, Options{}), flow(t, `
options: {max_iterations: 3}
steps:
  - id: a
    configuration: {step: a}
    @forward
`), `{"n":2}`, RunOptions{})
	if out.Err == nil || !strings.Contains(out.Err.Error(), `the forward from "a" to "a" was taken more than 3 times`) {
		t.Fatal(out.Err)
	}
}

func TestProcessPerTask(t *testing.T) {
	e := newEngine(t, Options{})
	out := run(t, e, flow(t, `
steps:
  - id: a
    process: per-task
    @double
    next: {a: state.n < 30}
`), `{"n":2}`, RunOptions{})
	if out.Err != nil || out.document != `{"n":32}` {
		t.Fatal(out.document, out.Err)
	}
	for deadline := time.Now().Add(10 * time.Second); e.Host().Executors > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d executors are left", e.Host().Executors)
		}
	}
}
