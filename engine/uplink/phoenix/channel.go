package phoenix

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"
)

type channelState int

const (
	idle    channelState = iota // never joined, or its join failed
	joining                     // to be joined, on its way, or waiting to try again
	joined
	ended
)

// Channel is one topic on a socket. Its methods may be called from any
// goroutine.
type Channel struct {
	s     *Socket
	topic string
	join  func() ([]byte, error)

	// Under Socket.mu:
	state     channelState
	joinRef   string
	joinPush  *push
	retry     *time.Timer
	refused   int     // rejoins in a row
	was       bool    // joined before: rejoin by itself
	queue     []*push // in the order made, until acknowledged
	scheduled bool    // in Socket.ready
	err       error   // once ended
	handlers  map[string]func(json.RawMessage)
	onClose   func(error)
}

// Channel returns the topic's channel, to be joined. join makes the payload of
// each join afresh; nil means {}. There is one channel a topic: asking again
// returns the same one until Leave or a close.
func (s *Socket) Channel(topic string, join func() ([]byte, error)) *Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.channels[topic]; c != nil {
		return c
	}
	if join == nil {
		join = func() ([]byte, error) { return []byte("{}"), nil }
	}
	c := &Channel{s: s, topic: topic, join: join, handlers: map[string]func(json.RawMessage){}}
	if s.closed {
		c.state, c.err = ended, ErrClosed
		return c
	}
	s.channels[topic] = c
	return c
}

// Join joins and returns the server's response. From then on the channel
// rejoins by itself. Errors: *ReplyError when the server refuses, *TimeoutError,
// the context's.
func (c *Channel) Join(ctx context.Context) (json.RawMessage, error) {
	s := c.s
	s.mu.Lock()
	switch c.state {
	case ended:
		s.mu.Unlock()
		return nil, c.err
	case joined:
		s.mu.Unlock()
		return nil, nil
	case idle:
		c.state = joining
		c.startJoin()
	}
	p := c.joinPush
	s.mu.Unlock()
	if p == nil {
		return nil, &ClosedError{Topic: c.topic, Err: errors.New("it is being rejoined")}
	}
	reply, err := s.wait(ctx, p)
	if err != nil {
		return nil, err
	}
	return reply.Response, nil
}

// startJoin queues a join, where there is a connection: each new one begins
// with it. Called with Socket.mu held, in state joining.
func (c *Channel) startJoin() {
	if c.joinPush == nil {
		c.joinPush = newPush(nil, c.topic, "phx_join", joinPayload{c.join}, PushOptions{})
		c.joinPush.joins = c
	}
	if c.s.conn != nil {
		c.s.control = append(c.s.control, c.joinPush)
		c.s.kick()
	}
}

// joinPayload is made when it is written.
type joinPayload struct{ make func() ([]byte, error) }

// WriteJSON implements Payload.
func (j joinPayload) WriteJSON(w io.Writer) error {
	b, err := j.make()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// joinDone follows a join's end. Called with Socket.mu held.
func (c *Channel) joinDone(p *push) {
	if c.joinPush != p || c.state != joining {
		return
	}
	s := c.s
	c.joinPush = nil
	switch {
	case p.err == nil:
		c.state, c.was, c.refused = joined, true, 0
		c.schedule()
	case !c.was:
		c.state = idle
	default:
		var refusal *ReplyError
		if errors.As(p.err, &refusal) {
			c.refused++
			if s.opts.RejoinAttempts >= 0 && c.refused > s.opts.RejoinAttempts {
				c.end(&ClosedError{Topic: c.topic, Err: p.err}, true)
				return
			}
		}
		s.opts.Logger.Warn("a channel could not be rejoined", "topic", c.topic, "error", p.err)
		c.rejoinLater()
	}
}

// rejoinLater backs off before the next join. Called with Socket.mu held.
func (c *Channel) rejoinLater() {
	s := c.s
	c.state, c.joinPush = joining, nil
	c.retry = time.AfterFunc(s.backoff(c.refused+1), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.state == joining && c.joinPush == nil {
			c.startJoin()
		}
	})
}

