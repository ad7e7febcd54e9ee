package ipc

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// hostileRing returns a channel on a ring and the peer's hands on that ring:
// in is what the channel reads, out what it writes.
func hostileRing(t testing.TB) (c *Channel, in, out lane, peer *Channel) {
	t.Helper()
	c, peer = channelPair(t, []string{CapabilityRing})
	r := peer.ring.Load()
	return c, r.out, r.in, peer
}

func TestHostileWriter(t *testing.T) {
	ping := frameOf(t, Envelope{ID: 1, Message: &Ping{}})
	for _, c := range []struct {
		name  string
		do    func(l lane)
		error string
	}{
		{"claims more than the ring holds", func(l lane) { l.written.Store(DefaultRingSize + 8) }, "65544 away"},
		{"claims 2^63", func(l lane) { l.written.Store(1 << 63) }, "away from the reader's"},
		{"goes back", func(l lane) { l.written.Store(math.MaxUint64) }, "-1 away"},
		{"less than a header", func(l lane) { l.written.Store(16) }, "less than a header"},
		{"an empty frame", func(l lane) { l.written.Store(64) }, "below the header's"},
		{"frame longer than what is there", func(l lane) {
			copy(l.data, put32(frameOf(t, Envelope{Message: &Ping{}}), 0, 48))
			l.written.Store(24)
		}, "48 bytes, 24 pending"},
		{"frame with a descriptor", func(l lane) {
			b := frameOf(t, Envelope{Message: &Attach{}, File: standIn(1)})
			copy(l.data, b)
			l.written.Store(uint64(len(b)))
		}, "those go by the socket"},
		{"doorbell in the ring", func(l lane) {
			copy(l.data, doorbellFrame)
			l.written.Store(uint64(len(doorbellFrame)))
		}, "doorbell out of place"},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			channel, in, _, _ := hostileRing(t)
			c.do(in)
			_, err := channel.Receive()
			wantProtocolError(t, err, c.error)
			_, err = channel.Receive()
			wantProtocolError(t, err, c.error)
		})
	}
	t.Run("moves the reader's own counter", func(t *testing.T) {
		noLeaks(t)
		channel, in, _, peer := hostileRing(t)
		for range 3 {
			mustSend(t, peer, &Envelope{ID: 1, Message: &Ping{}})
			in.read.Store(rand.Uint64())
			mustReceive(t, channel)
		}
	})
	t.Run("changes the frame after it was checked", func(t *testing.T) {
		noLeaks(t)
		channel, in, _, _ := hostileRing(t)
		l := &channel.ring.Load().in
		buf := make([]byte, len(l.data))
		copy(in.data, ping)
		in.written.Store(uint64(len(ping)))
		h, b, err := l.readFrame(buf)
		if err != nil {
			t.Fatal(err)
		}
		clear(in.data)
		if e, err := parseBody(&h, b); err != nil || e.ID != 1 {
			t.Fatal(e, err)
		}
	})
}

