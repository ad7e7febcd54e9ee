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
	scope    *scope
	state    ipc.Table
	upstream string // the step the state comes from
	lastEnd  uint64 // when that step's code ended, CLOCK_MONOTONIC in ns
	// execution is the number of the step's execution that runs now or, between
	// steps, was the last one; from is the one before it.
	execution, from int
}

// stepEnd is how a step of a branch ended.
type stepEnd struct {
	verdicts []ipc.Verdict
	forward  *stage     // where to go on in place of the edges; nil: along them
	failed   *StepError // a failure that the scope survives, recorded in the state
	handed   bool       // the state was handed over, and a branch of its own goes on with it
	ahead    *ahead     // the step that may follow, if it was sent with this one; the receiver's
}

// walk executes steps from the one given until the branch reaches a leaf or
// ends its scope. Where several edges are taken it goes along the first and
// starts a branch for each other.
func (b *branch) walk(ctx context.Context, at int) {
	var sent *ahead
	for {
		st := b.run.program.stages[at]
		end, err := b.step(ctx, st, sent)
		if err != nil {
			b.abort(b.run.stepError(st.step.ID, err))
			return
		}
		if end.handed {
			b.run.account.Release(b.state)
			return
		}
		sent = end.ahead
		var more bool
		if at, more = b.advance(ctx, st, end); !more {
			sent.withdraw()
			return
		}
	}
}

// goOn is walk from where a step has ended.
func (b *branch) goOn(ctx context.Context, st *stage, end stepEnd) {
	if at, more := b.advance(ctx, st, end); more {
		b.walk(ctx, at)
	}
}

// advance returns the step that the branch goes on to after one has ended, and
// starts a branch for each other. It reports whether there is one; if not the
// branch is over.
func (b *branch) advance(ctx context.Context, st *stage, end stepEnd) (int, bool) {
	b.upstream = st.step.ID
	targets, err := b.targets(ctx, st, end)
	if err == nil && len(targets) == 0 {
		err = b.leaf(st, end.failed)
	}
	for i := 1; i < len(targets) && err == nil; i++ {
		other, to := *b, targets[i]
		if err = b.run.account.Retain(b.state); err == nil {
			b.scope.branches.Go(func() { other.walk(ctx, to) })
		}
	}
	if err != nil {
		b.abort(b.run.stepError(st.step.ID, err))
		return 0, false
	}
	if len(targets) == 0 {
		return 0, false
	}
	return targets[0], true
}

// leaf ends the branch with its state. Nobody will read its streams.
func (b *branch) leaf(st *stage, failed *StepError) error {
	shown, streams, err := b.run.settled(b.state)
	if err != nil {
		return err
	}
	if len(streams) > 0 {
		if err := b.run.account.Retain(shown); err != nil {
			return err
		}
		b.run.account.Release(b.state)
	}
	l := Leaf{Step: st.step.ID, State: shown, Execution: b.execution, Streams: streams, order: st.step.Index}
	b.scope.leaf(l, failed)
	return nil
}

// targets returns the steps that the branch goes on to.
func (b *branch) targets(ctx context.Context, st *stage, end stepEnd) ([]int, error) {
	switch to := end.forward; {
	case to != nil:
		b.emit(Event{Type: EventEdge, Step: st.step.ID, To: to.step.ID, Taken: true})
		return []int{to.step.Index}, b.scope.pass(st, to, "the forward")
	case b.scope.until == ipc.UntilStep:
		return nil, nil
	}
	return b.decide(ctx, st, end.verdicts)
}

// abort gives the branch up.
func (b *branch) abort(err *StepError) {
	b.run.account.Release(b.state)
	b.scope.giveUp(err)
}

// emit tells an event of the branch.
func (b *branch) emit(e Event) {
	e.Depth, e.Caller = b.scope.depth, b.scope.execution
	if e.Type != EventEdge {
		e.Execution, e.From = b.execution, b.from
	}
	b.run.emit(e)
}

