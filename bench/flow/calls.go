package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// chain is how many empty steps make one sample of a step.
const chain = 100

// calls measures a call's round trip between two Go steps against what an empty
// step costs in a line of them, in turns on one engine.
func (b *flow) calls() error {
	rounds, calls := 40, 2500
	if b.quick {
		rounds = 8
	}
	eng, err := b.engine(engine.Options{})
	if err != nil {
		return err
	}
	defer eng.Close()
	line := &plan.Plan{Name: "line"}
	for i := range chain {
		s := b.step("empty", "")
		s.ID = fmt.Sprint("empty-", i)
		line.Steps = append(line.Steps, s)
		if i > 0 {
			line.Edges = append(line.Edges, &plan.Edge{From: line.Steps[i-1], To: s})
		}
	}
	call := &plan.Plan{Name: "call", Steps: []*plan.Step{b.step("caller", fmt.Sprintf(`{"Calls":%d}`, calls)), b.step("empty", "")}}
	var steps, trips []float64
	for round := range rounds {
		for range calls / chain {
			begin := time.Now()
			if err := once(eng, line, `{}`, func(*engine.Run, *engine.Result) error { return nil }); err != nil {
				return err
			}
			if round > 0 { // the first warms up
				steps = append(steps, float64(time.Since(begin).Nanoseconds())/chain)
			}
		}
		err := once(eng, call, `{}`, func(_ *engine.Run, res *engine.Result) error {
			var doc bytes.Buffer
			if err := res.WriteDocument(&doc); err != nil {
				return err
			}
			var got struct {
				Took []float64 `json:"took"`
			}
			if err := json.Unmarshal(doc.Bytes(), &got); err != nil {
				return err
			}
			if round > 0 {
				trips = append(trips, got.Took...)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	step, trip := measure.SpreadOf(steps), measure.SpreadOf(trips)
	b.report.section("Calls, Go to Go")
	b.report.row("an empty step, in a line of 100", duration(step.Median), spread(step), "", true)
	b.report.row("a call's round trip", duration(trip.Median), spread(trip), "", true)
	b.report.row("  against the step", fmt.Sprintf("%.2f ×", trip.Median/step.Median), "", "≤ 3 ×", trip.Median <= 3*step.Median)
	return nil
}
