package ipc

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultWriteTimeout is how long a Send may wait for a peer that does not
// read.
const DefaultWriteTimeout = 10 * time.Second

// Channel is one end of a control channel. Send may be called from any
// goroutine, Receive from one at a time, Close from any, more than once.
type Channel struct {
	socket       *socket
	writeTimeout time.Duration
	spin         spinner

	send struct { // guards everything that writes
		sync.Mutex
		buf []byte
		err error // the first failure; the stream is broken after it
	}
	ring    atomic.Pointer[ring]
	ringBuf []byte   // Receive's
	early   received // Receive's: came on the socket before its turn in the ring

	receiving sync.Mutex // held by Receive, so that Close can wait for it
	closed    atomic.Bool

	sentBytes, receivedBytes atomic.Uint64
}

// NewChannel returns a channel over c, which it takes over.
func NewChannel(c *net.UnixConn) *Channel {
	return &Channel{socket: newSocket(c), writeTimeout: DefaultWriteTimeout}
}

// SetWriteTimeout changes how long a Send waits for a peer that does not read;
// call it before the channel is in use.
func (c *Channel) SetWriteTimeout(d time.Duration) { c.writeTimeout = d }

// SetReceiveDeadline makes a Receive that sleeps past t fail with
// os.ErrDeadlineExceeded; the zero time removes the deadline.
func (c *Channel) SetReceiveDeadline(t time.Time) error {
	return c.socket.conn.SetReadDeadline(t)
}

// Bytes returns how many bytes of frames were sent and received.
func (c *Channel) Bytes() (sent, received uint64) {
	return c.sentBytes.Load(), c.receivedBytes.Load()
}

// UsesRing reports whether frames go through shared memory.
func (c *Channel) UsesRing() bool { return c.ring.Load() != nil }

// Send sends one message. A *FrameSizeError leaves the channel usable; after
// any other error it is not, and every later Send returns that error.
func (c *Channel) Send(e *Envelope) error {
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err != nil {
		return c.send.err
	}
	b, err := AppendFrame(c.send.buf[:0], e)
	if err != nil {
		return err
	}
	if cap(b) <= maxIdleBuffer {
		c.send.buf = b
	}
	if err := c.write(b, e); err != nil {
		c.send.err = err
		return err
	}
	c.sentBytes.Add(uint64(len(b)))
	return nil
}

func (c *Channel) write(b []byte, e *Envelope) error {
	deadline := time.Now().Add(c.writeTimeout)
	r := c.ring.Load()
	if r == nil {
		return c.socket.writeFrame(b, e.File, deadline)
	}
	if e.File == nil && len(b) <= len(r.out.data)/4 {
		if err := c.writeRing(r, b, deadline); err != nil {
			return err
		}
		return c.wake(r, deadline)
	}
	// The ring alone gives the order: a frame that cannot go through it is
	// announced there. The announcement comes first so that the peer never
	// finds an unannounced frame where it looks for a doorbell.
	marker, err := AppendFrame(nil, &Envelope{Message: new(fromSocket)})
	if err != nil {
		return err
	}
	if err := c.writeRing(r, marker, deadline); err != nil {
		return err
	}
	if err := c.socket.writeFrame(b, e.File, deadline); err != nil {
		return err
	}
	// The frame itself wakes a peer that sleeps on the socket.
	r.out.asleep.Store(0)
	return nil
}

