package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Peer matches replies with requests over a [Channel]. One goroutine runs
// Serve; any number make Calls, and their replies may come in any order.
type Peer struct {
	*Channel

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan<- reply
	err     error // why Serve ended
	done    chan struct{}
}

type reply struct {
	envelope *Envelope
	err      error
}

// NewPeer returns a Peer over c, whose handshake is over.
func NewPeer(c *Channel) *Peer {
	return &Peer{Channel: c, waiting: make(map[uint64]chan<- reply), done: make(chan struct{})}
}

// Done is closed when Serve has ended.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Err returns why Serve ended; nil while it runs.
func (p *Peer) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Serve receives until the channel fails, gives replies (done, fail, pong) to
// the calls that wait for them and everything else to handle, which must not
// block for long and owns the envelope's File. A reply that no call waits for
// is dropped when its call was cancelled; handle returning an error ends
// Serve. It closes the channel and returns the error, never nil.
func (p *Peer) Serve(handle func(*Envelope) error) error {
	err := p.serve(handle)
	p.mu.Lock()
	p.err = err
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, ch := range waiting {
		ch <- reply{err: err}
	}
	if cerr := p.Channel.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	close(p.done)
	return err
}

func (p *Peer) serve(handle func(*Envelope) error) error {
	for {
		e, err := p.Receive()
		if err != nil {
			return err
		}
		switch e.Message.(type) {
		case *Done, *Fail, *Pong:
			if err := p.deliver(e); err != nil {
				return err
			}
		default:
			if err := handle(e); err != nil {
				if e.File != nil {
					e.File.Close()
				}
				return err
			}
		}
	}
}

func (p *Peer) deliver(e *Envelope) error {
	if e.File != nil {
		e.File.Close()
		return protocolErrorf("%s brings a descriptor", e.Message.Type())
	}
	p.mu.Lock()
	ch, ok := p.waiting[e.ID]
	delete(p.waiting, e.ID)
	known := e.ID != 0 && e.ID <= p.nextID
	p.mu.Unlock()
	switch {
	case ok:
		ch <- reply{envelope: e}
	case !known:
		return protocolErrorf("%s answers request %d, which was never made", e.Message.Type(), e.ID)
	default:
		return protocolErrorf("%s answers request %d, which was answered before", e.Message.Type(), e.ID)
	}
	return nil
}

// Request is a call that has been sent.
type Request struct {
	// ID is the request's id on the wire.
	ID    uint64
	peer  *Peer
	reply chan reply
}

// Start sends a request, its id filled in, and returns without waiting for the
// reply. register, if not nil, is called with the id before anything is sent,
// so that messages about the request can be told apart from the first one on.
func (p *Peer) Start(e *Envelope, register func(id uint64)) (*Request, error) {
	ch := make(chan reply, 1)
	p.mu.Lock()
	if p.waiting == nil {
		err := p.err
		p.mu.Unlock()
		return nil, err
	}
	p.nextID++
	id := p.nextID
	p.waiting[id] = ch
	p.mu.Unlock()
	if register != nil {
		register(id)
	}
	e.ID = id
	if err := p.Send(e); err != nil {
		p.mu.Lock()
		delete(p.waiting, id)
		p.mu.Unlock()
		return nil, err
	}
	return &Request{ID: id, peer: p, reply: ch}, nil
}

// Wait returns the reply. When ctx ends first it sends a cancel and returns
// ctx's error; Wait may then be called again for the reply that is still owed.
func (r *Request) Wait(ctx context.Context) (*Envelope, error) {
	select {
	case got := <-r.reply:
		return got.envelope, got.err
	case <-ctx.Done():
	}
	// A reply that is already here wins over the cancellation.
	select {
	case got := <-r.reply:
		return got.envelope, got.err
	default:
	}
	reason := fmt.Sprint(context.Cause(ctx))
	if err := r.peer.Send(&Envelope{ID: r.ID, Message: &Cancel{Reason: reason}}); err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	return nil, ctx.Err()
}

// Call is Start and Wait. A Fail is returned like any reply.
func (p *Peer) Call(ctx context.Context, e *Envelope) (*Envelope, error) {
	r, err := p.Start(e, nil)
	if err != nil {
		return nil, err
	}
	return r.Wait(ctx)
}
