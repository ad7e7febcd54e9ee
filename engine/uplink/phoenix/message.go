package phoenix

import (
	"context"
	"encoding/json"
	"io"

	"github.com/coder/websocket"
)

// message writes one outgoing message at a time through one buffer. A message
// that fits in the buffer is one frame, and nothing of it is sent before it is
// complete.
type message struct {
	conn     *connection
	buf      []byte
	whole    bool
	deflated bool  // permessage-deflate was agreed on
	above    int64 // which messages are compressed

	w     io.WriteCloser // once something was sent
	total int64
}

// Write implements io.Writer.
func (m *message) Write(p []byte) (int, error) {
	m.total += int64(len(p))
	n := len(p)
	for len(p) > 0 {
		if len(m.buf) == cap(m.buf) {
			if err := m.flush(); err != nil {
				return n - len(p), err
			}
		}
		k := copy(m.buf[len(m.buf):cap(m.buf)], p)
		m.buf = m.buf[:len(m.buf)+k]
		p = p[k:]
	}
	return n, nil
}

func (m *message) flush() error {
	if m.w == nil {
		m.conn.wire.cork()
		w, err := m.conn.ws.Writer(context.Background(), websocket.MessageText)
		if err != nil {
			return &writeError{err}
		}
		m.w = w
	}
	_, err := m.w.Write(m.buf)
	m.buf = m.buf[:0]
	if err != nil {
		return &writeError{err}
	}
	return nil
}

// writeError is an error of the connection, as opposed to the payload's.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// send writes [join_ref, ref, topic, event, payload]. started says whether
// bytes were sent: if so, an error has cost the connection.
func (m *message) send(p *push) (size int64, started bool, err error) {
	m.buf, m.w, m.total = m.buf[:0], nil, 0
	head := appendHead(nil, p)
	if m.whole {
		n, err := measure(p.payload)
		if err != nil {
			return 0, false, err
		}
		// The length of a compressed message is not known before it is made.
		if n += int64(len(head)) + 1; n > int64(cap(m.buf)) && !(m.deflated && n >= m.above) {
			return m.sendWhole(p, head, n)
		}
	}
	if _, err = m.Write(head); err == nil {
		if err = p.payload.WriteJSON(m); err == nil {
			_, err = m.Write([]byte{']'})
		}
	}
	if err == nil {
		err = m.end()
	}
	return m.total, m.w != nil, err
}

func (m *message) end() error {
	if m.w == nil {
		if err := m.conn.ws.Write(context.Background(), websocket.MessageText, m.buf); err != nil {
			return &writeError{err}
		}
		return nil
	}
	err := m.flush()
	if err == nil {
		err = m.w.Close()
	}
	if err == nil {
		err = m.conn.wire.uncork()
	}
	if err != nil {
		return &writeError{err}
	}
	return nil
}

func (m *message) sendWhole(p *push, head []byte, size int64) (int64, bool, error) {
	f, err := m.conn.wire.startFrame(size)
	if err == nil {
		_, err = f.Write(head)
	}
	if err != nil {
		return 0, true, &writeError{err}
	}
	if err = p.payload.WriteJSON(f); err == nil {
		if _, err = f.Write([]byte{']'}); err == nil {
			err = f.Close()
		}
	}
	return size, true, err
}

func measure(p Payload) (int64, error) {
	if s, ok := p.(Sizer); ok {
		n, err := s.Size()
		return n + s.Spare(), err
	}
	var c counter
	err := p.WriteJSON(&c)
	return int64(c), err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func appendHead(b []byte, p *push) []byte {
	b = append(b, '[')
	for _, s := range [...]string{p.joinRef, p.ref, p.topic, p.event} {
		if s == "" {
			b = append(b, "null,"...) // a heartbeat has no join_ref
			continue
		}
		quoted, _ := json.Marshal(s) // of a string, never fails
		b = append(append(b, quoted...), ',')
	}
	return b
}
