package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// call is a step's call of another one, from its message until it is forgotten.
type call struct {
	id     uint64
	cancel context.CancelCauseFunc
	// Held for the caller: the blocks that its message published, and the answer.
	blocks, result ipc.Table
	answered       bool
}

func (c *call) release(a interface{ Release(ipc.Table) }) {
	a.Release(c.blocks)
	a.Release(c.result)
}

// errCallCancelled is the cause of a call that its caller cancelled.
var errCallCancelled = errors.Join(ErrCancelled, errors.New("the caller cancelled the call"))

// CallTimeoutError is a call that was not answered in its time.
type CallTimeoutError struct {
	// Caller called Step.
	Caller, Step string
	Limit        time.Duration
}

// Error implements error.
func (e *CallTimeoutError) Error() string {
	return fmt.Sprintf("step %q, called by %q, did not answer within %v: the call has expired, and its payload is not kept any longer; give the call a longer timeout, or the step less to do",
		e.Step, e.Caller, e.Limit)
}

// call begins a call. It does not wait.
func (s *session) call(id uint64, m *ipc.Call, argument ipc.Table) error {
	if id == 0 {
		return errors.New("a call without an id")
	}
	c := &call{id: id, blocks: whole(m.Blocks)}
	s.mu.Lock()
	used, kept := s.calls[id] != nil, len(s.calls)
	s.mu.Unlock()
	switch {
	case used:
		return fmt.Errorf("call %d was made before", id)
	case kept >= maxKeptCalls:
		return fmt.Errorf("it keeps the results of %d calls: it forgets none", kept)
	}
	published := ipc.Table{Kind: ipc.KindObject, Rows: append(c.blocks.Rows[:len(c.blocks.Rows):len(c.blocks.Rows)], argument.Rows...)}
	if held, err := s.publish(id, m.Blocks, published); !held {
		return err
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	c.cancel = cancel
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended { // it crossed the end of the step
		s.run.account.Release(published)
		cancel(nil)
		return nil
	}
	if s.calls == nil {
		s.calls = make(map[uint64]*call)
	}
	s.calls[id] = c
	argument = s.run.clean(argument)
	to, err := s.callable(m)
	if err != nil {
		s.run.account.Release(argument)
		c.answered = true
		cancel(nil)
		s.refusePosted(id, err)
		return nil
	}
	s.underWay++
	s.slot.Block()
	s.lend(func(back func()) {
		step, result, err := s.perform(ctx, m, to, argument)
		// A caller that is being ended hears of that, whatever came of the call: it
		// has no place to go on in.
		if rerr := s.slot.Resume(s.ctx); rerr != nil {
			s.run.account.Release(result)
			result, err = ipc.Table{}, rerr
		}
		back()
		s.answer(c, step, result, err)
	})
	return nil
}

// whole is a table over all of the blocks, to hold them with.
func whole(blocks []shm.Block) ipc.Table {
	if len(blocks) == 0 {
		return ipc.Table{}
	}
	row := ipc.Row{Spans: make([]shm.Ref, len(blocks))}
	for i, b := range blocks {
		row.Spans[i] = b.Ref(shm.Raw, 0)
	}
	return rows(row)
}

// callable checks a call, and returns the step that it calls. mu is held.
func (s *session) callable(m *ipc.Call) (*stage, error) {
	fail := func(name, format string, args ...any) (*stage, error) {
		return nil, &StepError{Run: s.run.ID, Step: s.stage.step.ID, Status: StatusFail, Name: name, Message: fmt.Sprintf(format, args...)}
	}
	step := s.run.program.plan.Step(m.Step)
	limit := s.run.program.plan.Options.MaxCallDepth
	switch {
	case step == nil:
		return nil, s.unknown("CallError", "calls", m.Step)
	case m.Until != ipc.UntilStep && m.Until != ipc.UntilLeaf:
		return fail("CallError", "step %q calls %q until %q: it can be %q or %q", s.stage.step.ID, m.Step, m.Until, ipc.UntilStep, ipc.UntilLeaf)
	case s.branch.scope.depth+1 > limit:
		return fail("CallDepthError", "step %q calls %q with %d calls above it: raise max_call_depth, which is %d, or end the recursion",
			s.stage.step.ID, m.Step, s.branch.scope.depth, limit)
	case s.underWay >= maxCalls:
		return fail("CallLimitError", "step %q calls %q with %d calls under way, the most that are allowed: wait for some of them",
			s.stage.step.ID, m.Step, s.underWay)
	}
	return s.run.program.stages[step.Index], nil
}

// perform runs the called step, or its branch, on the argument, which it takes
// over. It returns the step that ended the call and a table that the caller
// holds.
func (s *session) perform(ctx context.Context, m *ipc.Call, to *stage, argument ipc.Table) (string, ipc.Table, error) {
	if m.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, m.Timeout, &CallTimeoutError{Caller: s.stage.step.ID, Step: m.Step, Limit: m.Timeout})
		defer stop()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	from := s.branch
	sc := &scope{
		run: s.run, caller: s.slot, execution: from.execution, depth: from.scope.depth + 1,
		until: m.Until, stop: stop,
	}
	b := branch{run: s.run, scope: sc, state: argument, upstream: s.stage.step.ID, lastEnd: monotonic()}
	b.walk(ctx, to.step.Index)
	sc.branches.Wait()
	leaves := sc.sorted()
	let := func() {
		for _, l := range leaves {
			s.run.account.Release(l.State)
		}
	}
	if _, err := sc.outcome(); err != nil {
		let()
		var late *CallTimeoutError
		if errors.As(err, &late) && late.Caller == s.stage.step.ID && late.Step == m.Step {
			return "", ipc.Table{}, late
		}
		return "", ipc.Table{}, err
	}
	if len(leaves) == 1 {
		return leaves[0].Step, leaves[0].State, nil
	}
	defer let()
	table, err := s.run.combine(leaves)
	return m.Step, table, err
}

// answer answers a call. It takes the result over.
func (s *session) answer(c *call, step string, result ipc.Table, err error) {
	s.mu.Lock()
	c.result, c.answered = result, true
	s.underWay--
	s.mu.Unlock()
	c.cancel(nil)
	if err == nil {
		err = s.x.Send(&ipc.Envelope{ID: c.id, Message: &ipc.Result{Step: step}, State: result})
		var size *ipc.FrameSizeError
		var malformed *ipc.MessageError
		if !errors.As(err, &size) && !errors.As(err, &malformed) {
			return // a channel that is broken ends the step
		}
	}
	s.refuse(c.id, err)
}

// forget gives back what was held for answered calls.
func (s *session) forget(ids []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if c := s.calls[id]; c != nil && c.answered {
			delete(s.calls, id)
			c.release(s.run.account)
		}
	}
}
