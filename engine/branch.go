package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/engine/pool"
	"github.com/millrace/millrace/ipc"
)

// branch is one path of a run through its graph. It holds its state.
type branch struct {
	run      *Run
	loops    *loops                  // of the run, or of the call the branch belongs to
	caller   *demand.Slot            // of the step whose call the branch is; nil: of none
	stop     context.CancelCauseFunc // ends all branches
	state    ipc.Table
	upstream string // the step the state comes from
	lastEnd  uint64 // when that step's code ended, CLOCK_MONOTONIC in ns
	// execution is the number of the step's execution that runs now or, between
	// steps, was the last one; from is the one before it.
	execution, from int
}

// walk executes steps from the one given until the branch reaches a leaf or
// ends the run. Where several edges are taken it goes along the first and
// starts a branch for each other.
func (b *branch) walk(ctx context.Context, at int) {
	r := b.run
	for {
		st := r.program.stages[at]
		verdicts, failed, err := b.step(ctx, st)
		if err != nil {
			b.abort(r.stepError(st.step.ID, err))
			return
		}
		b.upstream = st.step.ID
		targets, err := b.decide(ctx, st, verdicts)
		if err != nil {
			b.abort(r.stepError(st.step.ID, err))
			return
		}
		if len(targets) == 0 {
			r.leaf(st, b.state, b.execution, failed)
			return
		}
		for _, to := range targets[1:] {
			other := *b
			if err := r.account.Retain(b.state); err != nil {
				b.abort(r.stepError(st.step.ID, err))
				return
			}
			r.branches.Go(func() { other.walk(ctx, to) })
		}
		at = targets[0]
	}
}

// abort gives the branch up and, unless the run is to keep going, all others.
func (b *branch) abort(err *StepError) {
	b.run.account.Release(b.state)
	// A branch that was stopped because another one ended the run has nothing
	// to add.
	if !errors.Is(err, errAborted) {
		b.run.end(err)
	}
	if !b.run.options.KeepGoing || err.Status == StatusCancel {
		b.stop(errAborted)
	}
}

// step executes one step with its retries, and replaces the branch's state by
// the step's. A failure that the run survives is recorded in the state and
// returned as failed; what ends the run is returned as err, the state as it
// was.
func (b *branch) step(ctx context.Context, st *stage) (verdicts []ipc.Verdict, failed *StepError, err error) {
	r := b.run
	if st.spec == nil { // nothing to do: a trigger
		if b.state.Kind == ipc.KindAbsent {
			b.state.Kind = ipc.KindObject // as OpenFn: no state becomes {} on its way
		}
		return nil, nil, context.Cause(ctx)
	}
	input, added, err := r.assemble(st.step, b.state)
	if err != nil {
		return nil, nil, err
	}
	defer r.account.Release(added)
	b.from, b.execution = b.execution, int(r.executions.Add(1))
	report := StepReport{ID: st.step.ID, Status: StatusSuccess, InputBytes: input.Size()}
	defer func() {
		r.reports.add(report)
		e := Event{Type: EventStepComplete, Step: st.step.ID, Attempt: report.Attempts, Execution: b.execution, From: b.from, Report: &report}
		if failed != nil {
			e.Err = failed
		} else if err != nil {
			e.Err = err
		}
		if err == nil {
			e.State = &State{run: r, table: b.state}
		}
		r.emit(e)
	}()
	for {
		report.Attempts++
		var result *pool.Result
		result, err = b.attempt(ctx, st, input, &report)
		if err == nil {
			b.accept(st, result, &report)
			return result.Done.Verdicts, nil, nil
		}
		step := r.stepError(st.step.ID, err)
		report.Status, report.Error = step.Status, step.Name+": "+step.Message
		if ctx.Err() != nil || step.Status == StatusCancel {
			return nil, nil, step
		}
		if report.Attempts <= st.step.Retry.Attempts {
			delay := pause(st.step.Retry, report.Attempts)
			r.emit(Event{Type: EventStepRetry, Step: st.step.ID, Attempt: report.Attempts, Execution: b.execution, From: b.from, Err: step, Delay: delay})
			select {
			case <-time.After(delay):
				report.Status, report.Error = StatusSuccess, ""
				continue
			case <-ctx.Done():
				return nil, nil, context.Cause(ctx)
			}
		}
		if step.Status != StatusFail {
			return nil, nil, step
		}
		return nil, step, b.fail(step, input)
	}
}

