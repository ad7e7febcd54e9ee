package engine

import (
	"context"
	"testing"

	"github.com/millrace/millrace/engine/plan"
)

// runAndCancel runs a plan and cancels the run at the first event for which at
// says so, before anything that follows the event.
func runAndCancel(t *testing.T, e *Engine, p *plan.Plan, input string, at func(Event) bool) *Result {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r, err := e.Submit(ctx, p, FromBytes([]byte(input)), RunOptions{Observe: func(ev Event) {
		if at(ev) {
			cancel(ErrCancelled)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	patience, stop := context.WithTimeout(t.Context(), stuckAfter)
	defer stop()
	res, err := r.Wait(patience)
	if err != nil {
		t.Fatalf("the run does not end: %+v", e.Host())
	}
	if left := r.heldBesides(res); left > 0 {
		t.Errorf("%d bytes are held beside the leaves' states", left)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if h := e.Host(); h.StateBytes != 0 || h.Demand.Running+h.Demand.Blocked+h.Demand.Waiting != 0 {
		t.Errorf("left: %+v", h)
	}
	return res
}

// A cancel between a step and its edges' conditions is a cancel, not a failure
// of the condition that it stops.
func TestCancelInACondition(t *testing.T) {
	e := newEngine(t, Options{})
	p := flow(t, `
steps:
  - id: a
    @nothing
    next: {b: state.n > 0}
  - id: b
    @nothing
`)
	got := runAndCancel(t, e, p, `{"n":1}`, func(ev Event) bool { return ev.Type == EventStepComplete })
	if got.Status != StatusCancel {
		t.Fatalf("it ended %s: %v", got.Status, got.Err)
	}
}

// A cancel in the middle of calls ends everybody below, wherever they are, and
// gives everything back.
func TestCancelInNestedCalls(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 3})
	p := flow(t, gatherFlow)
	input, _ := gatherInput()
	for _, at := range []int{1, 2, 3, 5, 9, 17, 30} {
		starts := 0
		got := runAndCancel(t, e, p, input, func(ev Event) bool {
			if ev.Type == EventStepStart {
				starts++
			}
			return starts == at
		})
		if got.Status != StatusCancel {
			t.Errorf("cancelled at start %d it ended %s: %v", at, got.Status, got.Err)
		}
	}
}

// One that is cancelled while its steps do nothing but wait for each other.
func TestCancelOfWaitingCallers(t *testing.T) {
	got := runAndCancel(t, newEngine(t, Options{MaxExecutors: 1}), flow(t, `
steps:
  - id: one
    configuration: {step: two}
    @call
  - id: two
    configuration: {step: three}
    @call
  - id: three
    @sleep
`), `{}`, func(ev Event) bool { return ev.Type == EventStepStart && ev.Depth == 2 })
	if got.Status != StatusCancel {
		t.Errorf("it ended %s: %v", got.Status, got.Err)
	}
}
