package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
)

// A step of thousands of executions does not fill the screen.
func TestRepeatedStepsAreAddedUp(t *testing.T) {
	var out bytes.Buffer
	r := &textReporter{out: &out, level: slog.LevelInfo, steps: make(tallies)}
	for i := range 1234 {
		r.event(engine.Event{Type: engine.EventStepStart, Step: "page"})
		e := engine.Event{Type: engine.EventStepComplete, Step: "page", Report: &engine.StepReport{DurationUS: 1000, InputBytes: 10, MemoryBytes: 5e6}}
		if i%100 == 50 {
			e.Err = errors.New("no")
			e.Report.Status, e.Report.Error = engine.StatusFail, "no"
		}
		r.event(e)
	}
	r.event(engine.Event{Type: engine.EventStepComplete, Step: "once", Report: &engine.StepReport{}})
	r.summary(&engine.Stats{}, &engine.Result{}, 0, nil)
	text := out.String()
	for want, times := range map[string]int{
		"page started": 3, "✓ page": 3, "✗ page": 3, "page ×10 ": 1, "page ×100 ": 1, "page ×1000 ": 1,
		"page ×1234 ": 1, "1.23s in all": 1, "12 failed": 1, "✓ once": 1, "once ×": 0,
	} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%q stands there %d times, want %d", want, got, times)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
