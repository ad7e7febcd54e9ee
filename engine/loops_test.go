package engine

import (
	"errors"
	"strings"
	"testing"
)

// A loop runs as often as its condition says, in the memory of one iteration.
func TestLoop(t *testing.T) {
	e := newEngine(t, Options{})
	peak := func(rounds string) uint64 {
		out := run(t, e, flow(t, `
steps:
  - id: count
    @count
    next: {count: "state.n < `+rounds+`", end: "state.n >= `+rounds+`"}
  - id: end
`), `{"n":0,"rest":"untouched"}`, RunOptions{})
		if out.Err != nil || out.document != `{"n":`+rounds+`,"rest":"untouched"}` {
			t.Fatal(out.document, out.Err)
		}
		return out.stats.PeakStateBytes
	}
	if few, many := peak("10"), peak("2000"); many > few+64 {
		t.Fatalf("2000 iterations held %d bytes of state, 10 held %d", many, few)
	}
}

func TestLoopLimitNamesTheEdge(t *testing.T) {
	out := run(t, newEngine(t, Options{}), flow(t, `
options: {max_iterations: 5}
steps:
  - id: a
    @count
    next: {b: true}
  - id: b
    @nothing
    next: {a: state.n > 0}
`), `{"n":0}`, RunOptions{})
	var step *StepError
	if !errors.As(out.Err, &step) || step.Name != "IterationLimitError" || !strings.Contains(step.Message, `the edge from "a" to "b" was taken more than 5 times`) {
		t.Fatalf("got %v", out.Err)
	}
	if n := len(out.stats.Steps); n != 11 {
		t.Fatalf("%d steps ran, want 11", n)
	}
}
