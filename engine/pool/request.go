package pool

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// request hands on what the step that runs asks for.
func (x *Executor) request(e *ipc.Envelope) error {
	needs := ipc.CapabilityStreams
	switch e.Message.(type) {
	case *ipc.Call, *ipc.Cancel, *ipc.Forget, *ipc.Forward:
		needs = ipc.CapabilityCalls
	}
	if !slices.Contains(x.hello.Capabilities, needs) {
		return fmt.Errorf("%s from an executor without the capability %q", e.Message.Type(), needs)
	}
	if task := x.task.Load(); task != nil {
		return task.take(e)
	}
	return x.refuse(e)
}

// refuse answers what code asks for that goes on after its step was answered. It
// must get an answer, or it waits for ever.
func (x *Executor) refuse(e *ipc.Envelope) error {
	switch e.Message.(type) {
	case *ipc.Call, *ipc.Stream, *ipc.Consume:
		return x.peer.Send(&ipc.Envelope{ID: e.ID, Message: &ipc.Fail{
			Severity: ipc.SeverityCancel, Name: "CancelError",
			Message: fmt.Sprintf("%s outside of a step: the step that asked has ended", e.Message.Type()),
		}})
	}
	return nil // it crossed the end of the step
}

// Publish enters blocks and a table that came with a request of the step, as
// ledger.Account.Publish does. A *ledger.BudgetError is for the step to hear,
// any other is a breach.
func (x *Executor) Publish(a *ledger.Account, blocks []shm.Block, t ipc.Table) error {
	_, err := a.Publish(x.owner, blocks, t)
	if errors.Is(err, ledger.ErrOwnerGone) {
		return ipc.ErrHangUp
	}
	return err
}

// Send sends an answer to a request of the step, and before it the segments
// that its table refers to. The table is held by the caller until it is
// answered for by the executor. A File stays the caller's. After an
// *ipc.FrameSizeError or *ipc.MessageError nothing was sent; after any other
// error the executor is lost.
func (x *Executor) Send(e *ipc.Envelope) error {
	x.outbound.Lock()
	defer x.outbound.Unlock()
	defer x.tell()
	if err := x.sendBefore(e.State); err != nil {
		return err
	}
	return x.peer.Send(e)
}

// sendBefore sends what goes ahead of a message with a table: what is owed, and
// the segments that the executor lacks. It is called with outbound held.
func (x *Executor) sendBefore(t ipc.Table) error {
	if err := x.sendOwed(); err != nil {
		return err
	}
	return x.attach(t)
}

// Attend is called by a function of Task.Work that is about to return, before it
// sends what the step waits for: the step's next request is then left to the
// goroutine that goes back to waiting for it.
func (x *Executor) Attend() { x.peer.Attend() }

// attach hands over the segments of the table that the executor lacks.
func (x *Executor) attach(t ipc.Table) error {
	for _, s := range x.owner.Missing(t) {
		if err := x.peer.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: s.ID(), Size: uint64(s.Size())}, File: s.File()}); err != nil {
			return err
		}
	}
	return nil
}

// maxPosts is how many posted messages an executor may leave unread.
const maxPosts = 4096

// Post sends a message to the step soon, after those posted before. It never
// waits: it is called where another executor's messages are handled, which must
// not depend on how fast this one reads. It takes e.File over. An executor that
// does not read what is posted to it is ended.
func (x *Executor) Post(e *ipc.Envelope) {
	if !x.posts.add(e) {
		x.fail(fmt.Errorf("it asks faster than it reads the answers: %d messages are waiting for it", maxPosts))
	}
	x.nudge()
}

// posts are messages that are to be sent.
type posts struct {
	mu     sync.Mutex
	queue  []*ipc.Envelope
	closed bool
}

// add reports whether there was room.
func (p *posts) add(e *ipc.Envelope) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.queue) == maxPosts {
		closeFile(e)
		return p.closed
	}
	// A wake says to look again, which nobody does twice for what is already there.
	if m, ok := e.Message.(*ipc.Wake); ok && slices.ContainsFunc(p.queue, func(q *ipc.Envelope) bool {
		other, ok := q.Message.(*ipc.Wake)
		return ok && other.Stream == m.Stream
	}) {
		return true
	}
	p.queue = append(p.queue, e)
	return true
}

// take returns what was posted. After a last one nothing is taken in any more.
func (p *posts) take(last bool) []*ipc.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	queue := p.queue
	p.queue, p.closed = nil, p.closed || last
	return queue
}

func closeFile(e *ipc.Envelope) {
	if e.File != nil {
		_ = e.File.Close() // a descriptor that was sent, or never will be
	}
}

// sendPosts is called with outbound held.
func (x *Executor) sendPosts() error {
	var failed error
	for _, e := range x.posts.take(false) {
		if failed == nil {
			failed = x.peer.Put(e)
		}
		closeFile(e)
	}
	return failed
}
