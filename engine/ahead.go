package engine

import (
	"slices"
	"sync/atomic"

	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/pool"
	"github.com/millrace/millrace/ipc"
)

// ahead is the step that follows another on the same executor, sent while that
// one is at work: the executor goes on to it by itself, and the hand-over takes no
// message. It holds the place of the step before it.
type ahead struct {
	run       *Run
	stage     *stage
	bets      *bets // of the step before it
	slot      *demand.Slot
	executor  *pool.Executor
	task      *pool.Task // holds its input
	execution *pool.Execution
}

// withdraw gives up what was sent ahead, and its place; a nil one is none.
func (a *ahead) withdraw() {
	if a == nil {
		return
	}
	a.bets.lost.Add(1)
	a.execution.Withdraw()
	a.run.account.Release(a.task.Input)
	a.run.engine.pool.Release(a.executor)
	a.slot.Leave()
}

// sendAhead sends the step that will follow one that is at work, if that is
// certain but for what the executor sees for itself. What goes wrong is left to
// the step at work, or to the one that follows, to find out.
func (b *branch) sendAhead(st *stage, at *place, execution *pool.Execution) *ahead {
	r, x, next := b.run, at.executor, st.next
	if next == nil || b.scope.until == ipc.UntilStep || !x.TakesAhead() ||
		st.edges[0].condition != nil && !x.Evaluates() || !st.bets.good() || !at.slot.Ahead(next.demand) {
		return nil
	}
	// What is set in any state, because what it depends on is in none.
	input, added, err := r.assemble(next.step, ipc.Table{Kind: ipc.KindObject})
	if err != nil {
		return nil
	}
	defer r.account.Release(added)
	needs := input.Find("data") >= 0 // it is set in a state without
	input = input.Without("data")
	if r.account.Retain(input) != nil {
		return nil
	}
	message := b.message(next, x, st.step.ID, 1)
	if needs {
		message.Needs = []string{"data"}
	}
	a := &ahead{run: r, stage: next, bets: &st.bets, slot: at.slot, executor: x, task: &pool.Task{
		Code: next.code, Input: input, Account: r.account, Execute: message,
	}}
	if a.execution, err = execution.Ahead(a.task); err != nil {
		r.account.Release(input)
		return nil
	}
	st.bets.placed.Add(1)
	return a
}

// bets counts how often the step that follows was sent ahead, and how often for
// nothing: each of those costs a round trip, about what the others spare.
type bets struct{ placed, lost, skipped atomic.Uint32 }

const (
	betsForFree = 8  // before losses count
	betAnyway   = 32 // one of so many, for things may have changed
)

// good reports whether to send the next one ahead.
func (b *bets) good() bool {
	n := b.placed.Load()
	return n < betsForFree || 2*b.lost.Load() < n || b.skipped.Add(1)%betAnyway == 0
}

// findNext sets the one step that can follow each, where it can be sent ahead: at
// the only edge, to the same kind of executor, with an input that but for the
// state does not depend on the run.
func (pr *program) findNext() {
	options := &pr.plan.Options
	for _, st := range pr.stages {
		if len(st.edges) != 1 || st.edges[0].Loop || st.spec == nil || slices.Contains(options.End, st.step.ID) {
			continue
		}
		next := pr.stages[st.edges[0].to]
		step := next.step
		configured := step.Expression != nil || step.Configuration != nil || pr.plan.Credentials != nil
		switch {
		case !st.sameSpec(next) || st.spec.PerTask:
		case step.State != nil || step.StateID != "" || step.Credential != "":
		case configured && !slices.Contains(options.DropKeys, "configuration"): // the state may have one
		default:
			st.next = next
		}
	}
}
