package phoenix

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/flate"
)

// message writes one outgoing message at a time through one buffer. A message
// that fits in the buffer is one frame, and nothing of it is sent before it is
// complete.
type message struct {
	wire     *wire
	buf      []byte // room for a header, then masked bytes of the frame being made
	oneFrame bool   // a message, unless it is deflated
	total    int64  // bytes of the message's text so far

	// The frame being made.
	first       byte // of its header, but for bitFinal
	mask        [4]byte
	turn        int   // position in mask
	whole, left int64 // length of a whole frame, and what is to come of it; -1: it is a fragment
	sent        bool  // something of the message was sent

	deflate *deflater // nil: permessage-deflate was not agreed on
}

// newMessage returns a message for a connection; above says which are deflated
// where both sides agreed on that.
func newMessage(w *wire, o *Options, deflated bool) message {
	m := message{wire: w, buf: make([]byte, headerRoom, headerRoom+o.MaxFrame), oneFrame: o.Framing == Whole}
	if deflated {
		m.deflate = &deflater{early: make([]byte, 0, min(o.CompressAbove, o.MaxFrame))}
	}
	return m
}

// writeError is an error of the connection, as opposed to the payload's.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// send writes [join_ref, ref, topic, event, payload]. started says whether
// bytes were sent: if so, an error has cost the connection.
func (m *message) send(p *push) (started bool, err error) {
	m.total, m.sent = 0, false
	m.begin(opText, -1)
	head := appendHead(nil, p)
	if m.oneFrame {
		n, err := measure(p.payload)
		if err != nil {
			return false, err
		}
		// The length of a deflated message is not known before it is made.
		if n += int64(len(head)) + 1; n > int64(m.room()) && (m.deflate == nil || n < int64(cap(m.deflate.early))) {
			m.begin(opText, n)
		}
	}
	if m.deflate != nil {
		m.deflate.begin(m)
	}
	if _, err = m.Write(head); err == nil {
		if err = p.payload.WriteJSON(m); err == nil {
			_, err = m.Write([]byte{']'})
		}
	}
	if err != nil {
		m.abandon()
		return m.sent, err
	}
	return true, m.end()
}

// room is how many bytes a frame has that the buffer holds.
func (m *message) room() int { return cap(m.buf) - headerRoom }

// begin begins a frame: a whole one of the length given, or a fragment at -1.
func (m *message) begin(first byte, length int64) {
	m.buf, m.first, m.turn, m.whole, m.left = m.buf[:headerRoom], first, 0, length, length
	rand.Read(m.mask[:])
}

// Write implements io.Writer: it takes the message's text.
func (m *message) Write(p []byte) (int, error) {
	m.total += int64(len(p))
	if m.deflate != nil && m.whole < 0 {
		return m.deflate.write(m, p)
	}
	return len(p), m.put(p)
}

// put takes bytes of frames.
func (m *message) put(p []byte) error {
	if m.whole >= 0 {
		if m.left -= int64(len(p)); m.left < 0 {
			return fmt.Errorf("phoenix: the payload grew by %d bytes or more since it was measured", -m.left)
		}
	}
	for len(p) > 0 {
		if len(m.buf) == cap(m.buf) {
			if err := m.flush(false); err != nil {
				return err
			}
		}
		at := len(m.buf)
		n := min(len(p), cap(m.buf)-at)
		m.buf = m.buf[:at+n]
		m.turn = maskInto(m.buf[at:], p[:n], m.mask, m.turn)
		p = p[n:]
	}
	return nil
}

// flush sends the buffer: a frame, or a piece of a whole one.
func (m *message) flush(last bool) error {
	start, open := headerRoom, false
	switch {
	case m.whole < 0:
		first := m.first
		if last {
			first |= bitFinal
		}
		start = putHeader(m.buf[:headerRoom], first, int64(len(m.buf)-headerRoom), m.mask)
	default:
		open = !last
		if !m.sent {
			start = putHeader(m.buf[:headerRoom], m.first|bitFinal, m.whole, m.mask)
		}
	}
	m.sent = true
	if err := m.wire.data(m.buf[start:], open); err != nil {
		return &writeError{err}
	}
	if m.whole < 0 {
		m.begin(opContinuation, -1)
	} else {
		m.buf = m.buf[:headerRoom]
	}
	return nil
}

// end sends what is left. A whole frame is filled up with white space, which
// JSON allows at its end.
func (m *message) end() error {
	if m.whole >= 0 {
		if err := m.put(bytes.Repeat([]byte{' '}, int(m.left))); err != nil {
			return err
		}
	} else if m.deflate != nil {
		if err := m.deflate.end(m); err != nil {
			return err
		}
	}
	return m.flush(true)
}

// abandon says that the rest of a message will not come, since some servers take
// the end of the connection after a frame for the end of the message.
func (m *message) abandon() {
	if !m.sent || m.whole >= 0 {
		return
	}
	m.begin(bitFinal|opClose, -1)
	status := binary.BigEndian.AppendUint16(nil, uint16(websocket.StatusInternalError))
	if m.put(status) == nil {
		_ = m.flush(true) // the connection is given up either way
	}
}

// deflater compresses messages that turn out to be long enough.
type deflater struct {
	to    *message
	early []byte // the message's text, while it is shorter than this holds
	on    bool
	flate *flate.Writer
	tail  []byte // the last output: a message goes without the end of its last block
}

// deflateLevel is chosen in docs/decisions/0012-compression.md.
const deflateLevel = 1

// blockEnd is the length of the empty block that ends a flushed stream.
const blockEnd = 4

func (d *deflater) begin(m *message) {
	d.to, d.early, d.on, d.tail = m, d.early[:0], false, d.tail[:0]
}

func (d *deflater) write(m *message, p []byte) (int, error) {
	if d.on {
		return d.flate.Write(p)
	}
	if len(d.early)+len(p) < cap(d.early) {
		d.early = append(d.early, p...)
		return len(p), nil
	}
	d.on = true
	m.first |= bitDeflated
	if d.flate == nil {
		w, err := flate.NewWriter(d, deflateLevel)
		if err != nil {
			return 0, err
		}
		d.flate, d.tail = w, make([]byte, 0, blockEnd)
	} else {
		d.flate.Reset(d)
	}
	if _, err := d.flate.Write(d.early); err != nil {
		return 0, err
	}
	return d.flate.Write(p)
}

// Write implements io.Writer, for the compressor's output. All but the last
// bytes of it go on.
func (d *deflater) Write(p []byte) (int, error) {
	if over := len(d.tail) + len(p) - blockEnd; over > 0 {
		n := min(over, len(d.tail))
		if err := d.to.put(d.tail[:n]); err != nil {
			return 0, err
		}
		d.tail = append(d.tail[:0], d.tail[n:]...)
		if err := d.to.put(p[:over-n]); err != nil {
			return 0, err
		}
		d.tail = append(d.tail, p[over-n:]...)
		return len(p), nil
	}
	d.tail = append(d.tail, p...)
	return len(p), nil
}

func (d *deflater) end(m *message) error {
	if !d.on {
		return m.put(d.early)
	}
	return d.flate.Flush()
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