func TestHostileReader(t *testing.T) {
	for name, read := range map[string]uint64{"ahead": 48, "far ahead": 1 << 63, "behind": math.MaxUint64 - DefaultRingSize} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			channel, _, out, _ := hostileRing(t)
			out.read.Store(read)
			err := channel.Send(&Envelope{Message: &Ping{}})
			wantProtocolError(t, err, "away from the writer's")
			if again := channel.Send(&Envelope{Message: &Ping{}}); again != err {
				t.Error(again)
			}
		})
	}
	t.Run("moves the writer's own counter", func(t *testing.T) {
		noLeaks(t)
		channel, _, out, peer := hostileRing(t)
		for i := range uint64(3) {
			out.written.Store(rand.Uint64())
			mustSend(t, channel, &Envelope{ID: i, Message: &Ping{}})
			if e := mustReceive(t, peer); e.ID != i {
				t.Fatal(e.ID)
			}
		}
	})
	t.Run("always says that it sleeps", func(t *testing.T) {
		noLeaks(t)
		channel, _, out, peer := hostileRing(t)
		channel.SetWriteTimeout(50 * time.Millisecond)
		// What nobody takes keeps the peer from reading its socket.
		mustSend(t, channel, &Envelope{Message: &Log{Message: string(make([]byte, DefaultRingSize))}})
		mustReceiveRing(t, peer)
		var err error
		within(t, "Send", func() {
			for err == nil {
				out.asleep.Store(1)
				if err = channel.Send(&Envelope{Message: &Ping{}}); err == nil {
					mustReceiveRing(t, peer)
				}
			}
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

// mustReceiveRing takes a frame without ever looking at the socket.
func mustReceiveRing(t testing.TB, c *Channel) {
	l := &c.ring.Load().in
	if _, b, err := l.readFrame(make([]byte, len(l.data))); b == nil || err != nil {
		t.Error("nothing in the ring", err)
	}
}

func TestUnannouncedFrameOnTheSocket(t *testing.T) {
	for _, m := range []Message{&Ping{}, &fromSocket{}} {
		noLeaks(t)
		channel, _, _, peer := hostileRing(t)
		// One that is announced, one doorbell, one that is not.
		mustSend(t, peer, &Envelope{ID: 9, Message: &Log{Message: string(make([]byte, DefaultRingSize))}})
		sendRaw(t, peer.socket.conn, doorbellFrame)
		sendRaw(t, peer.socket.conn, frameOf(t, Envelope{ID: 1, Message: m}))
		if e := mustReceive(t, channel); e.ID != 9 {
			t.Fatal(e)
		}
		_, err := channel.Receive()
		wantProtocolError(t, err, "does not announce")
	}
	t.Run("without a ring", func(t *testing.T) {
		noLeaks(t)
		for _, b := range [][]byte{doorbellFrame, announcement} {
			channel, peer := hostilePair(t)
			sendRaw(t, peer, b)
			_, err := channel.Receive()
			wantProtocolError(t, err, "out of place")
		}
	})
	t.Run("beside one that is announced", func(t *testing.T) {
		noLeaks(t)
		channel, in, _, peer := hostileRing(t)
		announce(in)
		// All in one read: what lies behind the first frame is not forgotten.
		one := frameOf(t, Envelope{ID: 4, Message: &Ping{}})
		sendRaw(t, peer.socket.conn, append(append(append([]byte(nil), one...), doorbellFrame...), one...))
		if e := mustReceive(t, channel); e.ID != 4 {
			t.Fatal(e)
		}
		_, err := channel.Receive()
		wantProtocolError(t, err, "does not announce")
	})
	t.Run("announced, sent late and in pieces", func(t *testing.T) {
		noLeaks(t)
		channel, in, _, peer := hostileRing(t)
		frame := frameOf(t, Envelope{ID: 4, Message: &Log{Message: string(make([]byte, 1000))}})
		announce(in)
		go func() {
			for i := 0; i < len(frame); i += 300 {
				time.Sleep(3 * time.Millisecond)
				sendRaw(t, peer.socket.conn, frame[i:min(i+300, len(frame))])
			}
		}()
		within(t, "Receive", func() {
			if e := mustReceive(t, channel); e.ID != 4 {
				t.Error(e)
			}
		})
	})
	t.Run("announced, never sent", func(t *testing.T) {
		noLeaks(t)
		channel, in, _, peer := hostileRing(t)
		announce(in)
		channel.SetReceiveDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := channel.Receive(); err == nil {
			t.Fatal("a message out of nothing")
		}
		channel.SetReceiveDeadline(time.Time{})
		// A deadline loses nothing.
		sendRaw(t, peer.socket.conn, frameOf(t, Envelope{ID: 4, Message: &Ping{}}))
		if e := mustReceive(t, channel); e.ID != 4 {
			t.Fatal(e)
		}
		peer.Close()
		if _, err := channel.Receive(); !errors.Is(err, ErrHangUp) {
			t.Fatal(err)
		}
	})
}

// announce writes the ring's first frame: one that says that the next is on the
// socket.
func announce(in lane) {
	copy(in.data, announcement)
	in.written.Store(uint64(len(announcement)))
}

// A peer that changes everything in the ring at random at every moment gets an
// error or well-formed messages, never a crash.
func TestRingUnderChange(t *testing.T) {
	noLeaks(t)
	good := frameOf(t, Envelope{ID: 1, Message: &Done{}, State: smallTable()})
	for round := range 200 {
		channel, in, _, peer := hostileRing(t)
		stop := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			r := rand.New(rand.NewPCG(uint64(round), 3))
			for n := uint64(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				// The data is written by frames only: the race detector would
				// rightly object to more, and bytes are copied before use anyway.
				switch r.IntN(4) {
				case 0:
					in.read.Store(r.Uint64())
				case 1:
					n += uint64(len(good))
					in.written.Store(n)
				case 2:
					in.written.Store(r.Uint64() >> r.IntN(64))
				case 3:
					in.asleep.Store(r.Uint32() >> r.IntN(32))
				}
			}
		}()
		channel.SetReceiveDeadline(time.Now().Add(5 * time.Millisecond))
		for {
			if _, err := channel.Receive(); err != nil {
				break
			}
		}
		close(stop)
		<-stopped
		channel.Close()
		peer.Close()
	}
}

// A peer that floods the socket with doorbells keeps nobody from its ring, nor
// from closing the channel.
func TestDoorbellFlood(t *testing.T) {
	noLeaks(t)
	channel, _, _, peer := hostileRing(t)
	flood := slices.Repeat(doorbellFrame, 500)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if _, err := peer.socket.conn.Write(flood); err != nil {
				return
			}
		}
	}()
	for i := range uint64(200) {
		mustSend(t, peer, &Envelope{ID: i, Message: new(Ping)})
		within(t, "Receive", func() {
			if e := mustReceive(t, channel); e.ID != i {
				t.Errorf("message %d came, want %d", e.ID, i)
			}
		})
	}
	within(t, "Close", func() { channel.Close() })
	within(t, "the flood", func() { <-stopped })
}
