package phoenix

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/coder/websocket"
)

// readBuffer is through how many bytes messages from the server pass.
const readBuffer = 64 << 10

// receive reads messages until the connection breaks.
func (s *Socket) receive(conn *connection) {
	in := bufio.NewReaderSize(nil, readBuffer)
	for {
		kind, r, err := conn.ws.Reader(context.Background())
		if err != nil {
			s.fail(conn, err)
			return
		}
		in.Reset(r)
		s.setReading(true)
		if kind == websocket.MessageBinary {
			err = s.binary(in)
		} else {
			err = s.text(scanner{in})
		}
		if errors.Is(err, errFormat) || errors.As(err, new(*tooLarge)) {
			s.garbage(err)
		}
		// What is left is of no interest. An error shows again at the next
		// message.
		_, _ = io.Copy(io.Discard, in)
		s.setReading(false)
		s.callLater()
	}
}

func (s *Socket) setReading(on bool) {
	s.mu.Lock()
	s.reading = on
	s.mu.Unlock()
}

func (s *Socket) garbage(err error) {
	s.mu.Lock()
	s.stats.Garbage++
	s.mu.Unlock()
	s.opts.Logger.Warn("skipped a message from the server", "error", err)
}

// envelope is what stands before a payload.
type envelope struct{ joinRef, ref, topic, event string }

// text handles [join_ref, ref, topic, event, payload]. What the server adds
// after the payload is ignored.
func (s *Socket) text(in scanner) error {
	var e envelope
	before := byte('[')
	for _, field := range [...]*string{&e.joinRef, &e.ref, &e.topic, &e.event} {
		if err := in.expect(before); err != nil {
			return err
		}
		var err error
		if *field, err = in.name(); err != nil {
			return err
		}
		before = ','
	}
	if err := in.expect(','); err != nil {
		return err
	}
	ref, old := strings.CutPrefix(e.event, "chan_reply_")
	if !old && e.event != "phx_reply" {
		payload, err := in.value(s.opts.MaxReply)
		if err != nil {
			return err
		}
		if !json.Valid(payload) {
			return fmt.Errorf("%w: the payload of %.40q is not valid JSON", errFormat, e.event)
		}
		s.dispatch(e, payload)
		return nil
	}
	if old {
		e.ref = ref
	}
	p := s.match(e)
	if p == nil {
		return nil
	}
	status, reply, err := s.body(in, p)
	return s.replied(p, status, reply, err)
}

// match finds the push that a reply is for.
func (s *Socket) match(e envelope) *push {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[e.ref]
	if p == nil || e.topic != "" && e.topic != p.topic {
		s.stats.Unmatched++
		s.opts.Logger.Debug("ignored a reply to nothing that waits", "topic", e.topic, "ref", e.ref)
		return nil
	}
	if p.timer != nil {
		p.timer.Stop() // it is here, however long it is
	}
	return p
}

// body reads {"status": …, "response": …}, in any order.
func (s *Socket) body(in scanner, p *push) (status string, reply *Reply, err error) {
	reply = &Reply{}
	if err := in.expect('{'); err != nil {
		return "", nil, err
	}
	for {
		key, err := in.name()
		if err == nil {
			err = in.expect(':')
		}
		if err != nil {
			return "", nil, err
		}
		switch {
		case key == "status":
			status, err = in.name()
		case key == "response":
			err = s.response(in, p, reply)
		default:
			_, err = in.value(maxName)
		}
		if err != nil {
			return "", nil, err
		}
		if c, err := in.peek(); err != nil {
			return "", nil, err
		} else if c == '}' {
			break
		}
		if err := in.expect(','); err != nil {
			return "", nil, err
		}
	}
	if err := in.expect('}'); err != nil {
		return "", nil, err
	}
	if status == "" {
		return "", nil, fmt.Errorf("%w: a reply without a status", errFormat)
	}
	return status, reply, nil
}

func (s *Socket) response(in scanner, p *push, reply *Reply) (err error) {
	if p.opts.Into != nil && in.bytesFollow() {
		return s.stream(p, reply, func(w io.Writer) (int64, error) { return in.bytes(w) })
	}
	if reply.Response, err = in.value(s.opts.MaxReply); err != nil {
		return err
	}
	if !json.Valid(reply.Response) {
		return fmt.Errorf("%w: a response that is not valid JSON", errFormat)
	}
	return nil
}

// stream copies a response into the caller's writer.
func (s *Socket) stream(p *push, reply *Reply, read func(io.Writer) (int64, error)) error {
	out := &sink{}
	s.mu.Lock()
	gone := p.ended
	p.sink = out
	s.mu.Unlock()
	if gone {
		return &intoError{io.ErrClosedPipe}
	}
	if err := out.open(p.opts.Into); err != nil {
		return &intoError{err}
	}
	size, err := read(out)
	reply.Streamed, reply.Size = true, size
	if cerr := out.Close(); err == nil && cerr != nil {
		err = &intoError{cerr}
	}
	return err
}

// replied ends a push whose reply has arrived. An error of the connection
// leaves it pending.
func (s *Socket) replied(p *push, status string, reply *Reply, err error) error {
	var into *intoError
	var large *tooLarge
	switch {
	case err == nil && status != "ok":
		err, reply = &ReplyError{Topic: p.topic, Event: p.event, Status: status, Response: reply.Response}, nil
	case err == nil:
	case errors.As(err, &into):
		err = into.error
	case errors.As(err, &large):
		err = &SizeError{Topic: p.topic, Event: p.event, Limit: large.limit}
	case errors.Is(err, errFormat):
		s.garbage(err)
		err = &FormatError{Topic: p.topic, Event: p.event, Err: err}
	default:
		return err
	}
	if err != nil {
		reply = nil
	}
	s.mu.Lock()
	s.finish(p, reply, err)
	s.mu.Unlock()
	return nil
}

// dispatch hands a message to its channel.
func (s *Socket) dispatch(e envelope, payload json.RawMessage) {
	s.mu.Lock()
	c := s.channels[e.topic]
	if c == nil || e.joinRef != "" && e.joinRef != c.joinRef {
		s.mu.Unlock()
		return // of a channel that was left, or of its life before
	}
	switch e.event {
	case "phx_close":
		if c.state == joined {
			c.end(&ClosedError{Topic: c.topic}, true)
		}
	case "phx_error":
		if c.state == joined {
			s.opts.Logger.Warn("a channel crashed on the server", "topic", c.topic)
			c.lost(errCrashed)
			c.rejoinLater()
		}
	}
	f := c.handlers[e.event]
	s.mu.Unlock()
	if f != nil {
		f(payload)
	}
}

var errCrashed = errors.New("phoenix: the channel crashed on the server")
