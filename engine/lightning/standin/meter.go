package standin

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// meter is the server's end of a socket. It follows the frames that the worker
// sends, on the wire and before they are inflated or put together, and closes
// the connection in the middle of one where it must.
type meter struct {
	net.Conn
	gate *gate // shared by the server's sockets
	cut  *atomic.Int64
	max  int64 // largest frame or message, 0 for none

	once   sync.Once
	closed chan struct{}

	head    []byte // of the frame that is being read, until it is whole
	left    int64  // of its payload
	length  int64  // of its payload
	message int64  // of the message's payloads so far

	// Read by others.
	bytes, frames, largest, deflated, fragments atomic.Int64
	dropped                                     atomic.Bool // for its size
}

// gate stalls reading while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if shut {
			g.open = make(chan struct{})
		}
	default:
		if !shut {
			close(g.open)
		}
	}
}

func (g *gate) wait(closed chan struct{}) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	case <-closed:
	}
}

// Close implements net.Conn. It ends a Read that is stalled.
func (m *meter) Close() error {
	m.once.Do(func() { close(m.closed) })
	return m.Conn.Close()
}

// Read implements net.Conn.
func (m *meter) Read(b []byte) (int, error) {
	m.gate.wait(m.closed)
	n, err := m.Conn.Read(b)
	if !m.account(b[:n]) {
		m.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// account counts and follows bytes read; false closes the connection.
func (m *meter) account(b []byte) bool {
	m.bytes.Add(int64(len(b)))
	return m.follow(b)
}

// follow accounts for bytes read; false closes the connection.
func (m *meter) follow(b []byte) bool {
	for len(b) > 0 {
		if m.left > 0 {
			n := min(int64(len(b)), m.left)
			m.left, b = m.left-n, b[n:]
			if at := m.cut.Load(); at > 0 && m.length-m.left >= at && m.cut.CompareAndSwap(at, 0) {
				return false
			}
			continue
		}
		m.head, b = append(m.head, b[0]), b[1:]
		if !m.begin() {
			return false
		}
	}
	return true
}

// begin starts a frame once its head is whole.
func (m *meter) begin() bool {
	if len(m.head) < 2 {
		return true
	}
	need := 6 // two bytes and the mask, which a client must send
	switch m.head[1] & 0x7f {
	case 126:
		need += 2
	case 127:
		need += 8
	}
	if len(m.head) < need {
		return true
	}
	m.length = int64(m.head[1] & 0x7f)
	switch m.length {
	case 126:
		m.length = int64(binary.BigEndian.Uint16(m.head[2:]))
	case 127:
		m.length = int64(binary.BigEndian.Uint64(m.head[2:]) &^ (1 << 63))
	}
	first := m.head[0]
	m.left, m.head = m.length, m.head[:0]
	if opcode := first & 0x0f; opcode >= 8 {
		return true // control
	} else if opcode == 0 {
		m.fragments.Add(1)
	} else {
		m.message = 0
	}
	if first&0x40 != 0 {
		m.deflated.Add(1)
	}
	m.frames.Add(1)
	m.message += m.length
	if m.message > m.largest.Load() {
		m.largest.Store(m.message)
	}
	if m.max > 0 && m.message > m.max {
		m.dropped.Store(true)
		return false
	}
	return true
}

// hijacker puts the meter below the websocket that a handler makes.
type hijacker struct {
	http.ResponseWriter
	wrap func(net.Conn) *meter
}

// Hijack implements http.Hijacker. The response is on its way already, so the
// beginning of the worker's first frame may have been read: the meter sees it
// here, and the websocket takes it from the reader.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	m := h.wrap(c)
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err == nil && !m.account(early) {
		err = net.ErrClosed
	}
	if err != nil {
		m.Close()
		return nil, nil, err
	}
	return m, rw, nil
}
