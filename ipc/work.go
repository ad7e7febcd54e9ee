package ipc

import "runtime"

// Next is Serve, piece by piece, for a side that works on what it is sent: it
// handles messages until an execute comes, and returns that one. The goroutine
// that called it is to work on it, and then to call Next again. While it works
// nobody receives, but for those who Help; where that will not do, another
// goroutine may call Next meanwhile, and the one that works then does not.
//
// handle is Serve's; when Help comes upon an execute, handle gets that too.
// spin says whether it is worth looking for the next message for a while.
// Next's errors are Serve's; the caller ends with Stop.
func (p *Peer) Next(handle func(*Envelope) error, spin func() bool) (*Envelope, error) {
	p.reading.Lock()
	defer p.reading.Unlock()
	for {
		e, err := p.next(handle, spin)
		if e != nil || err != nil {
			return e, err
		}
		if err := p.rest(wakeReceiver); err != nil {
			return nil, hangUp(err)
		}
	}
}

// next returns the next execute, or nil when it is time to rest.
func (p *Peer) next(handle func(*Envelope) error, spin func() bool) (*Envelope, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	p.handle, p.away = handle, false
	for handled := false; ; {
		e, err := p.poll(spin())
		switch {
		case err != nil:
			return nil, err
		case e != nil && e.Message.Type() == TypeExecute:
			p.away = true
			return e, nil
		case e != nil:
			if err := p.dispatch(e); err != nil {
				return nil, err
			}
			handled = true
		case handled:
			handled = false
			runtime.Gosched() // as drain does
		case p.arm(wakeReceiver):
			return nil, nil
		}
	}
}
