package testhost

import (
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// flow is what a host knows of the calls of an executor's steps.
type flow struct {
	onCall, inline func(*Executor, *Call)

	mu       sync.Mutex
	calls    map[uint64]*Call
	forwards map[uint64]string // by the execute's id
	made     int
}

// Call is one that a step has made. Answer or Refuse it.
type Call struct {
	*ipc.Call
	ID    uint64
	State ipc.Table
	// Cancelled is closed when the step has given the call up.
	Cancelled chan struct{}

	answered bool
	attached []shm.SegmentID // for its result
}

func (x *Executor) called(id uint64, m *ipc.Call, state ipc.Table) error {
	if x.flow.onCall == nil && x.flow.inline == nil {
		return x.breach(fmt.Errorf("a call of %q, which was not granted", m.Step))
	}
	if err := x.World.publish(x, m.Blocks, state); err != nil {
		return x.breach(fmt.Errorf("call %d: %w", id, err))
	}
	c := &Call{Call: m, ID: id, State: state, Cancelled: make(chan struct{})}
	if !x.flow.enter(c) {
		return x.breach(fmt.Errorf("call %d is under way already", id))
	}
	if x.flow.inline != nil {
		x.flow.answered(c, nil)
		x.flow.inline(x, c)
		return nil
	}
	go x.flow.onCall(x, c)
	return nil
}

func (f *flow) enter(c *Call) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = make(map[uint64]*Call)
	}
	if f.calls[c.ID] != nil {
		return false
	}
	f.calls[c.ID] = c
	f.made++
	return true
}

func (f *flow) answered(c *Call, attached []shm.SegmentID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.answered, c.attached = true, attached
}

func (x *Executor) cancelled(id uint64, reason string) error {
	x.flow.mu.Lock()
	defer x.flow.mu.Unlock()
	if c := x.flow.calls[id]; c != nil {
		select {
		case <-c.Cancelled:
			return x.breach(fmt.Errorf("call %d was cancelled twice (%s)", id, reason))
		default:
			close(c.Cancelled)
		}
	}
	return nil
}

// Answer sends a call's result.
func (x *Executor) Answer(c *Call, state ipc.Table) {
	attached, err := x.attach(state)
	x.flow.answered(c, attached)
	if err == nil {
		err = x.Send(&ipc.Envelope{ID: c.ID, Message: &ipc.Result{Step: c.Step}, State: state})
	}
	if err != nil && !errors.Is(err, ipc.ErrClosed) {
		_ = x.breach(err)
	}
}

// Refuse sends a call's failure.
func (x *Executor) Refuse(c *Call, f ipc.Fail) {
	x.flow.answered(c, nil)
	if err := x.Send(&ipc.Envelope{ID: c.ID, Message: &f}); err != nil && !errors.Is(err, ipc.ErrClosed) {
		_ = x.breach(err)
	}
}

// forget gives back at once all that was only kept for a call: what it
// published, and what its result was handed over for.
func (x *Executor) forget(ids []uint64) error {
	for _, id := range ids {
		x.flow.mu.Lock()
		c := x.flow.calls[id]
		delete(x.flow.calls, id)
		x.flow.mu.Unlock()
		if c == nil {
			return x.breach(fmt.Errorf("call %d is forgotten, and was not made, or forgotten before", id))
		}
		if !c.answered {
			return x.breach(fmt.Errorf("call %d is forgotten before its answer", id))
		}
		if err := x.giveBack(c); err != nil {
			return x.breach(err)
		}
	}
	return nil
}

func (x *Executor) giveBack(c *Call) error {
	w := x.World
	w.mu.Lock()
	for _, b := range c.Blocks {
		delete(w.segments[b.Segment].blocks, b.Offset)
	}
	for _, id := range c.attached {
		delete(w.segments[id].readers, x)
	}
	w.mu.Unlock()
	if len(c.Blocks) > 0 {
		if err := x.Send(&ipc.Envelope{Message: &ipc.Release{Blocks: c.Blocks}}); err != nil {
			return err
		}
	}
	if len(c.attached) > 0 {
		return x.Send(&ipc.Envelope{Message: &ipc.Detach{Segments: c.attached}})
	}
	return nil
}

// Remembered returns how many calls were made, and how many of them are not
// forgotten.
func (x *Executor) Remembered() (made, left int) {
	x.flow.mu.Lock()
	defer x.flow.mu.Unlock()
	return x.flow.made, len(x.flow.calls)
}

func (x *Executor) forward(id uint64, step string) error {
	x.flow.mu.Lock()
	defer x.flow.mu.Unlock()
	if x.flow.forwards == nil {
		x.flow.forwards = make(map[uint64]string)
	}
	x.flow.forwards[id] = step
	return nil
}

// Forwarded returns where a request's answer goes on to, "" for along the edges.
func (x *Executor) Forwarded(r *ipc.Request) string {
	x.flow.mu.Lock()
	defer x.flow.mu.Unlock()
	return x.flow.forwards[r.ID]
}
