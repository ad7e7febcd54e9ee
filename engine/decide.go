package engine

import (
	"context"

	"github.com/millrace/millrace/engine/condition"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// decide returns the steps that the branch goes on to, in the order of the
// step's edges. verdicts are the executor's, if it evaluated the conditions:
// one for each edge that has one, in order.
func (b *branch) decide(ctx context.Context, st *stage, verdicts []ipc.Verdict) ([]int, error) {
	r := b.run
	for _, id := range r.program.plan.Options.End {
		if id == st.step.ID {
			return nil, nil
		}
	}
	var targets []int
	for _, e := range st.edges {
		taken := true
		if e.condition != nil {
			var err error
			if len(verdicts) > 0 {
				taken, err = verdict(verdicts[0])
				verdicts = verdicts[1:]
			} else {
				taken, err = b.evaluate(ctx, e.condition)
			}
			switch {
			case err != nil && ctx.Err() != nil: // it was stopped, nothing is wrong with it
				return nil, context.Cause(ctx)
			case err != nil:
				return nil, &EdgeConditionError{From: st.step.ID, To: e.To.ID, Condition: e.Condition, Err: err}
			}
		}
		b.emit(Event{Type: EventEdge, Step: st.step.ID, To: e.To.ID, Taken: taken})
		if taken {
			if e.Loop {
				if err := b.scope.pass(st, r.program.stages[e.to], "the edge"); err != nil {
					return nil, err
				}
			}
			targets = append(targets, e.to)
		}
	}
	return targets, nil
}

func verdict(v ipc.Verdict) (bool, error) {
	if v.Error != "" {
		return false, conditionFailure(v.Error)
	}
	return v.Taken, nil
}

// conditionFailure is an executor's word for why a condition failed.
type conditionFailure string

func (e conditionFailure) Error() string { return string(e) }

func (b *branch) evaluate(ctx context.Context, c *condition.Condition) (bool, error) {
	r := b.run
	var stats condition.Stats
	taken, err := c.EvalWith(ctx, stateView{b.state, r.engine.ledger}, condition.Upstream{StepID: b.upstream},
		condition.Limits{Time: r.engine.options.ConditionTimeout}, &stats)
	r.scalars.Add(uint64(stats.Values))
	return taken, err
}

// stateView shows a table to a condition. The table is held by the branch for
// as long as the condition is evaluated.
type stateView struct {
	table  ipc.Table
	ledger *ledger.Ledger
}

// Kind implements condition.State.
func (s stateView) Kind() condition.Kind {
	switch s.table.Kind {
	case ipc.KindObject:
		return condition.Object
	case ipc.KindValue:
		return condition.Value
	}
	return condition.Absent
}

// Keys implements condition.State.
func (s stateView) Keys() []string {
	keys := make([]string, len(s.table.Rows))
	for i := range s.table.Rows {
		keys[i] = s.table.Rows[i].Key
	}
	return keys
}

// Row implements condition.State.
func (s stateView) Row(key string) (condition.Row, bool) {
	row, ok := s.table.Get(key)
	if !ok {
		return condition.Row{}, false
	}
	v, err := s.ledger.Value(row)
	if err != nil {
		return condition.Row{}, false
	}
	encoding := ""
	if row.Encoding() != shm.JSON && !isStream(&row) {
		encoding = row.Encoding().String()
	}
	return condition.Row{Encoding: encoding, Data: v, Size: v.Size()}, true
}