// step executes one step with its retries, and replaces the branch's state by
// the step's. A failure that the scope survives is recorded in the state; what
// ends the scope is returned as err, the state as it was. sent, if not nil, is
// what was sent ahead; it is used for this step or withdrawn.
func (b *branch) step(ctx context.Context, st *stage, sent *ahead) (end stepEnd, err error) {
	r := b.run
	if sent != nil && sent.stage != st {
		sent.withdraw()
		sent = nil
	}
	if st.spec == nil { // nothing to do: a trigger
		if b.state.Kind == ipc.KindAbsent {
			b.state.Kind = ipc.KindObject // as OpenFn: no state becomes {} on its way
		}
		return end, context.Cause(ctx)
	}
	input, added, err := r.assemble(st.step, b.state)
	if err != nil {
		sent.withdraw()
		return end, err
	}
	defer r.account.Release(added)
	if b.from = b.execution; b.from == 0 {
		b.from = b.scope.execution
	}
	b.execution = int(r.executions.Add(1))
	report := StepReport{ID: st.step.ID, Status: StatusSuccess, InputBytes: input.Size()}
	var s *session
	defer func() {
		r.reports.add(report)
		e := Event{Type: EventStepComplete, Step: st.step.ID, Attempt: report.Attempts, Report: &report}
		if end.failed != nil {
			e.Err = end.failed
		} else if err != nil {
			e.Err = err
		}
		if err == nil {
			e.State = b.output(s, end)
		}
		b.emit(e)
		if s != nil {
			r.account.Release(s.shown)
		}
	}()
	for {
		report.Attempts++
		var result *pool.Result
		result, s, end.ahead, err = b.attempt(ctx, st, input, &report, sent)
		sent = nil
		if err == nil && s.fed == nil {
			end.forward, err = s.forwarded()
			if err != nil {
				r.account.Release(result.State)
			}
		}
		if err != nil || s.fed != nil {
			end.ahead.withdraw()
			end.ahead = nil
		}
		if err == nil {
			end.verdicts, end.handed = result.Done.Verdicts, s.fed != nil
			b.accept(result, s, &report)
			return end, nil
		}
		step := r.stepError(st.step.ID, err)
		again := report.Attempts <= st.step.Retry.Attempts
		if again && s != nil {
			if why := s.once(); why != "" {
				again = false
				step = step.saying("; it cannot be tried again: " + why)
			}
		}
		report.Status, report.Error = step.Status, step.Name+": "+step.Message
		if ctx.Err() != nil || step.Status == StatusCancel {
			return end, step
		}
		if s != nil && s.fed != nil {
			return b.failFeeding(s, step)
		}
		if again {
			delay := pause(st.step.Retry, report.Attempts)
			b.emit(Event{Type: EventStepRetry, Step: st.step.ID, Attempt: report.Attempts, Err: step, Delay: delay})
			select {
			case <-time.After(delay):
				report.Status, report.Error = StatusSuccess, ""
				continue
			case <-ctx.Done():
				return end, context.Cause(ctx)
			}
		}
		if step.Status != StatusFail {
			return end, step
		}
		end.failed = step
		return end, b.fail(step, input)
	}
}

// output is the state that a step's end shows.
func (b *branch) output(s *session, end stepEnd) *State {
	r := b.run
	if r.options.Observe == nil {
		return nil
	}
	if end.handed {
		return &State{run: r, table: s.shown, streams: s.shownStreams}
	}
	// No memory for ten bytes shows no state: the next step will say so.
	shown, streams, _ := r.settled(b.state)
	return &State{run: r, table: shown, streams: streams}
}

// failFeeding ends a step that failed when its branch had gone on without it.
func (b *branch) failFeeding(s *session, step *StepError) (stepEnd, error) {
	switch {
	case s.fed.failedReading(): // the reader's own branch has the failure
	case step.Status != StatusFail:
		return stepEnd{}, step
	default:
		b.scope.failedFeeding(step)
	}
	return stepEnd{failed: step, handed: true}, nil
}

// attempt executes a step once, when there is room for it. The session is nil
// when it did not start. sent is as in step; next is what was sent ahead
// meanwhile, also when the attempt failed.
func (b *branch) attempt(ctx context.Context, st *stage, input ipc.Table, report *StepReport, sent *ahead) (result *pool.Result, s *session, next *ahead, err error) {
	place, err := b.enter(ctx, st, input, sent)
	if err != nil {
		return nil, nil, nil, err
	}
	b.emit(Event{Type: EventStepStart, Step: st.step.ID, Attempt: report.Attempts})
	result, s, next, err = b.execute(ctx, st, input, report, place)
	if errors.Is(err, pool.ErrNotBegun) {
		sent.bets.lost.Add(1)
		next.withdraw()
		next = nil
		if place, err = b.enter(ctx, st, input, nil); err == nil {
			result, s, next, err = b.execute(ctx, st, input, report, place)
		}
	}
	return result, s, next, err
}

// place is where an attempt takes place.
type place struct {
	slot     *demand.Slot
	executor *pool.Executor
	sent     *ahead // that was sent to the executor before; nil: nothing
}

// enter waits for a place, unless what was sent ahead has one.
func (b *branch) enter(ctx context.Context, st *stage, input ipc.Table, sent *ahead) (*place, error) {
	r := b.run
	if sent != nil {
		if slot := sent.slot.Pass(st.demand, b.scope.caller); slot != nil {
			if sent.slot = slot; ctx.Err() == nil {
				return &place{slot, sent.executor, sent}, nil
			}
		}
		sent.withdraw()
	}
	slot, err := r.engine.demand.Enter(ctx, demand.Request{Run: r.demand, Stage: st.demand, Parent: b.scope.caller, Feeders: r.feeders(input)})
	if err != nil {
		return nil, err
	}
	x, err := r.engine.pool.Acquire(ctx, st.spec, r.ID, r.options.Tenant)
	if err != nil {
		slot.Leave()
		return nil, err
	}
	return &place{slot: slot, executor: x}, nil
}

