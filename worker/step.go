package worker

import (
	"errors"
	"math"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// The phases of a step.
const (
	phaseInline = iota // it runs on the leader
	phaseTaken         // it runs on, another goroutine leads
	phaseOver
)

var errGoexit = errors.New("the function ended its goroutine (runtime.Goexit)")

// step is one execution.
type step struct {
	executor  *executor
	id        uint64
	message   *ipc.Execute
	ctx       stepContext
	state     State
	phase     atomic.Int32
	forwarded atomic.Bool // it has chosen where its state goes
	heldOnce  int64       // bytes that the executor held when the step began
	err       error

	// sending is held while a call or a stream is sent, and taken before mu.
	sending sync.Mutex
	// mu guards what the states of the step are made of, and what follows.
	mu               sync.Mutex
	over             bool // the function has returned
	forks            map[*State]struct{}
	blocks           []*block                     // the step's to free
	lent             map[shm.Block]*block         // published by a call, and still referred to
	glue             *block                       // of ropes
	underWay         map[*call]struct{}           // calls without an answer
	forgets          []uint64                     // to be sent by unlock
	streams          map[shm.SegmentID]streamUser // ends of streams that are open
	streamErr        error                        // why there is no stream although the state was handed over
	decoded, encoded uint64                       // bytes

	started, finished uint64

	logging sync.RWMutex // held for reading while a record is sent
	mute    bool         // the step is over; guarded by logging
}

// execute runs a step on this goroutine and answers, and then what was sent ahead
// to follow it. It clears leads when another goroutine has become the leader
// meanwhile.
func (x *executor) execute(e *ipc.Envelope, leads *bool) {
	if e.Message.(*ipc.Execute).After != 0 {
		now, why := x.latest.follow(e)
		if why != "" {
			x.leave(why, e)
		}
		e = now
	} else {
		x.latest.begin(e.ID)
	}
	for e != nil {
		e = x.run(e, leads)
	}
}

// run executes one step, and returns what is to follow it.
func (x *executor) run(e *ipc.Envelope, leads *bool) (next *ipc.Envelope) {
	m := e.Message.(*ipc.Execute)
	x.busy.Store(true)
	s := &step{executor: x, id: e.ID, message: m, heldOnce: x.held.Load(), err: errGoexit}
	s.ctx.step = s
	if !*leads {
		s.phase.Store(phaseTaken)
	}
	if m.Timeout > 0 {
		s.ctx.deadline = time.Now().Add(m.Timeout)
	}
	s.state.init(s, e.State)
	// From here on another goroutine may come to lead.
	if !x.current.CompareAndSwap(nil, s) {
		x.refuse(e.ID, "execute while another step runs")
		return nil
	}
	if reason := x.latest.isCancelled(e.ID); reason != nil {
		s.ctx.cancelFor(*reason)
	}
	x.running.Add(1)
	code := x.code(m.Code)
	x.limitHeap(m.MemoryLimit)
	x.limitBudget(m.Budget)
	x.watch.started()
	defer func() { next = s.finish(leads) }() // also when the function ends the goroutine
	if code.err != nil {
		s.err = code.err
		return nil
	}
	s.call(code.function)
	return nil
}

func (s *step) call(f Function) {
	defer func() {
		if p := recover(); p != nil {
			s.err = panicError(p, debug.Stack())
		}
	}()
	s.started = monotonic()
	s.err = f(&s.ctx, &s.state)
	s.finished = monotonic()
}

// finish answers the request. What the step wrote and its result does not use
// is freed first; after the answer the bytes of its input may go at any time. It
// returns what was sent ahead and is to be executed now.
func (s *step) finish(leads *bool) *ipc.Envelope {
	x := s.executor
	if s.finished == 0 {
		s.finished = monotonic()
	}
	if s.started == 0 {
		s.started = s.finished
	}
	reason, ended := s.ctx.ended()
	calls := s.endCalls()
	reply := &ipc.Envelope{ID: s.id}
	var done ipc.Done
	s.settleStreams()
	if s.err == nil {
		done.Started, done.Finished = s.started, s.finished
		s.err = s.state.result(reply, &done)
	}
	var failed *ipc.Fail
	if s.err != nil {
		s.state.abandon()
		failed = s.fail(s.err, ended, reason)
		*reply = ipc.Envelope{ID: s.id, Message: failed}
	}
	s.endStreams(failed)
	s.ctx.cancel(errStepOver)
	s.logging.Lock()
	s.mute = true
	s.logging.Unlock()

	// From here on this goroutine leads, or the one that took over does. The
	// next execute may come as soon as the answer is out.
	*leads = s.phase.CompareAndSwap(phaseInline, phaseOver)
	x.current.Store(nil)
	if !*leads {
		x.watch.endedTaken()
	}
	err := x.channel.Send(reply)
	if tooLarge := (*ipc.FrameSizeError)(nil); errors.As(err, &tooLarge) {
		s.state.abandon()
		failed = s.fail(err, nil, "")
		err = x.channel.Send(&ipc.Envelope{ID: s.id, Message: failed})
	}
	left := leftover{table: reply.State, published: shm.Length(done.Blocks)}
	switch {
	case failed != nil:
		left.open = "the step before it has failed"
	case s.forwarded.Load():
		left.open = "the step before it has chosen where to go on"
	case s.state.handed:
		left.open = "the step before it has handed its state over"
	case calls > 0:
		left.open = "the step before it has calls under way"
	case x.stopping.Load():
		left.open = "the executor is to stop"
	}
	next, never, why := x.latest.end(s.id, left)
	x.leave(why, never...)
	x.running.Add(-1)
	if err == nil && x.stopping.Load() {
		err = errShutdown
	}
	if err != nil {
		x.end(err)
		return nil
	}
	return next
}

// code returns what was prepared under a code.
func (x *executor) code(id uint64) prepared {
	x.codes.Lock()
	defer x.codes.Unlock()
	code, ok := x.prepared[id]
	if !ok {
		code.err = &Error{Name: "ProtocolError", Severity: ipc.SeverityException, Message: "the step's code was never prepared"}
	}
	return code
}

// refuse answers an execute that cannot be run.
func (x *executor) refuse(id uint64, why string) {
	err := x.channel.Send(&ipc.Envelope{ID: id, Message: &ipc.Fail{
		Severity: ipc.SeverityException, Name: "ProtocolError", Message: why,
	}})
	if err != nil {
		x.end(err)
	}
}

// limitBudget lets the step write so many bytes beyond what is held already.
// The supervisor's ledger has the last word on a run's budget; this keeps a
// step from writing far past it first.
func (x *executor) limitBudget(bytes uint64) {
	if bytes == 0 || bytes > math.MaxInt64/2 {
		x.arena.SetLimit(0)
		return
	}
	x.arena.SetLimit(x.held.Load() + int64(bytes))
}
