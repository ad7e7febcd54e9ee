package phoenix

import (
	"context"
	"time"
)

// push is a message on its way, until it is done. Its fields are under
// Socket.mu, but for those marked immutable.
type push struct {
	channel *Channel // immutable; nil for joins, leaves and heartbeats
	joins   *Channel // immutable; the channel that this joins
	topic   string   // immutable
	event   string   // immutable
	payload Payload  // immutable
	opts    PushOptions

	ref, joinRef string // of the last sending
	sent         bool   // written, or being written, on this connection
	partial      bool   // not, or not yet, to its end
	writing      bool   // the writer uses the payload
	sends        int
	size         int64 // of the message, once written
	timer        *time.Timer
	sink         *sink // where a reply goes that is arriving

	done  chan struct{}
	ended bool // done is closed; reply and err are set
	reply *Reply
	err   error
}

func newPush(c *Channel, topic, event string, p Payload, opts PushOptions) *push {
	return &push{channel: c, topic: topic, event: event, payload: p, opts: opts, done: make(chan struct{})}
}

// finish ends a push, once. Called with Socket.mu held.
func (s *Socket) finish(p *push, reply *Reply, err error) {
	if p.ended {
		return
	}
	p.ended, p.reply, p.err = true, reply, err
	if p.timer != nil {
		p.timer.Stop()
	}
	if s.pending[p.ref] == p {
		delete(s.pending, p.ref)
	}
	if p.channel != nil {
		p.channel.remove(p)
	}
	close(p.done)
	if p.joins != nil {
		p.joins.joinDone(p)
	}
}

// wait returns when the push is done, or gives it up when ctx ends. Then
// nobody uses its payload or its writer any more.
func (s *Socket) wait(ctx context.Context, p *push) (*Reply, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		s.mu.Lock()
		s.finish(p, nil, ctx.Err())
		s.mu.Unlock()
	}
	s.mu.Lock()
	for p.writing {
		s.idle.Wait()
	}
	out := p.sink
	s.mu.Unlock()
	if out != nil {
		out.Close()
	}
	return p.reply, p.err
}

// startTimer bounds the wait for the acknowledgement. Called with Socket.mu
// held, when p was written.
func (s *Socket) startTimer(p *push) {
	d := p.opts.Timeout
	if d == 0 {
		d = s.opts.ReplyTimeout
	}
	if d < 0 || p.ended {
		return
	}
	ref := p.ref
	p.timer = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.ref == ref && p.sent {
			s.finish(p, nil, &TimeoutError{Topic: p.topic, Event: p.event, Timeout: d})
		}
	})
}

// unsend makes a push that was on its way ready to be sent again, or ends it.
// Called with Socket.mu held, when its connection or channel was lost.
func (s *Socket) unsend(p *push, cause error) {
	written := p.sent && !p.partial
	delete(s.pending, p.ref)
	if p.timer != nil {
		p.timer.Stop()
	}
	p.sent = false
	switch {
	case s.opts.MaxSends > 0 && p.sends >= s.opts.MaxSends:
		s.finish(p, nil, &TooBigError{Topic: p.topic, Event: p.event, Size: p.size, Sends: p.sends, Err: cause})
	case written && !p.opts.Resend:
		s.finish(p, nil, ErrDisconnected)
	}
}
