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
		buf    []byte
		err    error // the first failure; the stream is broken after it
		untold bool  // the ring has frames of which the peer was not told
	}
	ring    atomic.Pointer[ring]
	closed  atomic.Bool
	closing sync.Once
	gone    chan struct{} // closed then

	reader   sync.Mutex                // held while waiting for a frame without a ring
	users    atomic.Int32              // of the ring beside the locks, see enter
	deadline atomic.Pointer[time.Time] // of a Receive that sleeps on the ring's word
	taken    chan struct{}             // a frame that came on the socket was; room for one
	listened chan struct{}             // closed when listen has ended

	reading sync.Mutex // held by Receive, and by a Peer's Serve as long as it runs
	receive struct {   // guards what came; held while spinning, not while asleep
		sync.Mutex
		inbox
	}

	sentBytes, receivedBytes atomic.Uint64
}

// NewChannel returns a channel over c, which it takes over.
func NewChannel(c *net.UnixConn) *Channel {
	return &Channel{
		socket: newSocket(c), writeTimeout: DefaultWriteTimeout,
		gone: make(chan struct{}), taken: make(chan struct{}, 1), listened: make(chan struct{}),
	}
}

// SetWriteTimeout changes how long a Send waits for a peer that does not read;
// call it before the channel is in use.
func (c *Channel) SetWriteTimeout(d time.Duration) { c.writeTimeout = d }

// SetReceiveDeadline makes a Receive that sleeps past t fail with
// os.ErrDeadlineExceeded; the zero time removes the deadline. Nothing is lost
// by it: Receive may be called again.
func (c *Channel) SetReceiveDeadline(t time.Time) error {
	if !c.UsesRing() {
		return hangUp(c.socket.conn.SetReadDeadline(t))
	}
	if t.IsZero() {
		c.deadline.Store(nil)
	} else {
		c.deadline.Store(&t)
	}
	c.rouse()
	return nil
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
	if err := c.put(e); err != nil {
		return err
	}
	return c.flush()
}

// Put is Send for a message that others follow at once. A peer that sleeps on
// the ring is not woken for it before Send or Flush: each time it is woken costs
// both sides as much as several messages.
func (c *Channel) Put(e *Envelope) error {
	c.send.Lock()
	defer c.send.Unlock()
	return c.put(e)
}

// Alert wakes a peer that sleeps on the ring ahead of a message that is being
// made: it takes longer to wake up than most messages to make, and will look for
// one for a while before it sleeps again.
func (c *Channel) Alert() {
	r := c.enter()
	if r == nil {
		return
	}
	defer c.leave()
	if how := r.out.asleep.Load(); how >= wakeOnWord && r.out.asleep.CompareAndSwap(how, awake) {
		futexWake(r.out.asleep, wakeBit(how))
	}
}

// Flush has the peer know of what was Put.
func (c *Channel) Flush() error {
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err != nil {
		return c.send.err
	}
	return c.flush()
}

func (c *Channel) put(e *Envelope) error {
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

func (c *Channel) flush() error {
	if !c.send.untold {
		return nil
	}
	c.send.untold = false
	if err := c.wake(c.ring.Load(), time.Now().Add(c.writeTimeout)); err != nil {
		c.send.err = err
		return err
	}
	return nil
}

// write leaves it to flush to wake the peer for a frame in the ring.
func (c *Channel) write(b []byte, f *os.File) error {
	deadline := time.Now().Add(c.writeTimeout)
	r := c.ring.Load()
	if r == nil {
		return c.writeSocket(b, f, deadline)
	}
	if f == nil && len(b) <= r.largestFrame() {
		c.send.untold = true
		return c.writeRing(r, b, deadline)
	}
	c.send.untold = false
	// The ring alone gives the order: a frame that cannot go through it is
	// announced there. The announcement comes first so that the peer never
	// finds an unannounced frame where it looks for a doorbell.
	if err := c.writeRing(r, announcement, deadline); err != nil {
		return err
	}
	// A peer that sleeps on the word may not see the socket until it is woken.
	if r.out.asleep.Load() != wakeByDoor {
		if err := c.wake(r, deadline); err != nil {
			return err
		}
	}
	// One that sleeps on the socket is woken by the frame itself. After that the
	// word is left alone: by the time this returns the peer may have read the
	// frame and gone back to sleep, and clearing the word would cost it the next
	// wake-up.
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

// wake wakes a peer that sleeps, in the way it has asked for.
func (c *Channel) wake(r *ring, deadline time.Time) error {
	how := r.out.asleep.Load()
	if how == awake || !r.out.asleep.CompareAndSwap(how, awake) {
		return nil
	}
	if how == wakeByDoor {
		return c.writeSocket(doorbellFrame, nil, deadline)
	}
	futexWake(r.out.asleep, wakeBit(how))
	return nil
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
	go c.listen()
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
	close(c.gone)
	// Closing the socket has ended whoever slept on it; the locks are free
	// within one spin, or one pause of a Send that waits for room.
	c.send.Lock()
	defer c.send.Unlock()
	if c.send.err == nil {
		c.send.err = ErrClosed
	}
	if c.UsesRing() { // from now on there is one or there is none
		c.expel()
		<-c.listened
	}
	c.reader.Lock()
	defer c.reader.Unlock()
	c.receive.Lock()
	defer c.receive.Unlock()
	c.socket.closeFiles()
	c.receive.early.close()
	c.receive.inbox = inbox{err: ErrClosed}
	if r := c.ring.Swap(nil); r != nil {
		err = errors.Join(err, r.unmap())
	}
	return err
}
