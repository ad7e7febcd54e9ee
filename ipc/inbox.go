package ipc

import (
	"errors"
	"os"
)

// inbox is the state of the one goroutine that receives.
type inbox struct {
	spin spinner
	buf  []byte // a frame copied out of the ring
	// early came on the socket before its turn in the ring.
	early received
	// announced says that the ring's next frame is on the socket.
	announced bool
	err       error // the first failure; there is nothing to be had after it
}

// received is a frame's bytes, valid until the source they came from is read
// again.
type received struct {
	header header
	bytes  []byte
	file   *os.File
}

// Receive returns the next message. After an error there are no more, but for
// os.ErrDeadlineExceeded, which leaves everything as it was. ErrHangUp: the
// peer closed its end; what it had sent before was returned first. ErrClosed:
// this side did. A *ProtocolError or a *FrameSizeError: the peer broke the
// protocol.
func (c *Channel) Receive() (*Envelope, error) {
	c.receive.Lock()
	defer c.receive.Unlock()
	if c.closed.Load() {
		return nil, ErrClosed
	}
	if c.receive.err != nil {
		return nil, c.receive.err
	}
	e, err := c.next()
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.receive.err = err
	}
	return e, err
}

func (c *Channel) next() (*Envelope, error) {
	in := &c.receive
	for {
		r := c.ring.Load()
		if in.announced {
			return c.nextAnnounced()
		}
		if r != nil {
			f, err := c.nextInRing(r)
			switch {
			case err != nil:
				return nil, err
			case f.bytes != nil && f.header.typ == TypeFromSocket:
				in.announced = true
				continue
			case f.bytes != nil:
				return c.open(f)
			case in.early.bytes != nil:
				return nil, protocolErrorf("%s frame on the socket that the ring does not announce", in.early.header.typ)
			}
		}
		f, err := c.sleep(r)
		switch {
		case err != nil:
			return nil, err
		case r == nil:
			return c.open(f)
		case f.header.typ != TypeDoorbell:
			// Its announcement was written before it: it is in the ring by now,
			// maybe behind other frames.
			in.early = f
		}
	}
}

// nextInRing returns the ring's next frame, spinning for it as long as that
// has paid lately; nothing when there is none.
func (c *Channel) nextInRing(r *ring) (received, error) {
	in := &c.receive
	// A frame that waits on the socket means that the peer wrote its
	// announcement already: nothing to wait for.
	if in.early.bytes == nil && !in.spin.wait(&r.in) {
		return received{}, nil
	}
	if in.buf == nil {
		in.buf = make([]byte, len(r.in.data))
	}
	h, b, err := r.in.readFrame(in.buf)
	return received{header: h, bytes: b}, err
}

// sleep waits on the socket, first telling the peer to ring the doorbell. With
// a ring it may return a doorbell that nobody rang, which means: look again.
func (c *Channel) sleep(r *ring) (received, error) {
	if r == nil {
		return c.readSocket()
	}
	again := received{header: header{typ: TypeDoorbell}}
	r.in.asleep.Store(1)
	// The peer may have written before it could see that we sleep. If it saw,
	// the flag is down and its doorbell is on the way: then that is read, or
	// doorbells would pile up in the socket of a reader that is never idle.
	if r.in.available() && r.in.asleep.CompareAndSwap(1, 0) {
		return again, nil
	}
	f, err := c.readSocket()
	r.in.asleep.Store(0)
	c.receive.spin.slept()
	if errors.Is(err, ErrHangUp) && r.in.available() {
		return again, nil // what it wrote last comes before its end
	}
	return f, err
}

// nextAnnounced returns the frame on the socket that the ring announced.
func (c *Channel) nextAnnounced() (*Envelope, error) {
	in := &c.receive
	for in.early.bytes == nil || in.early.header.typ == TypeDoorbell {
		f, err := c.readSocket()
		if err != nil {
			return nil, err
		}
		in.early = f
	}
	f := in.early
	in.early, in.announced = received{}, false
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
	if err == nil && (f.header.typ == TypeDoorbell || f.header.typ == TypeFromSocket) {
		err = protocolErrorf("%s out of place", f.header.typ)
	}
	if err != nil {
		if f.file != nil {
			f.file.Close()
		}
		return nil, err
	}
	e.File = f.file
	return e, nil
}