// writeRing waits for room as long as the deadline allows. A peer that reads
// makes room within microseconds; one that does not is found out here.
func (c *Channel) writeRing(r *ring, b []byte, deadline time.Time) error {
	for pause := 10 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		ok, err := r.out.write(b)
		if ok || err != nil {
			return err
		}
		if c.closed.Load() {
			return ErrClosed
		}
		if time.Now().After(deadline) {
			return errors.New("ipc: peer does not read its ring: " + c.writeTimeout.String() + " without room for a frame")
		}
		if err := c.wake(r, deadline); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// wake rings the doorbell if the peer said that it sleeps.
func (c *Channel) wake(r *ring, deadline time.Time) error {
	if r.out.asleep.Load() == 0 || !r.out.asleep.CompareAndSwap(1, 0) {
		return nil
	}
	return c.socket.writeFrame(doorbellFrame, nil, deadline)
}

var doorbellFrame = func() []byte {
	b, err := AppendFrame(nil, &Envelope{Message: new(doorbell)})
	if err != nil {
		panic(err)
	}
	return b
}()

// Receive returns the next message. After an error there are no more: ErrHangUp
// when the peer closed its end, ErrClosed when this side did, a *ProtocolError
// or *FrameSizeError when the peer broke the protocol.
func (c *Channel) Receive() (*Envelope, error) {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	if c.closed.Load() {
		return nil, ErrClosed
	}
	for {
		r := c.ring.Load()
		if r != nil {
			h, b, err := c.nextRingFrame(r)
			switch {
			case err != nil:
				return nil, err
			case b != nil && h.typ == TypeFromSocket:
				return c.announced()
			case b != nil:
				return c.open(received{header: h, bytes: b})
			case c.early.bytes != nil:
				return nil, protocolErrorf("%s frame on the socket that the ring does not announce", c.early.header.typ)
			}
		}
		f, err := c.sleep(r)
		switch {
		case err != nil:
			return nil, err
		case f.header.typ == TypeDoorbell:
		case r == nil:
			return c.open(f)
		default:
			// Its announcement was written before it: it is in the ring by now,
			// maybe behind other frames.
			c.early = f
		}
	}
}

// received is a frame's bytes, valid until the source it came from is read
// again.
type received struct {
	header header
	bytes  []byte
	file   *os.File
}

// nextRingFrame returns the ring's next frame, spinning for it as long as that
// has paid lately.
func (c *Channel) nextRingFrame(r *ring) (header, []byte, error) {
	// A frame that waits on the socket means that the peer wrote its
	// announcement already: nothing to wait for.
	if c.early.bytes == nil && !c.spin.wait(r.in.available) {
		return header{}, nil, nil
	}
	if c.ringBuf == nil {
		c.ringBuf = make([]byte, len(r.in.data))
	}
	return r.in.readFrame(c.ringBuf)
}

// sleep waits on the socket, first telling the peer to ring the doorbell.
func (c *Channel) sleep(r *ring) (received, error) {
	if r != nil {
		r.in.asleep.Store(1)
		// The peer may have written before it could see that we sleep.
		if r.in.available() {
			r.in.asleep.Store(0)
			return received{header: header{typ: TypeDoorbell}}, nil
		}
	}
	f, err := c.readSocket()
	if r != nil {
		r.in.asleep.Store(0)
		c.spin.slept()
	}
	return f, err
}

// announced returns the frame on the socket that the ring announced.
func (c *Channel) announced() (*Envelope, error) {
	f := c.early
	c.early = received{}
	for f.bytes == nil || f.header.typ == TypeDoorbell {
		var err error
		if f, err = c.readSocket(); err != nil {
			return nil, err
		}
	}
	return c.open(f)
}

func (c *Channel) readSocket() (f received, err error) {
	f.header, f.bytes, f.file, err = c.socket.readFrame()
	if err != nil && c.closed.Load() {
		return f, ErrClosed
	}
	return f, hangUp(err)
}

// open turns a frame into an envelope.
func (c *Channel) open(f received) (*Envelope, error) {
	c.receivedBytes.Add(uint64(len(f.bytes)))
	e, err := parseBody(&f.header, f.bytes)
	if err != nil {
		if f.file != nil {
			f.file.Close()
		}
		return nil, err
	}
	switch e.Message.(type) {
	case *doorbell, *fromSocket:
		return nil, protocolErrorf("%s out of place", f.header.typ)
	}
	e.File = f.file
	return e, nil
}

// Close closes this end. A Receive that waits returns ErrClosed; the peer sees
// a hang-up. The ring is unmapped once nobody uses it.
func (c *Channel) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	err := c.socket.close()
	// Closing the socket ends whoever sleeps on it; the locks are then free
	// within one spin.
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err == nil {
		c.send.err = ErrClosed
	}
	c.receiving.Lock()
	defer c.receiving.Unlock()
	c.socket.closeFiles()
	if c.early.file != nil {
		c.early.file.Close()
	}
	if r := c.ring.Swap(nil); r != nil {
		err = errors.Join(err, r.unmap())
	}
	return err
}