// lost makes pushes ready to be sent again and the channel to be joined again.
// Called with Socket.mu held.
func (c *Channel) lost(cause error) {
	for _, p := range slices.Clone(c.queue) {
		if p.sent {
			c.s.unsend(p, cause)
		}
	}
	if c.state == joined {
		c.state = joining
	}
}

// end closes the channel for good. Called with Socket.mu held.
func (c *Channel) end(err error, tell bool) {
	if c.state == ended {
		return
	}
	s := c.s
	c.state, c.err = ended, err
	if c.retry != nil {
		c.retry.Stop()
	}
	if s.channels[c.topic] == c {
		delete(s.channels, c.topic)
	}
	for _, p := range slices.Clone(c.queue) {
		s.finish(p, nil, err)
	}
	if p := c.joinPush; p != nil {
		c.joinPush = nil
		s.finish(p, nil, err)
	}
	if f := c.onClose; tell && f != nil {
		c.onClose = nil
		s.later = append(s.later, func() { f(err) })
	}
}

// remove takes a push that is done off the queue. Called with Socket.mu held.
func (c *Channel) remove(p *push) {
	if i := slices.Index(c.queue, p); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
		<-c.s.slots
	}
}

// nextPush returns the first push that was not sent. Called with Socket.mu
// held.
func (c *Channel) nextPush() *push {
	for _, p := range c.queue {
		if !p.sent {
			return p
		}
	}
	return nil
}

// schedule lets the writer know that there is something to send. Called with
// Socket.mu held.
func (c *Channel) schedule() {
	if c.state == joined && !c.scheduled && c.nextPush() != nil {
		c.scheduled = true
		c.s.ready = append(c.s.ready, c)
		c.s.kick()
	}
}

// Push sends an event and waits for the acknowledgement. It blocks while the
// outbox is full, there is no connection, or the server does not read; ctx
// ends the waiting. A push whose context ends while it is being written is
// written to its end, and Push returns only then. Errors: *ReplyError,
// *TimeoutError, *SizeError, *FormatError, *TooBigError, *ClosedError,
// ErrDisconnected, ErrNotJoined, ErrClosed, the context's and the payload's.
func (c *Channel) Push(ctx context.Context, event string, p Payload, opts PushOptions) (*Reply, error) {
	s := c.s
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.stop:
		return nil, ErrClosed
	}
	out := newPush(c, c.topic, event, p, opts)
	s.mu.Lock()
	var err error
	switch c.state {
	case idle:
		err = ErrNotJoined
	case ended:
		err = c.err
	}
	if err != nil {
		s.mu.Unlock()
		<-s.slots
		return nil, err
	}
	c.queue = append(c.queue, out)
	c.schedule()
	s.mu.Unlock()
	return s.wait(ctx, out)
}

// On calls f for each message of the event that the server sends on this
// channel, in order, from the goroutine that reads from the socket: f must not
// block, nor call Push. It replaces an earlier f; nil removes it.
func (c *Channel) On(event string, f func(payload json.RawMessage)) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if f == nil {
		delete(c.handlers, event)
		return
	}
	c.handlers[event] = f
}

// OnClose calls f, once, when the channel ends other than by Leave or Close:
// the server closed it, or refused to let it rejoin. The rules are those of On.
func (c *Channel) OnClose(f func(error)) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.onClose = f
}

// Leave tells the server, waits for its answer and ends the channel: pushes
// that still wait fail with *ClosedError. Without a connection nothing is sent.
func (c *Channel) Leave(ctx context.Context) error {
	s := c.s
	s.mu.Lock()
	if c.state == ended {
		s.mu.Unlock()
		return nil
	}
	tell := c.state == joined && s.conn != nil
	p := newPush(nil, c.topic, "phx_leave", Raw(json.RawMessage("{}")), PushOptions{})
	p.joinRef = c.joinRef
	c.end(&ClosedError{Topic: c.topic, Err: errors.New("it was left")}, false)
	if tell {
		s.control = append(s.control, p)
		s.kick()
	}
	s.mu.Unlock()
	if !tell {
		return nil
	}
	_, err := s.wait(ctx, p)
	if errors.Is(err, ErrDisconnected) || errors.Is(err, ErrClosed) {
		return nil // the connection took the channel with it
	}
	return err
}
