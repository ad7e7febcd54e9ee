package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/millrace/millrace/ipc"
)

// call is a call that was made, until its result is forgotten.
type call struct {
	step *step
	name string
	id   uint64

	// The answer: envelope or err, set once, before done is closed. answered
	// is for those who look often.
	envelope *ipc.Envelope
	err      error
	claimed  atomic.Bool // somebody sets the answer
	answered atomic.Bool
	done     chan struct{}
	notify   func(*call) // called then, if not nil; must not block

	// Guarded by the step's mu.
	pins      int  // what states of the step refer to: of the result, or a block the call published
	closed    bool // the result is not read any more, or not waited for
	forgotten bool
}

func newCall(st *step, name string) *call {
	return &call{step: st, name: name, done: make(chan struct{})}
}

// start sends the call.
func (c *call) start(arg *State, o CallOptions) error {
	st := c.step
	if !st.executor.calls {
		return ErrNoCalls
	}
	if o.Until == "" {
		o.Until = Step
	}
	// One at a time: what one call publishes must be known to the supervisor
	// before another refers to it, and nothing follows the step's answer.
	st.sending.Lock()
	defer st.sending.Unlock()
	table, blocks, held, err := c.prepare(arg)
	if err != nil {
		return err
	}
	m := &ipc.Call{Step: c.name, Until: o.Until, Timeout: o.Timeout, Blocks: refsOf(blocks)}
	_, err = st.executor.peer.StartFunc(&ipc.Envelope{Message: m, State: table}, func(id uint64) { c.id = id }, c.take)
	st.mu.Lock()
	defer st.unlock()
	if err != nil {
		delete(st.underWay, c)
		err = fmt.Errorf("call %q: %w", c.name, err)
	}
	return sent(err, blocks, held)
}

// sent gives up the holds on what a message referred to, and takes back what it
// would have published if sending failed.
func sent(err error, blocks []*block, held []holds) error {
	if err != nil {
		for _, b := range blocks {
			err = errors.Join(err, b.unlend())
		}
	}
	for i := range held {
		err = errors.Join(err, held[i].drop())
	}
	return err
}

// prepare returns what the message refers to, and marks as published what it
// publishes. The holds on it are to be dropped once the message is sent. An
// argument which is no other's is used up.
func (c *call) prepare(arg *State) (table ipc.Table, blocks []*block, held []holds, err error) {
	st := c.step
	st.mu.Lock()
	defer st.unlock()
	table.Kind = Object
	if st.over {
		return table, nil, nil, errOver
	}
	if len(st.underWay) >= MaxCalls {
		return table, nil, nil, &TooManyCallsError{Limit: MaxCalls}
	}
	if arg != nil {
		if table, blocks, held, err = c.lendAll(arg); err != nil {
			return table, nil, nil, err
		}
	}
	if st.underWay == nil {
		st.underWay = make(map[*call]struct{})
	}
	st.underWay[c] = struct{}{}
	return table, blocks, held, nil
}

// lendAll returns what a message with arg's rows refers to, with holds on it,
// and lends c the blocks that the message publishes.
func (c *call) lendAll(arg *State) (table ipc.Table, blocks []*block, held []holds, err error) {
	if table, held, err = arg.argument(); err != nil {
		return table, nil, nil, err
	}
	blocks = publishing(held)
	for _, b := range blocks {
		b.lend(c)
	}
	return table, blocks, held, nil
}

// argument returns what a call gets, with holds on it.
func (s *State) argument() (table ipc.Table, held []holds, err error) {
	if err := s.usable(""); err != nil {
		return table, nil, err
	}
	for w := range s.open {
		return table, nil, &KeyError{Key: w.key, Err: errNotClosed}
	}
	if err := s.settle(); err != nil {
		return table, nil, err
	}
	table = ipc.Table{Kind: s.table.Kind, Rows: s.liveRows()}
	_, ours := s.step.forks[s]
	switch {
	case ours: // nobody else's
		held, s.held, s.ropes, s.spent = s.held, nil, nil, true
		delete(s.step.forks, s)
	case s.source != nil:
		held = []holds{holdsOf(s.source)}
		held[0].hold()
	case s.held != nil:
		held = make([]holds, len(s.held))
		for i := range held {
			held[i] = s.holdRow(i)
		}
	}
	return table, held, nil
}

