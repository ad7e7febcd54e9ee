package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Peer matches replies with requests over a [Channel]. One goroutine runs
// Serve; any number make Calls, and their replies may come in any order.
//
// Close may be called at any time: Serve returns ErrClosed then.
type Peer struct {
	*Channel

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]pending // nil once Serve has ended
	err     error              // why Serve ended
	done    chan struct{}
}

// pending is a request that was sent and not answered.
type pending struct {
	typ   Type
	reply chan<- reply // has room for the one reply
}

// answeredBy reports whether a reply of type t may answer the request.
func (p pending) answeredBy(t Type) bool {
	if p.typ == TypePing {
		return t == TypePong
	}
	return t == TypeDone || t == TypeFail
}

type reply struct {
	envelope *Envelope
	err      error
}

// NewPeer returns a Peer over c, whose handshake is over.
func NewPeer(c *Channel) *Peer {
	return &Peer{Channel: c, waiting: make(map[uint64]pending), done: make(chan struct{})}
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
// the calls that wait for them and everything else to handle. handle must not
// block for long, for replies wait behind it, and owns the envelope's File
// unless it returns an error, which ends Serve. A reply to a request that was
// never made, that was answered before, or of a type that does not answer it
// ends Serve too: it is a breach of the protocol. The late reply to a cancelled
// call is none.
//
// Serve closes the channel and returns why it ended, never nil.
func (p *Peer) Serve(handle func(*Envelope) error) error {
	err := p.serve(handle)
	p.mu.Lock()
	p.err = err
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, r := range waiting {
		r.reply <- reply{err: err}
	}
	if cerr := p.Channel.Close(); cerr != nil {
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
		switch e.Message.Type() {
		case TypeDone, TypeFail, TypePong:
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
	typ := e.Message.Type()
	p.mu.Lock()
	r, ok := p.waiting[e.ID]
	fits := ok && r.answeredBy(typ)
	if fits {
		delete(p.waiting, e.ID)
	}
	made := e.ID != 0 && e.ID <= p.nextID
	p.mu.Unlock()
	switch {
	case fits:
		r.reply <- reply{envelope: e}
		return nil
	case ok:
		return protocolErrorf("%s answers request %d, which was %s", typ, e.ID, r.typ)
	case made:
		return protocolErrorf("%s answers request %d, which was answered before", typ, e.ID)
	}
	return protocolErrorf("%s answers request %d, which was never made", typ, e.ID)
}

// Request is a call that has been sent.
type Request struct {
	// ID is the request's id on the wire.
	ID        uint64
	peer      *Peer
	reply     chan reply
	cancelled bool
}

// Start sends a request, its id filled in, and returns without waiting for the
// reply. register, if not nil, is called with the id before anything is sent,
// so that messages about the request can be told apart from the first one on.
// Once Serve has ended, Start returns the reason; otherwise its errors are
// Send's.
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
	p.waiting[id] = pending{typ: e.Message.Type(), reply: ch}
	p.mu.Unlock()
	if register != nil {
		register(id)
	}
	e.ID = id
	if err := p.Send(e); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, id)
		if p.err != nil && errors.Is(err, ErrClosed) {
			err = p.err // Serve closed the channel; this is why
		}
		return nil, err
	}
	return &Request{ID: id, peer: p, reply: ch}, nil
}

// Wait returns the reply, or why Serve ended without it. When ctx ends first it
// sends a cancel (once) and returns ctx's error; Wait may then be called again
// for the reply that is still owed. One goroutine waits at a time.
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
	if r.cancelled {
		return nil, ctx.Err()
	}
	r.cancelled = true
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
