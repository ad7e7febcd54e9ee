package ipc

import (
	"errors"
	"os"
	"time"
)

// inbox is what came and was not taken yet.
type inbox struct {
	spin Spinner
	buf  []byte // a frame copied out of the ring
	// early came on the socket: without a ring it is the next frame, with one
	// it waits for its announcement.
	early received
	// announced says that the ring's next frame is on the socket.
	announced bool
	// idleWakes counts the wakes since the last message that were for nothing.
	idleWakes int
	yielded   time.Time // when a sleeper last gave its processor back
	// err is why nothing more comes. A hang-up counts once the ring is empty.
	err error
}

// received is a frame's bytes, valid until the source they came from is read
// again.
type received struct {
	header header
	bytes  []byte
	file   *os.File
}

// close gives the descriptor up that came with a frame which is not wanted.
func (f *received) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// Receive returns the next message. After an error there are no more, but for
// os.ErrDeadlineExceeded, which leaves everything as it was. ErrHangUp: the
// peer closed its end; what it had sent before was returned first. ErrClosed:
// this side did. A *ProtocolError or a *FrameSizeError: the peer broke the
// protocol.
func (c *Channel) Receive() (*Envelope, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		e, err := c.poll(true)
		if e != nil || err != nil {
			return e, err
		}
		if !c.arm(wakeReceiver) {
			continue
		}
		if err := c.rest(wakeReceiver); err != nil {
			return nil, err
		}
	}
}

// poll returns the next message that is here, or nil. With spin it looks for
// one as long as that has paid lately. It never sleeps.
func (c *Channel) poll(spin bool) (*Envelope, error) {
	c.receive.Lock()
	defer c.receive.Unlock()
	if c.closed.Load() {
		return nil, ErrClosed
	}
	in := &c.receive
	if in.err != nil && !errors.Is(in.err, ErrHangUp) {
		return nil, in.err
	}
	e, err := c.take(spin && in.err == nil)
	if err != nil {
		in.err = err
	}
	if e == nil {
		err = in.err
	}
	return e, err
}

func (c *Channel) take(spin bool) (*Envelope, error) {
	in := &c.receive
	r := c.ring.Load()
	if r == nil || in.announced {
		return c.takeEarly()
	}
	// A frame that waits on the socket means that the peer wrote its
	// announcement already: nothing to wait for.
	if spin && in.early.bytes == nil {
		in.spin.Wait(r.in.available)
	}
	if in.buf == nil {
		in.buf = make([]byte, len(r.in.data))
	}
	h, b, err := r.in.readFrame(in.buf)
	switch {
	case err != nil:
		return nil, err
	case b != nil && h.typ == TypeFromSocket:
		in.announced, in.idleWakes = true, 0
		return c.takeEarly()
	case b != nil:
		in.idleWakes = 0
		return c.open(received{header: h, bytes: b})
	case in.early.bytes != nil:
		return nil, protocolErrorf("%s frame on the socket that the ring does not announce", in.early.header.typ)
	}
	return nil, nil
}

// announcedWithin is how long who takes an announcement waits for its frame,
// which the peer writes next. Longer than that is for listen to wait.
const announcedWithin = time.Millisecond

// takeEarly returns the frame that came on the socket, if it came already. With a
// ring it was announced, and is read here: listen sleeps in the runtime's poller,
// and while goroutines that sleep on words keep the processors nobody may look
// there for ten milliseconds.
func (c *Channel) takeEarly() (*Envelope, error) {
	in := &c.receive
	if c.UsesRing() && in.early.bytes == nil && in.err == nil {
		c.came(c.socket.waitAtMost(announcedWithin, c.fetch))
	}
	f := in.early
	if f.bytes == nil {
		return nil, nil
	}
	in.early, in.announced = received{}, false
	e, err := c.open(f)
	if c.UsesRing() {
		// What was read with it has to be looked at too.
		c.came(c.socket.waitAtMost(0, c.fetch))
		select {
		case c.taken <- struct{}{}: // listen may wait for it
		default:
		}
	}
	return e, err
}

// mostDoorbells is how many doorbells fetch passes over: a peer that floods does
// not keep the lock.
const mostDoorbells = 64

// fetch reads the socket beside the ring until it has a frame, receive.early, or
// has seen too many that are none.
func (c *Channel) fetch(fd uintptr) error {
	in := &c.receive
	for doorbells := 0; in.early.bytes == nil && doorbells < mostDoorbells; {
		f, err := c.socket.next()
		switch {
		case err != nil:
			return err
		case f.bytes == nil:
			if err := c.socket.recv(fd); err != nil {
				return err
			}
		case f.header.typ != TypeDoorbell:
			in.early = f
		default: // for nobody: this side does not sleep by it
			doorbells++
		}
	}
	return nil
}

// came takes note of why nothing more comes on the socket, if that is so.
func (c *Channel) came(err error) {
	switch {
	case err == nil || err == errNothing || c.receive.err != nil:
	case c.closed.Load():
		c.receive.err = ErrClosed
	default:
		c.receive.err = hangUp(err)
	}
}

// fail has poll return err from now on.
func (c *Channel) fail(err error) {
	c.receive.Lock()
	defer c.receive.Unlock()
	if c.receive.err == nil {
		c.receive.err = err
	}
}

// open turns a frame into an envelope.
func (c *Channel) open(f received) (*Envelope, error) {
	c.receivedBytes.Add(uint64(len(f.bytes)))
	e, err := parseBody(&f.header, f.bytes)
	if err == nil && (f.header.typ == TypeDoorbell || f.header.typ == TypeFromSocket) {
		err = protocolErrorf("%s out of place", f.header.typ)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	e.File = f.file
	return e, nil
}