// take is given the answer by whoever receives messages.
func (c *call) take(e *ipc.Envelope, err error) {
	if e != nil && e.File != nil {
		e.File.Close()
	}
	st := c.step
	st.mu.Lock()
	delete(st.underWay, c)
	c.resolve(e, err)
	c.settle() // nobody may be waiting any more
	st.unlock()
}

// resolve sets the answer; the first one counts.
func (c *call) resolve(e *ipc.Envelope, err error) {
	if !c.claimed.CompareAndSwap(false, true) {
		return
	}
	c.envelope, c.err = e, err
	c.answered.Store(true)
	close(c.done)
	if c.notify != nil {
		c.notify(c)
	}
}

// wait returns when the call is answered, or has been cancelled because ctx or
// the step ended.
func (c *call) wait(ctx context.Context) error {
	st := c.step
	st.await(ctx, func() bool { return c.answered.Load() }, c.done)
	if c.answered.Load() {
		return nil
	}
	cause := context.Cause(ctx)
	if cause == nil {
		cause = st.ctx.Err()
	}
	c.cancel(cause)
	return fmt.Errorf("call %q: %w", c.name, cause)
}

// await returns when ready reports true, or ctx or the step has ended. signal
// is closed or sent to when ready may have changed.
func (st *step) await(ctx context.Context, ready func() bool, signal <-chan struct{}) {
	if ready() {
		return
	}
	// What is received by the goroutine that waits for it costs no switch.
	st.executor.peer.Help(ready, ctx, &st.ctx)
	if ready() || ctx.Err() != nil || st.ctx.Err() != nil {
		return
	}
	st.handOver()
	select {
	case <-signal:
	case <-ctx.Done():
	case <-st.ctx.Done():
	}
}

// handOver has another goroutine receive, unless one does already: this one is
// about to block.
func (st *step) handOver() {
	if st.phase.CompareAndSwap(phaseInline, phaseTaken) {
		go st.executor.lead()
	}
}

// cancel gives the call up: it is not waited for any more.
func (c *call) cancel(cause error) {
	st := c.step
	st.mu.Lock()
	c.closed = true
	c.settle()
	send := !c.answered.Load() && !st.over // the step's answer cancels them all
	st.unlock()
	if !send {
		return
	}
	err := st.executor.channel.Send(&ipc.Envelope{ID: c.id, Message: &ipc.Cancel{Reason: fmt.Sprint(cause)}})
	if err != nil {
		st.executor.end(err)
	}
}

// close says that the result is not read any more.
func (c *call) close() {
	c.step.mu.Lock()
	defer c.step.unlock()
	c.closed = true
	c.settle()
}

func (c *call) hold() { c.pins++ }

func (c *call) drop() error {
	c.pins--
	c.settle()
	return nil
}

// settle forgets the call once nothing of it is needed.
func (c *call) settle() {
	if c.closed && c.pins == 0 && c.answered.Load() && !c.forgotten && !c.step.over {
		c.forgotten = true
		c.step.forgets = append(c.step.forgets, c.id)
	}
}

// reply makes the answer of it.
func (c *call) reply() (*Reply, error) {
	if c.err != nil {
		return nil, fmt.Errorf("call %q: %w", c.name, c.err)
	}
	switch m := c.envelope.Message.(type) {
	case *ipc.Result:
		r := &Reply{call: c, step: m.Step}
		r.state.init(c.step, c.envelope.State)
		r.state.source = c
		return r, nil
	case *ipc.Fail:
		c.close()
		return nil, &CallError{Step: c.name, Severity: m.Severity, Name: m.Name, Message: m.Message, Details: m.Details}
	}
	c.close()
	return nil, fmt.Errorf("call %q: the answer is %s", c.name, c.envelope.Message.Type())
}

// endCalls is called before the step is answered: no call is made any more, and
// those who wait for one are told. It returns how many were under way.
func (st *step) endCalls() (underWay int) {
	st.sending.Lock()
	defer st.sending.Unlock()
	st.mu.Lock()
	defer st.unlock()
	st.over = true
	underWay = len(st.underWay)
	for c := range st.underWay {
		c.closed = true
		c.resolve(nil, errOver)
	}
	clear(st.underWay)
	return underWay
}

var errEachEnded = errors.New("the loop over the results has ended")
