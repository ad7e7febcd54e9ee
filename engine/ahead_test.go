package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/worker"
)

func init() {
	maps.Copy(testFunctions, worker.Functions{
		// mark makes a file configuration.path.
		"mark": func(_ context.Context, s *worker.State) error {
			c, err := worker.Get[struct{ Path string }](s, "configuration")
			if err != nil {
				return err
			}
			return os.WriteFile(c.Path, nil, 0o600)
		},
		// chatter logs configuration.lines lines, and calls configuration.call if
		// there is one.
		"chatter": func(ctx context.Context, s *worker.State) error {
			c, err := worker.Get[struct {
				Lines int
				Call  string
			}](s, "configuration")
			if err != nil {
				return err
			}
			for i := range c.Lines {
				worker.Logger(ctx).Info("line", "n", i)
			}
			if c.Call == "" {
				return nil
			}
			_, err = worker.Call(ctx, c.Call, nil, worker.CallOptions{})
			return err
		},
	})
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// The executor goes on to the next step by itself: while the observer of the
// first one's end holds the branch up, the second one works.
func TestNextStepIsBegunAhead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "begun")
	p := flow(t, `
steps:
  - id: a
    @count
    next: b
  - id: b
    configuration: {path: `+path+`}
    @mark
    next: c
  - id: c
    @count
`)
	begun := false
	out := run(t, newEngine(t, Options{}), p, `{"n":1}`, RunOptions{Observe: func(ev Event) {
		if ev.Type != EventStepComplete || ev.Step != "a" {
			return
		}
		for deadline := time.Now().Add(5 * time.Second); !begun && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			begun = isThere(path)
		}
	}})
	if out.Err != nil || out.document != `{"n":3}` {
		t.Fatal(out.document, out.Err)
	}
	if !begun {
		t.Error("b was not begun before the engine went on to it")
	}
	if n := len(out.stats.Steps); n != 3 {
		t.Errorf("%d steps are reported", n)
	}
	for _, s := range out.stats.Steps {
		if s.Attempts != 1 || s.HandoverUS > 5e6 || s.DurationUS > 5e6 {
			t.Errorf("%+v", s)
		}
	}
}

