package ipc

import (
	"errors"
	"fmt"
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

	send struct { // guards everything that writes
		sync.Mutex
		buf []byte
		err error // the first failure; the stream is broken after it
	}
	ring    atomic.Pointer[ring]
	closed  atomic.Bool
	closing sync.Once

	reading sync.Mutex // held by Receive, and by a Peer's Serve as long as it runs
	receive struct {   // guards what came; held while spinning, not while asleep
		sync.Mutex
		inbox
	}

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
// os.ErrDeadlineExceeded; the zero time removes the deadline. Nothing is lost
// by it: Receive may be called again.
func (c *Channel) SetReceiveDeadline(t time.Time) error {
	return hangUp(c.socket.conn.SetReadDeadline(t))
}

// Bytes returns how many bytes of messages were sent and received. The
// channel's own doorbells and announcements are not counted.
func (c *Channel) Bytes() (sent, received uint64) {
	return c.sentBytes.Load(), c.receivedBytes.Load()
}

// UsesRing reports whether frames go through shared memory.
func (c *Channel) UsesRing() bool { return c.ring.Load() != nil }

// Send sends one message. A *FrameSizeError or a *MessageError fails that
// message alone; after any other error the channel is of no use, and every
// later Send returns that error.
func (c *Channel) Send(e *Envelope) error {
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err != nil {
		return c.send.err
	}
	if c.closed.Load() {
		return ErrClosed
	}
	b, err := AppendFrame(c.send.buf[:0], e)
	if cap(b) <= maxIdleBuffer {
		c.send.buf = b[:0]
	}
	if err != nil {
		return err
	}
	if err := c.write(b, e.File); err != nil {
		c.send.err = err
		return err
	}
	c.sentBytes.Add(uint64(len(b)))
	return nil
}

func (c *Channel) write(b []byte, f *os.File) error {
	deadline := time.Now().Add(c.writeTimeout)
	r := c.ring.Load()
	if r == nil {
		return c.writeSocket(b, f, deadline)
	}
	if f == nil && len(b) <= r.largestFrame() {
		if err := c.writeRing(r, b, deadline); err != nil {
			return err
		}
		return c.wake(r, deadline)
	}
	// The ring alone gives the order: a frame that cannot go through it is
	// announced there. The announcement comes first so that the peer never
	// finds an unannounced frame where it looks for a doorbell.
	if err := c.writeRing(r, announcement, deadline); err != nil {
		return err
	}
	// The frame itself wakes a peer that sleeps on the socket. Its asleep flag
	// is left alone: by the time this returns the peer may have read the frame
	// and gone back to sleep, and clearing the flag would cost it the next
	// doorbell.
	return c.writeSocket(b, f, deadline)
}

func (c *Channel) writeSocket(b []byte, f *os.File, deadline time.Time) error {
	err := c.socket.writeFrame(b, f, deadline)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("ipc: peer does not read its socket: a frame of %d bytes did not go out in %v: %w", len(b), c.writeTimeout, err)
	}
	return err
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
			return fmt.Errorf("ipc: peer does not read its ring: no room for a frame of %d bytes in %v: %w", len(b), c.writeTimeout, os.ErrDeadlineExceeded)
		}
		// A peer that died makes no room either.
		if err := c.socket.peerGone(); err != nil {
			return err
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
	return c.writeSocket(doorbellFrame, nil, deadline)
}

// The channel's own frames.
var (
	doorbellFrame = bareFrame(new(doorbell))
	announcement  = bareFrame(new(fromSocket))
)

func bareFrame(m Message) []byte {
	b, err := AppendFrame(nil, &Envelope{Message: m})
	if err != nil {
		panic(err)
	}
	return b
}

// useRing has frames go through r from now on. It fails, r unmapped, when the
// channel was closed meanwhile.
func (c *Channel) useRing(r *ring) error {
	c.send.Lock()
	defer c.send.Unlock()
	if c.closed.Load() {
		return errors.Join(ErrClosed, r.unmap())
	}
	c.ring.Store(r)
	return nil
}

// Close closes this end. A Send or a Receive that waits returns ErrClosed; the
// peer sees a hang-up. When Close returns the ring is unmapped and nothing of
// the channel is in use. A second Close waits for the first and returns nil.
func (c *Channel) Close() (err error) {
	c.closing.Do(func() { err = c.close() })
	return err
}

func (c *Channel) close() error {
	c.closed.Store(true)
	err := c.socket.close()
	// Closing the socket ends whoever sleeps on it; the locks are then free
	// within one spin, or one pause of a Send that waits for room.
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err == nil {
		c.send.err = ErrClosed
	}
	c.socket.reader.Lock()
	defer c.socket.reader.Unlock()
	c.receive.Lock()
	defer c.receive.Unlock()
	c.socket.closeFiles()
	if f := c.receive.early.file; f != nil {
		f.Close()
	}
	c.receive.inbox = inbox{err: ErrClosed}
	if r := c.ring.Swap(nil); r != nil {
		err = errors.Join(err, r.unmap())
	}
	return err
}
