package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/pool"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// maxCalls is how many calls one step may have under way.
const maxCalls = 4096

// maxKeptCalls is how many calls a step may have that it has not forgotten: what
// the engine keeps of each is small, but is kept.
const maxKeptCalls = 1 << 20

// session is one attempt of a step, as far as the step asks for things while it
// runs: calls, where to go on, streams. All that it holds for the step is given
// back at its end.
type session struct {
	branch *branch
	run    *Run
	stage  *stage
	slot   *demand.Slot
	x      *pool.Executor
	input  ipc.Table       // held by the branch
	onward context.Context // the branch's, for what goes on beside the step
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup // calls under way
	// lent has room for one function: what the goroutine does that waits for
	// the step, which spares a call two changes of goroutine. helping says that
	// it has one.
	lent    chan func()
	helping atomic.Bool

	mu       sync.Mutex
	calls    map[uint64]*call // that were not forgotten
	underWay int
	forward  string
	ended    bool

	fed *stream // that the step feeds since it handed its state over
	// That state as it shows, held, and the keys of its streams and its size.
	shown        ipc.Table
	shownStreams []string
	handedBytes  uint64
	reading      []reading
}

// newSession returns the session of an attempt at work until ctx ends. onward is
// the context of the branch.
func (b *branch) newSession(ctx, onward context.Context, st *stage, slot *demand.Slot, x *pool.Executor, input ipc.Table) *session {
	s := &session{branch: b, run: b.run, stage: st, slot: slot, x: x, input: input, onward: onward, lent: make(chan func(), 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// errStepEnded is the cause with which the calls of a step that is over are
// stopped.
var errStepEnded = errors.Join(ErrCancelled, errors.New("the step that called has ended"))

// end ends what the step has under way, waits for that, and gives back what was
// held for it. Each call is answered before. err is why the step failed.
func (s *session) end(err error) {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.endStreams(err)
	s.cancel(errStepEnded)
	select {
	case f := <-s.lent: // it came too late to be taken
		f()
	default:
	}
	s.work.Wait()
	for _, c := range s.calls {
		c.release(s.run.account)
	}
}

// request handles one message of the step. An error is a breach.
func (s *session) request(e *ipc.Envelope) error {
	switch m := e.Message.(type) {
	case *ipc.Call:
		return s.call(e.ID, m, e.State)
	case *ipc.Cancel:
		s.mu.Lock()
		defer s.mu.Unlock()
		if c := s.calls[e.ID]; c != nil {
			c.cancel(errCallCancelled)
		}
		return nil
	case *ipc.Forget:
		s.forget(m.Calls)
		return nil
	case *ipc.Forward:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.forward = m.Step
		return nil
	case *ipc.Stream:
		return s.stream(e.ID, m, e.State)
	case *ipc.Consume:
		return s.consume(e.ID, m)
	case *ipc.Wake:
		if st := s.streamNamed(m.Stream); st != nil {
			st.wake(s)
		}
		return nil
	case *ipc.StreamEnd:
		s.streamEnd(m)
		return nil
	}
	return fmt.Errorf("a step may not send %s", e.Message.Type())
}

// forwarded returns the step that a step which ended well goes on to, or nil.
func (s *session) forwarded() (*stage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forwardedLocked()
}

func (s *session) forwardedLocked() (*stage, error) {
	if s.forward == "" {
		return nil, nil
	}
	step := s.run.program.plan.Step(s.forward)
	if step == nil {
		return nil, s.unknown("ForwardError", "forwards to", s.forward)
	}
	return s.run.program.stages[step.Index], nil
}

func (s *session) unknown(name, does, step string) *StepError {
	return &StepError{Run: s.run.ID, Step: s.stage.step.ID, Status: StatusFail, Name: name,
		Message: fmt.Sprintf("step %q %s %q, but the workflow has no such step", s.stage.step.ID, does, step)}
}

// refuse answers a request with a failure.
func (s *session) refuse(id uint64, err error) {
	// A channel that is broken ends the step.
	_ = s.x.Send(s.refusal(id, err))
}

// refusePosted is refuse for where messages are handled, for answers that stand
// in order with others posted.
func (s *session) refusePosted(id uint64, err error) { s.x.Post(s.refusal(id, err)) }

func (s *session) refusal(id uint64, err error) *ipc.Envelope {
	e := s.run.stepError(s.stage.step.ID, err)
	return &ipc.Envelope{ID: id, Message: &ipc.Fail{Severity: ipc.Severity(e.Status), Name: e.Name, Message: e.Message, Details: string(e.Details)}}
}

// lend has the goroutine that waits for the step run f, or another one when that
// has something to do. mu is held, and the step is at work.
//
// f calls back before it sends its answer, after which it only returns. The
// step's next call may then be lent to the same goroutine.
func (s *session) lend(f func(back func())) {
	if !s.helping.CompareAndSwap(false, true) {
		s.work.Go(func() { f(func() {}) })
		return
	}
	s.lent <- func() {
		f(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.helping.Store(false)
			if !s.ended { // then nobody goes back to waiting
				s.x.Attend()
			}
		})
	}
}

// publish enters what came with a request, and reports whether the session holds
// it now. If not, the step was told why, or the error is a breach.
func (s *session) publish(id uint64, blocks []shm.Block, t ipc.Table) (bool, error) {
	err := s.x.Publish(s.run.account, blocks, t)
	var budget *ledger.BudgetError
	if errors.As(err, &budget) { // the step is to hear that
		s.refusePosted(id, err)
		return false, nil
	}
	return err == nil, err
}
