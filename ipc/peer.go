package ipc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Peer matches replies with requests over a [Channel]. One goroutine runs
// Serve; any number make Calls, and their replies may come in any order.
//
// Close may be called at any time: Serve returns ErrClosed then. The Channel's
// Receive and SetReceiveDeadline are Serve's as long as it runs.
type Peer struct {
	*Channel

	turn   sync.Mutex            // held by whoever takes messages and handles them
	handle func(*Envelope) error // Serve's
	helped atomic.Bool           // others take messages too, so Serve need not spin
	away   bool                  // whoever calls Next is at work, so nobody sleeps; turn's

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]pending // nil once Serve has ended
	err     error              // why Serve ended
	done    chan struct{}
}

// pending is a request that was sent and not answered.
type pending struct {
	typ  Type
	take func(*Envelope, error) // is called once, and does not block
}

// answeredBy reports whether a reply of type t may answer the request.
func (p pending) answeredBy(t Type) bool {
	switch p.typ {
	case TypePing:
		return t == TypePong
	case TypeCall:
		return t == TypeResult || t == TypeFail
	case TypeStream, TypeConsume:
		return t == TypeStreamRing || t == TypeFail
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

// Serve receives until the channel fails, gives replies (done, fail, pong,
// result, stream-ring) to the calls that wait for them and everything else to
// handle.
//
// handle is called for one message at a time, in order, by Serve or by a
// goroutine that helps it (Help, Wait). It must not block for long, for
// everything waits behind it, nor wait for a reply. It owns the envelope's File
// unless it returns an error, which ends Serve.
//
// A reply to a request that was never made, that was answered before, or of a
// type that does not answer it ends Serve too: it is a breach of the protocol.
// The late reply to a cancelled call is none.
//
// Serve closes the channel and returns why it ended, never nil.
func (p *Peer) Serve(handle func(*Envelope) error) error {
	return p.Stop(p.serve(handle))
}

// Stop is what Serve ends with, for whoever calls Next instead, and called
// once: it has all who wait for replies know err, closes the channel and
// returns why it ended.
func (p *Peer) Stop(err error) error {
	p.mu.Lock()
	p.err = err
	waiting := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	for _, r := range waiting {
		r.take(nil, err)
	}
	if cerr := p.Channel.Close(); cerr != nil {
		err = errors.Join(err, cerr)
	}
	close(p.done)
	return err
}

func (p *Peer) serve(handle func(*Envelope) error) error {
	p.reading.Lock()
	defer p.reading.Unlock()
	p.turn.Lock()
	p.handle = handle
	p.turn.Unlock()
	for {
		if err := p.drain(); err != nil {
			return err
		}
		if err := p.rest(wakeReceiver); err != nil {
			return hangUp(err)
		}
	}
}

// drain takes and handles all that came, until it may rest.
func (p *Peer) drain() error {
	p.turn.Lock()
	defer p.turn.Unlock()
	handled := false
	for {
		took, err := p.handleNext(!handled && !p.helped.Load())
		switch {
		case err != nil:
			return err
		case took:
			handled = true
		case handled:
			// First those whom the messages were for; falling asleep takes a
			// while, and they may have the next message sent.
			handled = false
			runtime.Gosched()
		case p.arm(wakeReceiver):
			return nil
		}
	}
}

// maxExtraHelp bounds what Help handles once it may return: a peer that floods
// does not keep it.
const maxExtraHelp = 64

// Help takes and handles messages in Serve's place until one of them has made
// until report true or one of the contexts has ended; while none come it sleeps.
// Call it before blocking on something that a message brings: what is handled by
// the goroutine that waits for it costs no switch to it, which is most of a
// message's price while both sides are busy, and a good part of it when they
// sleep. until is called often and must be cheap. If it becomes true by anything
// but a message, Rouse tells.
//
// Help does nothing without a ring, or when another goroutine handles messages
// already. Errors are Serve's to return.
func (p *Peer) Help(until func() bool, ctxs ...context.Context) {
	if !p.UsesRing() {
		return
	}
	if !p.helped.Load() {
		p.helped.Store(true)
	}
	if !p.turn.TryLock() {
		return
	}
	defer p.turn.Unlock()
	if p.handle == nil {
		return // Serve has not begun
	}
	p.disarm()
	err := p.help(until, ctxs)
	// What is here already is handled here: having Serve woken for it costs more.
	took := true
	for n := 0; err == nil && took && n < maxExtraHelp; n++ {
		took, err = p.handleNext(false)
	}
	if err != nil {
		p.fail(err)
	}
	// Whoever called Next is at work, and looks when it comes back. Serve
	// sleeps: if something is left, nobody but this side would wake it.
	if !p.away && !p.arm(wakeReceiver) {
		p.rouse()
	}
}

// Attend says that the goroutine which calls it is about to Help: it spares Serve
// from being woken for what comes until then.
func (p *Peer) Attend() {
	if p.UsesRing() {
		p.disarm()
	}
}

// Rouse has a Help that sleeps ask again whether it may return.
func (p *Peer) Rouse() { p.rouse() }

func (p *Peer) help(until func() bool, ctxs []context.Context) error {
	over := func() bool {
		for _, ctx := range ctxs {
			if ctx.Err() != nil {
				return true
			}
		}
		return until()
	}
	watched := false
	for !over() {
		took, err := p.handleNext(true)
		switch {
		case err != nil:
			return err
		case took:
		case !watched: // most waits end before this
			watched = true
			for _, ctx := range ctxs {
				defer context.AfterFunc(ctx, p.Rouse)()
			}
		case p.arm(wakeHelper):
			if over() {
				return nil
			}
			_ = p.rest(wakeHelper) // has no deadline
		}
	}
	return nil
}

// handleNext handles the next message, if one is here, and reports whether one was;
// spin is poll's.
func (p *Peer) handleNext(spin bool) (bool, error) {
	e, err := p.poll(spin)
	if e == nil || err != nil {
		return false, err
	}
	return true, p.dispatch(e)
}

func (p *Peer) dispatch(e *Envelope) error {
	switch e.Message.Type() {
	case TypeDone, TypeFail, TypePong, TypeResult, TypeStreamRing:
		return p.deliver(e)
	}
	err := p.handle(e)
	if err != nil && e.File != nil {
		e.File.Close()
	}
	return err
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
		r.take(e, nil)
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
	cancelled atomic.Bool
}

// Start sends a request, its id filled in, and returns without waiting for the
// reply. register, if not nil, is called with the id before anything is sent,
// so that messages about the request can be told apart from the first one on.
// Once Serve has ended, Start returns the reason; otherwise its errors are
// Send's.
func (p *Peer) Start(e *Envelope, register func(id uint64)) (*Request, error) {
	return p.StartObserved(e, register, func() {})
}

// StartObserved is Start with a call of answered once the reply is here, by
// whoever handles messages: it may come while the goroutine that waits for it
// is at other work (WaitOr). answered must not block.
func (p *Peer) StartObserved(e *Envelope, register func(id uint64), answered func()) (*Request, error) {
	r := &Request{peer: p, reply: make(chan reply, 1)} // has room for the one reply
	id, err := p.StartFunc(e, register, func(e *Envelope, err error) {
		r.reply <- reply{e, err}
		answered()
	})
	if err != nil {
		return nil, err
	}
	r.ID = id
	return r, nil
}

// StartFunc is Start for those who do not wait for the reply: take is called
// with it, or with why Serve ended without one, once and by whoever handles
// messages. It must not block, and owns the envelope.
func (p *Peer) StartFunc(e *Envelope, register func(id uint64), take func(*Envelope, error)) (uint64, error) {
	p.mu.Lock()
	if p.waiting == nil {
		err := p.err
		p.mu.Unlock()
		return 0, err
	}
	p.nextID++
	id := p.nextID
	p.waiting[id] = pending{typ: e.Message.Type(), take: take}
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
		return 0, err
	}
	return id, nil
}

// Wait returns the reply, or why Serve ended without it. When ctx ends first it
// sends a cancel (once) and returns ctx's error; Wait may then be called again
// for the reply that is still owed. One goroutine waits at a time.
func (r *Request) Wait(ctx context.Context) (*Envelope, error) {
	e, _, err := r.WaitOr(ctx, nil)
	return e, err
}

// WaitOr is Wait for a goroutine that can be given work meanwhile: it returns
// what comes over work before the reply. Work that a message brings is done at
// the least cost by who waits for messages anyway.
func (r *Request) WaitOr(ctx context.Context, work <-chan func()) (*Envelope, func(), error) {
	r.peer.Help(func() bool { return len(r.reply) > 0 || len(work) > 0 }, ctx)
	select {
	case got := <-r.reply:
		return got.envelope, nil, got.err
	case f := <-work:
		return nil, f, nil
	case <-ctx.Done():
	}
	// A reply that is already here wins over the cancellation.
	select {
	case got := <-r.reply:
		return got.envelope, nil, got.err
	default:
	}
	return nil, nil, errors.Join(ctx.Err(), r.Cancel(ctx))
}

// Cancel sends a cancel for the cause with which ctx has ended, once. The reply
// is still owed.
func (r *Request) Cancel(ctx context.Context) error {
	if !r.cancelled.CompareAndSwap(false, true) {
		return nil
	}
	return r.peer.Send(&Envelope{ID: r.ID, Message: &Cancel{Reason: fmt.Sprint(context.Cause(ctx))}})
}

// Call is Start and Wait. A Fail is returned like any reply.
func (p *Peer) Call(ctx context.Context, e *Envelope) (*Envelope, error) {
	r, err := p.Start(e, nil)
	if err != nil {
		return nil, err
	}
	return r.Wait(ctx)
}
