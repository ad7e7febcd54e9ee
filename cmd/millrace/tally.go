package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/millrace/millrace/engine"
)

// shownEach is how many executions of a step are shown one by one. Of a step
// that is called for a thousand pages, or goes round in a loop, those after them
// are added up.
const shownEach = 3

// tally adds up what is not shown one by one.
type tally struct {
	executions, failed int
	durationUS         float64
	input, output      uint64
	memory             uint64 // the most
}

// tallies are those of a run's steps.
type tallies map[string]*tally

// add enters an execution that has ended, and reports whether it is to be shown
// by itself.
func (t tallies) add(e *engine.Event) (*tally, bool) {
	step := t[e.Step]
	if step == nil {
		step = new(tally)
		t[e.Step] = step
	}
	step.executions++
	step.durationUS += e.Report.DurationUS
	step.input += e.Report.InputBytes
	step.output += e.Report.OutputBytes
	step.memory = max(step.memory, e.Report.MemoryBytes)
	if e.Err != nil {
		step.failed++
		return step, step.failed <= shownEach
	}
	return step, step.executions-step.failed <= shownEach
}

// isRepeated reports whether executions of the step that go well are not shown
// any more.
func (t tallies) isRepeated(id string) bool {
	step := t[id]
	return step != nil && step.executions-step.failed >= shownEach
}

// milestone reports whether so many executions are a round number.
func (t *tally) milestone() bool {
	n := t.executions
	for n >= 10 && n%10 == 0 {
		n /= 10
	}
	return n == 1 && t.executions > shownEach
}

// repeated returns the steps of which not all was shown, by name.
func (t tallies) repeated() []string {
	var steps []string
	for id, step := range t {
		if step.executions-step.failed > shownEach || step.failed > shownEach {
			steps = append(steps, id)
		}
	}
	slices.Sort(steps)
	return steps
}

// text is a step's tally in a line.
func (t *tally) text(step string) string {
	figures := []string{
		fmt.Sprintf("%s in all", duration(t.durationUS)),
		fmt.Sprintf("%s each", duration(t.durationUS/float64(t.executions))),
		fmt.Sprintf("%s → %s", size(t.input), size(t.output)),
	}
	if t.failed > 0 {
		figures = append(figures, fmt.Sprintf("%d failed", t.failed))
	}
	if t.memory > 0 {
		figures = append(figures, "memory "+size(t.memory))
	}
	return fmt.Sprintf("%-20s %s", fmt.Sprintf("%s ×%d", step, t.executions), strings.Join(figures, "  "))
}