// attempt executes a step once, when there is room for it.
func (b *branch) attempt(ctx context.Context, st *stage, input ipc.Table, report *StepReport) (*pool.Result, error) {
	r := b.run
	slot, err := r.engine.demand.Enter(ctx, demand.Request{Run: r.demand, Stage: st.demand, Parent: b.caller})
	if err != nil {
		return nil, err
	}
	defer slot.Leave()
	x, err := r.engine.pool.Acquire(ctx, st.spec, r.ID, r.options.Tenant)
	if err != nil {
		return nil, err
	}
	defer r.engine.pool.Release(x)
	r.emit(Event{Type: EventStepStart, Step: st.step.ID, Attempt: report.Attempts, Execution: b.execution, From: b.from})
	task := pool.Task{
		Code: st.code, Input: input, Account: r.account,
		Execute: ipc.Execute{
			Run: r.ID, Step: st.step.ID, Attempt: uint32(report.Attempts), Upstream: b.upstream,
			Timeout: st.step.Timeout, MemoryLimit: uint64(st.step.Memory), Budget: r.account.Remaining(),
		},
	}
	if x.Evaluates() {
		for _, e := range st.edges {
			if e.condition != nil {
				task.Execute.Conditions = append(task.Execute.Conditions, e.Condition)
			}
		}
	}
	if r.options.Observe != nil {
		task.OnLog = func(m *ipc.Log) {
			r.emit(Event{Type: EventLog, Step: st.step.ID, Attempt: report.Attempts, Execution: b.execution, From: b.from, Log: &LogLine{
				Time: time.UnixMicro(int64(m.Time)), Level: m.Level, Source: m.Source, Message: m.Message, Structured: m.Structured,
			}})
		}
	}
	result, err := x.Execute(ctx, &task)
	if err == nil {
		slot.Published(result.Published())
	}
	if err == nil && result.Received-result.Sent > uint64(worthLooking) {
		report.MemoryBytes = x.PeakBytes()
	}
	return result, err
}

// worthLooking is how long a step must run for its executor's memory to be
// read: the reading costs tens of microseconds.
const worthLooking = 5 * time.Millisecond

// accept makes a step's result the branch's state.
func (b *branch) accept(st *stage, result *pool.Result, report *StepReport) {
	r := b.run
	done := result.Done
	// An executor's own stamps are believed only within what was seen here.
	started := clamp(done.Started, result.Sent, result.Received)
	finished := clamp(done.Finished, started, result.Received)
	report.DurationUS = float64(finished-started) / 1e3
	if started > b.lastEnd {
		report.HandoverUS = float64(started-b.lastEnd) / 1e3
	}
	b.lastEnd = finished
	state := result.State
	if dropped := private(state, r.program.plan.Options.DropKeys); len(dropped) > 0 {
		kept := state.Without(dropped...)
		gone := ipc.Table{Kind: state.Kind}
		for _, key := range dropped {
			if row, ok := state.Get(key); ok {
				gone.Rows = append(gone.Rows, row)
			}
		}
		r.account.Release(gone)
		state = kept
	}
	report.OutputBytes, report.ReusedBytes = state.Size(), result.Reused
	report.DecodedBytes, report.EncodedBytes = done.Decoded, done.Encoded
	r.account.Release(b.state)
	b.state = state
}

// private returns the keys of a state that never leave a step.
func private(state ipc.Table, drop []string) []string {
	if state.Kind != ipc.KindObject {
		return nil
	}
	var keys []string
	for i := range state.Rows {
		key := state.Rows[i].Key
		if len(key) > 0 && key[0] == '_' {
			keys = append(keys, key)
			continue
		}
		for _, d := range drop {
			if key == d {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// fail makes the failed step's input, with the failure recorded in it, the
// branch's state.
func (b *branch) fail(e *StepError, input ipc.Table) error {
	r := b.run
	state, err := recordError(r.store, input, e)
	if err != nil {
		return err
	}
	r.account.Release(b.state)
	b.state = state
	if dropped := private(state, r.program.plan.Options.DropKeys); len(dropped) > 0 {
		b.state = state.Without(dropped...)
		if err := r.account.Retain(b.state); err != nil {
			return err
		}
		r.account.Release(state)
	}
	return nil
}

func clamp(v, low, high uint64) uint64 { return min(max(v, low), high) }

// pause returns how long to wait before the retry that follows attempt n.
func pause(r plan.Retry, n int) time.Duration {
	d := r.Backoff << min(n-1, 30)
	if d <= 0 || (r.MaxBackoff > 0 && d > r.MaxBackoff) {
		d = r.MaxBackoff
	}
	if r.Jitter > 0 {
		d -= time.Duration(rand.Float64() * r.Jitter * float64(d))
	}
	return d
}