// What a step sends that was begun ahead comes after its start, all of it,
// however much there is and however long the observer takes.
func TestWhatAStepSendsAhead(t *testing.T) {
	const lines = 3000
	p := flow(t, fmt.Sprintf(`
steps:
  - id: a
    @nothing
    next: b
  - id: b
    configuration: {lines: %d, call: called}
    @chatter
    next: c
  - id: c
    configuration: {lines: 3}
    @chatter
  - id: called
    @log
options: {start: a}
`, lines))
	var order []string
	logged := map[string]int{}
	out := run(t, newEngine(t, Options{}), p, `{}`, RunOptions{Observe: func(ev Event) {
		switch {
		case ev.Type == EventLog:
			if want := fmt.Sprintf(`"n":%d}`, logged[ev.Step]); ev.Step != "called" && !strings.HasSuffix(ev.Log.Message, want) {
				t.Errorf("line %s of %s, want %s", ev.Log.Message, ev.Step, want)
			}
			if logged[ev.Step]++; logged[ev.Step] > 1 {
				return
			}
		case ev.Type == EventStepComplete && ev.Step == "a":
			time.Sleep(30 * time.Millisecond) // b has sent what it can
		}
		order = append(order, strings.TrimSpace(string(ev.Type)+" "+ev.Step))
	}})
	if out.Err != nil {
		t.Fatal(out.Err)
	}
	want := "run:start, step:start a, step:complete a, edge a, step:start b, log b, step:start called, log called, step:complete called, " +
		"step:complete b, edge b, step:start c, log c, step:complete c, run:complete"
	if got := strings.Join(order, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if logged["b"] != lines || logged["c"] != 3 {
		t.Errorf("lines %v", logged)
	}
}

// How a step ends that was begun ahead is its own affair, and not of the one
// before it.
func TestEndsOfStepsBegunAhead(t *testing.T) {
	for name, c := range map[string]struct{ b, next, document, failure string }{
		"fails":    {"@fail", "c", `"n":2`, `no such patient`},
		"exits":    {"@exit", "c", "", `Process exited with code: 7`},
		"panics":   {"@panic", "c", "", "oops"},
		"is late":  {"timeout: 50ms\n    @sleep", "c", "", "50ms"},
		"is tried": {"retry: {attempts: 3, backoff: 1ms}\n    @flaky", "c", `{"n":3,"attempt":3}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, Options{})
			p := flow(t, "steps:\n  - id: a\n    @count\n    next: b\n  - id: b\n    "+c.b+"\n    next: {"+c.next+": on_job_success}\n  - id: c\n    @count\n")
			out := run(t, e, p, `{"n":1}`, RunOptions{})
			if c.failure == "" {
				if out.Err != nil || out.document != c.document {
					t.Fatal(out.document, out.Err)
				}
				return
			}
			var failed *StepError
			if !errors.As(out.Err, &failed) || failed.Step != "b" || !strings.Contains(failed.Message, c.failure) || !strings.Contains(out.document, c.document) {
				t.Fatalf("%v; %s", out.Err, out.document)
			}
			if a := out.stats.Steps[0]; a.ID != "a" || a.Status != StatusSuccess {
				t.Errorf("a: %+v", a)
			}
		})
	}
}

// What was sent ahead is not begun when the step before it does not lead there.
func TestNotBegunAhead(t *testing.T) {
	for name, c := range map[string]struct{ a, edge string }{
		"the step fails":                 {"@fail", "on_job_success"},
		"it forwards":                    {"configuration: {step: c}\n    @forward", "true"},
		"it dies":                        {"@exit", "true"},
		"it is out of time":              {"timeout: 30ms\n    @sleep", "true"},
		"a condition that Go leaves out": {"@nothing", "state.n > 1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "begun")
			p := flow(t, "steps:\n  - id: a\n    "+c.a+"\n    next: {b: "+c.edge+"}\n  - id: b\n    configuration: {path: "+path+"}\n    @mark\n  - id: c\n    @nothing\noptions: {start: a}\n")
			run(t, newEngine(t, Options{}), p, `{"n":1}`, RunOptions{})
			if isThere(path) {
				t.Error("b was begun")
			}
		})
	}
}

// A run that is cancelled takes with it what was sent ahead.
func TestCancelOfWhatWasSentAhead(t *testing.T) {
	e := newEngine(t, Options{})
	path := filepath.Join(t.TempDir(), "begun")
	steps := "steps:\n  - id: a\n    @sleep\n    next: b\n  - id: b\n    configuration: {path: " + path + "}\n    @mark\n"
	got := runAndCancel(t, e, flow(t, steps), `{}`, func(ev Event) bool { return ev.Type == EventStepStart })
	if got.Status != StatusCancel || isThere(path) {
		t.Errorf("it ended %s, b was begun: %v", got.Status, isThere(path))
	}
	// While the second one works, between its beginning and the event of it.
	got = runAndCancel(t, e, flow(t, "steps:\n  - id: a\n    @nothing\n    next: b\n  - id: b\n    @sleep\n"), `{}`, func(ev Event) bool {
		if ev.Type == EventStepComplete {
			time.Sleep(20 * time.Millisecond)
		}
		return ev.Type == EventStepComplete
	})
	if got.Status != StatusCancel {
		t.Errorf("it ended %s with %v", got.Status, got.Err)
	}
}

// Two runs with one place on the host take turns, and none goes on ahead of the
// other.
func TestAheadPassesNobody(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 1})
	var line strings.Builder
	line.WriteString("steps:\n")
	for i := range 20 {
		fmt.Fprintf(&line, "  - id: s%d\n    @nap\n", i)
		if i < 19 {
			fmt.Fprintf(&line, "    next: s%d\n", i+1)
		}
	}
	p := flow(t, line.String())
	first, err := e.Submit(t.Context(), p, EmptyInput(), RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	short := run(t, e, flow(t, "steps:\n  - id: a\n    @nothing\n"), `{}`, RunOptions{})
	select {
	case <-first.Done():
		t.Error("a run of one step waited for one of twenty")
	default:
	}
	if short.Err != nil {
		t.Error(short.Err)
	}
	if res, err := first.Wait(t.Context()); err != nil || res.Err != nil {
		t.Error(err, res)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}
