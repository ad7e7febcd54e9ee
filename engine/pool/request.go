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
	task := x.task.Load()
	if task != nil && task.request != nil {
		return task.request(e)
	}
	switch e.Message.(type) {
	case *ipc.Call, *ipc.Stream, *ipc.Consume:
		// From code that goes on after its step was answered. It must get an
		// answer, or it waits for ever.
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
	if err := x.sendOwed(); err != nil {
		return err
	}
	if err := x.attach(e.State); err != nil {
		return err
	}
	return x.peer.Send(e)
}

// attach hands over the segments of the table that the executor lacks.
func (x *Executor) attach(t ipc.Table) error {
	for _, s := range x.owner.Missing(t) {
		if err := x.peer.Send(&ipc.Envelope{Message: &ipc.Attach{Segment: s.ID(), Size: uint64(s.Size())}, File: s.File()}); err != nil {
			return err
		}
	}
	return nil
}

// Wake sends a wake for the stream soon. It never waits: it is called where
// another executor's messages are handled, which must not depend on how fast
// this one reads.
func (x *Executor) Wake(stream shm.SegmentID) {
	x.wakes.add(stream)
	x.nudge()
}

// notices are wakes that are to be sent, each stream's once.
type notices struct {
	mu      sync.Mutex
	streams []shm.SegmentID
}

func (n *notices) add(id shm.SegmentID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.streams, id) {
		n.streams = append(n.streams, id)
	}
}

func (n *notices) take() []shm.SegmentID {
	n.mu.Lock()
	defer n.mu.Unlock()
	streams := n.streams
	n.streams = nil
	return streams
}

// sendNotices is called with outbound held.
func (x *Executor) sendNotices() error {
	for _, id := range x.wakes.take() {
		if err := x.peer.Send(&ipc.Envelope{Message: &ipc.Wake{Stream: id}}); err != nil {
			return err
		}
	}
	return nil
}