// execute has a step executed at its place, which it gives up unless next, what
// was sent ahead meanwhile, has it.
func (b *branch) execute(ctx context.Context, st *stage, input ipc.Table, report *StepReport, at *place) (result *pool.Result, s *session, next *ahead, err error) {
	r, x, onward := b.run, at.executor, ctx
	defer func() {
		if next == nil {
			r.engine.pool.Release(x)
			at.slot.Leave()
		}
	}()
	task := &pool.Task{Code: st.code, Input: input, Account: r.account, Execute: b.message(st, x, b.upstream, report.Attempts)}
	if at.sent != nil {
		task = at.sent.task
		defer r.account.Release(task.Input)
	}
	if r.options.Observe != nil {
		task.OnLog = func(m *ipc.Log) {
			b.emit(Event{Type: EventLog, Step: st.step.ID, Attempt: report.Attempts, Log: &LogLine{
				Time: time.UnixMicro(int64(m.Time)), Level: m.Level, Source: m.Source, Message: m.Message, Structured: m.Structured,
			}})
		}
	}
	if limit := st.step.Timeout; limit > 0 { // for its calls as well
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, limit, &pool.TimeoutError{Step: st.step.ID, Limit: limit})
		defer stop()
	}
	s = b.newSession(ctx, onward, st, at.slot, x, input)
	defer func() { s.end(err) }()
	task.OnRequest, task.Work, task.OnAnswer = s.request, s.lent, func() { s.cancel(errStepEnded) }
	var execution *pool.Execution
	if at.sent != nil {
		execution = at.sent.execution
		execution.Begin()
	} else if execution, err = x.Start(ctx, task); err != nil {
		return nil, s, nil, err
	}
	next = b.sendAhead(st, at, execution)
	if result, err = execution.Wait(ctx); err != nil {
		return nil, s, next, err
	}
	at.slot.Published(result.Published())
	if result.Received-max(result.Sent, b.lastEnd) > uint64(worthLooking) {
		report.MemoryBytes = x.PeakBytes()
	}
	return result, s, next, nil
}

// message is what an executor is told of an attempt of a step.
func (b *branch) message(st *stage, x *pool.Executor, upstream string, attempt int) ipc.Execute {
	m := ipc.Execute{
		Run: b.run.ID, Step: st.step.ID, Attempt: uint32(attempt), Upstream: upstream,
		Timeout: st.step.Timeout, MemoryLimit: uint64(st.step.Memory), Budget: b.run.account.Remaining(),
	}
	if x.Evaluates() && b.scope.until != ipc.UntilStep {
		for _, e := range st.edges {
			if e.condition != nil {
				m.Conditions = append(m.Conditions, e.Condition)
			}
		}
	}
	return m
}

// worthLooking is how long a step must run for its executor's memory to be
// read: the reading costs tens of microseconds.
const worthLooking = 5 * time.Millisecond

// accept makes a step's result the branch's state, unless the step has handed
// one over before.
func (b *branch) accept(result *pool.Result, s *session, report *StepReport) {
	r := b.run
	done := result.Done
	// An executor's own stamps are believed only within what was seen here.
	started := clamp(done.Started, max(result.Sent, b.lastEnd), result.Received)
	finished := clamp(done.Finished, started, result.Received)
	report.DurationUS = float64(finished-started) / 1e3
	if started > b.lastEnd {
		report.HandoverUS = float64(started-b.lastEnd) / 1e3
	}
	b.lastEnd = finished
	report.DecodedBytes, report.EncodedBytes = done.Decoded, done.Encoded
	if s.fed != nil {
		r.account.Release(result.State) // nobody's: its state is what it handed over
		report.OutputBytes = s.handedBytes
		return
	}
	state := r.clean(result.State)
	report.OutputBytes, report.ReusedBytes = state.Size(), result.Reused
	r.account.Release(b.state)
	b.state = state
}

// clean takes what never leaves a step out of a state that the caller holds.
func (r *Run) clean(state ipc.Table) ipc.Table {
	dropped := private(state, r.program.plan.Options.DropKeys)
	if len(dropped) == 0 {
		return state
	}
	gone := ipc.Table{Kind: state.Kind}
	for _, key := range dropped {
		if row, ok := state.Get(key); ok {
			gone.Rows = append(gone.Rows, row)
		}
	}
	r.account.Release(gone)
	return state.Without(dropped...)
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
