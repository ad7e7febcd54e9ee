package engine

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/engine/document"
)

func TestEventsNumberExecutions(t *testing.T) {
	e := newEngine(t, Options{})
	type seen struct {
		Type            EventType
		Step            string
		Attempt         int
		Execution, From int
	}
	var events []seen
	var held *State
	p := flow(t, `
steps:
  - id: trigger
    next: a
  - id: a
    @flaky
    retry: {attempts: 3, backoff: 1ms}
    next: pass
  - id: pass
    next: b
  - id: b
    @fail
`)
	r, err := e.Submit(t.Context(), p, FromBytes([]byte(`{"k":[1]}`)), RunOptions{Observe: func(ev Event) {
		switch ev.Type {
		case EventStepStart, EventStepRetry, EventStepComplete:
			events = append(events, seen{ev.Type, ev.Step, ev.Attempt, ev.Execution, ev.From})
		}
		if ev.Type == EventStepComplete && ev.Step == "a" {
			var err error
			if held, err = ev.State.Hold(); err != nil {
				t.Error(err)
			}
		}
		if ev.Type == EventStepComplete && ev.State == nil {
			t.Errorf("%s completed without a state", ev.Step)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := r.Wait(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []seen{
		{EventStepStart, "a", 1, 1, 0}, {EventStepRetry, "a", 1, 1, 0},
		{EventStepStart, "a", 2, 1, 0}, {EventStepRetry, "a", 2, 1, 0},
		{EventStepStart, "a", 3, 1, 0}, {EventStepComplete, "a", 3, 1, 0},
		{EventStepStart, "b", 1, 2, 1}, {EventStepComplete, "b", 1, 2, 1},
	}
	if d := cmp.Diff(want, events); d != "" {
		t.Error(d)
	}
	if n := result.Leaves[0].Execution; n != 2 {
		t.Errorf("the leaf came of execution %d, not 2", n)
	}
	var out bytes.Buffer
	w := document.NewWriter(held.Ledger(), &out)
	if err := w.Table(held.Table()); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if out.String() != `{"k":[1],"attempt":3}` {
		t.Errorf("the held state is %s", &out)
	}
	held.Release()
	held.Release() // of no effect
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestScrubbedErrors(t *testing.T) {
	e := newEngine(t, Options{})
	got := run(t, e, flow(t, `
steps:
  - id: a
    @fail
`), `{}`, RunOptions{Scrub: func(s string) string { return strings.ReplaceAll(s, "patient", "***") }})
	const want = `{"errors":{"a":{"source":"runtime","name":"JobError","severity":"fail","message":"no such ***"}}}`
	if got.document != want || strings.Contains(got.Err.Error(), "patient") || strings.Contains(got.stats.Steps[0].Error, "patient") {
		t.Errorf("got %s, %v, %+v", got.document, got.Err, got.stats.Steps)
	}
}
