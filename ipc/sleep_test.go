package ipc

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// A sleeping Receive gets what comes, and ends when it must.
func TestSleep(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(ours, theirs *Channel) error
		want error
	}{
		{"message", func(_, theirs *Channel) error { return theirs.Send(&Envelope{Message: new(Ping)}) }, nil},
		{"large message", func(_, theirs *Channel) error {
			return theirs.Send(&Envelope{Message: &Log{Message: string(make([]byte, DefaultRingSize))}})
		}, nil},
		{"message with a descriptor", func(_, theirs *Channel) error {
			return theirs.Send(&Envelope{Message: &Attach{Segment: 1, Size: 1}, File: os.Stderr})
		}, nil},
		{"hang-up", func(_, theirs *Channel) error { return theirs.Close() }, ErrHangUp},
		{"close", func(ours, _ *Channel) error { return ours.Close() }, ErrClosed},
		{"deadline", func(ours, _ *Channel) error {
			return ours.SetReceiveDeadline(time.Now().Add(5 * time.Millisecond))
		}, os.ErrDeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
				ours, theirs := pair(t)
				got := make(chan error, 1)
				go func() {
					e, err := ours.Receive()
					if e != nil && e.File != nil {
						e.File.Close()
					}
					got <- err
				}()
				time.Sleep(5 * time.Millisecond) // so that it most likely sleeps
				if err := c.do(ours, theirs); err != nil {
					t.Fatal(err)
				}
				within(t, "Receive", func() {
					if err := <-got; !errors.Is(err, c.want) {
						t.Errorf("Receive() = %v, want %v", err, c.want)
					}
				})
			})
		})
	}
}

// A frame on the socket wakes its reader by itself, who may be asleep again
// before the writer comes to do anything more: the word is the reader's then.
func TestFrameOnTheSocketLeavesTheWord(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, []string{CapabilityRing})
	if !b.arm(wakeReceiver) {
		t.Fatal("something is in the ring")
	}
	mustSend(t, a, &Envelope{Message: &Log{Message: string(make([]byte, DefaultRingSize))}})
	mustReceive(t, b)
	if !b.arm(wakeReceiver) {
		t.Fatal("something is in the ring")
	}
	time.Sleep(5 * time.Millisecond)
	if got := b.ring.Load().in.asleep.Load(); got != wakeReceiver {
		t.Errorf("the word is %d by now, and the next message wakes nobody", got)
	}
}

// A peer that cannot wait on the word asks for a doorbell, and gets one.
func TestDoorbell(t *testing.T) {
	noLeaks(t)
	c, in, out, peer := hostileRing(t)
	for range 3 {
		out.asleep.Store(wakeByDoor)
		mustSend(t, c, &Envelope{ID: 7, Message: new(Ping)})
		mustSend(t, c, &Envelope{ID: 8, Message: new(Ping)}) // it is awake by now
		if got := out.asleep.Load(); got != awake {
			t.Errorf("the word is %d after the doorbell", got)
		}
		for want := range uint64(2) {
			if e := mustReceive(t, peer); e.ID != 7+want {
				t.Errorf("message %d came", e.ID)
			}
		}
	}
	// One that comes here wakes nobody, and harms nobody.
	sendRaw(t, peer.socket.conn, doorbellFrame)
	_ = in
	mustSend(t, peer, &Envelope{ID: 9, Message: new(Ping)})
	if e := mustReceive(t, c); e.ID != 9 {
		t.Errorf("message %d came", e.ID)
	}
}

// One that waits on the word alone hears of a frame on the socket as well, by its
// announcement; one that waits on the socket needs no doorbell beside it.
func TestAnnouncementWakes(t *testing.T) {
	noLeaks(t)
	for how, want := range map[uint32]uint32{wakeOnWord: awake, 31: awake, wakeByDoor: wakeByDoor} {
		c, _, out, peer := hostileRing(t)
		large := &Log{Message: string(make([]byte, DefaultRingSize))}
		// The peer's reader of the socket has its hands full with the first, and
		// does not touch the word.
		mustSend(t, c, &Envelope{ID: 1, Message: large})
		time.Sleep(5 * time.Millisecond)
		out.asleep.Store(how)
		mustSend(t, c, &Envelope{ID: 2, Message: large})
		if got := out.asleep.Load(); got != want {
			t.Errorf("the word was %d and is %d, want %d", how, got, want)
		}
		for id := range uint64(2) {
			if e := mustReceive(t, peer); e.ID != id+1 {
				t.Errorf("message %d came", e.ID)
			}
		}
	}
}

// countingPeer returns a peer whose Serve counts what it handles, and the other
// end of its ring.
func countingPeer(t *testing.T) (p *Peer, other *Channel, handled *atomic.Int64) {
	t.Helper()
	a, other := channelPair(t, []string{CapabilityRing})
	p, handled = NewPeer(a), new(atomic.Int64)
	go p.Serve(func(*Envelope) error { handled.Add(1); return nil })
	t.Cleanup(func() { p.Close(); <-p.Done() })
	return p, other, handled
}

// mustServe sends a message that nobody but Serve is there for.
func mustServe(t *testing.T, other *Channel, handled *atomic.Int64) {
	t.Helper()
	before := handled.Load()
	mustSend(t, other, &Envelope{Message: new(Ping)})
	within(t, "Serve", func() {
		for handled.Load() == before {
			time.Sleep(100 * time.Microsecond)
		}
	})
}

// A helper sleeps until its context ends, until it is roused, or until the
// message has come that it waits for; Serve goes on after it.
func TestHelperSleeps(t *testing.T) {
	noLeaks(t)
	p, b, handled := countingPeer(t)
	served := func() {
		t.Helper()
		mustServe(t, b, handled)
	}
	for range 20 {
		served()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Millisecond, cancel)
		// Serve may have the turn; then Help does nothing.
		help := func(what string, until func() bool, ctxs ...context.Context) {
			t.Helper()
			within(t, what, func() {
				for !until() {
					p.Help(until, ctxs...)
				}
			})
		}
		help("Help, cancelled", func() bool { return ctx.Err() != nil }, t.Context(), ctx)
		served()
		var over atomic.Bool
		time.AfterFunc(2*time.Millisecond, func() { over.Store(true); p.Rouse() })
		help("Help, roused", over.Load)
		served()
		before := handled.Load()
		time.AfterFunc(2*time.Millisecond, func() { mustSend(t, b, &Envelope{Message: new(Ping)}) })
		help("Help", func() bool { return handled.Load() > before }, t.Context())
	}
}

// Whatever a peer writes into the word, a sleeper hears of its end, and of what
// its own side wants.
func TestSpoiltWord(t *testing.T) {
	noLeaks(t)
	for round := range 4 {
		channel, in, _, peer := hostileRing(t)
		p := NewPeer(channel)
		go p.Serve(func(*Envelope) error { return nil })
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for n := uint32(0); ; n++ {
				select {
				case <-stop:
					return
				default:
					in.asleep.Store(n % 5)
				}
			}
		}()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Millisecond, cancel)
		within(t, "Help", func() { p.Help(func() bool { return false }, ctx) })
		if round%2 == 0 {
			within(t, "Close", func() { p.Close() })
		} else {
			close(stop)
			<-stopped
			peer.Close()
		}
		within(t, "Serve", func() { <-p.Done() })
		if round%2 == 0 {
			close(stop)
			<-stopped
		}
	}
}

// A peer that wakes this side for nothing, again and again, does not get a core
// of it.
func TestIdleWakes(t *testing.T) {
	noLeaks(t)
	channel, in, _, peer := hostileRing(t)
	var sleeps atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for channel.arm(wakeReceiver) {
			_ = channel.rest(wakeReceiver)
			sleeps.Add(1)
		}
	}()
	for until := time.Now().Add(100 * time.Millisecond); time.Now().Before(until); {
		in.asleep.Store(0)
		futexWake(in.asleep, ^uint32(0))
	}
	peer.Close()
	within(t, "the reader", func() { <-done })
	if n := sleeps.Load(); n > 200 {
		t.Errorf("the reader slept %d times in 100 ms", n)
	}
}

// What was put is there for a reader who looks, and wakes one who sleeps only
// once it is flushed, or followed by a message that is sent.
func TestPut(t *testing.T) {
	noLeaks(t)
	c, _, out, peer := hostileRing(t)
	for name, tell := range map[string]func() error{
		"flush":   c.Flush,
		"send":    func() error { return c.Send(&Envelope{ID: 2, Message: new(Ping)}) },
		"a frame": func() error { return c.Send(&Envelope{ID: 2, Message: &Attach{Segment: 1}, File: os.Stderr}) },
	} {
		out.asleep.Store(wakeOnWord)
		if err := c.Put(&Envelope{ID: 1, Message: new(Ping)}); err != nil {
			t.Fatal(err)
		}
		if got := out.asleep.Load(); got != wakeOnWord {
			t.Errorf("%s: the word is %d before", name, got)
		}
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if got := out.asleep.Load(); got != awake {
			t.Errorf("%s: the word is %d after", name, got)
		}
		if e := mustReceive(t, peer); e.ID != 1 {
			t.Errorf("%s: message %d came", name, e.ID)
		}
		if name != "flush" {
			e := mustReceive(t, peer)
			if e.File != nil {
				e.File.Close()
			}
		}
	}
	c.Close()
	if err := c.Put(&Envelope{Message: new(Ping)}); !errors.Is(err, ErrClosed) {
		t.Errorf("Put() = %v", err)
	}
	if err := c.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush() = %v", err)
	}
}

// Who sleeps on the word is woken ahead of a message; who sleeps on the socket,
// or has no ring, is left alone.
func TestAlert(t *testing.T) {
	noLeaks(t)
	c, _, out, _ := hostileRing(t)
	for how, want := range map[uint32]uint32{awake: awake, wakeByDoor: wakeByDoor, wakeOnWord: awake, 31: awake} {
		out.asleep.Store(how)
		c.Alert()
		if got := out.asleep.Load(); got != want {
			t.Errorf("the word was %d and is %d, want %d", how, got, want)
		}
	}
	c.Close()
	c.Alert()
	plain, _ := hostilePair(t)
	plain.Alert()
}

// A reader who was alerted gets the message that follows, whenever it follows.
func TestAlerted(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, []string{CapabilityRing})
	for i := range uint64(300) {
		got := make(chan *Envelope, 1)
		go func() { got <- mustReceive(t, b) }()
		time.Sleep(time.Duration(i%7) * 50 * time.Microsecond)
		a.Alert()
		time.Sleep(time.Duration(i%11) * 40 * time.Microsecond)
		mustSend(t, a, &Envelope{ID: i, Message: new(Ping)})
		within(t, "Receive", func() {
			if e := <-got; e.ID != i {
				t.Errorf("message %d came, want %d", e.ID, i)
			}
		})
	}
}

// Alerts with nothing after them do not get a peer a core of this side.
func TestIdleAlerts(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, []string{CapabilityRing})
	received := make(chan error, 1)
	go func() {
		_, err := b.Receive()
		received <- err
	}()
	time.Sleep(10 * time.Millisecond)
	before := processorTime(t)
	alerts := 0
	for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); alerts++ {
		a.Alert()
		time.Sleep(200 * time.Microsecond)
	}
	if used := processorTime(t) - before; used > 150*time.Millisecond {
		t.Errorf("%d alerts took %v of processor time in 300 ms", alerts, used)
	}
	a.Close()
	within(t, "Receive", func() {
		if err := <-received; !errors.Is(err, ErrHangUp) {
			t.Error(err)
		}
	})
}

// A call that comes while the helper is at work wakes Serve; one that comes when
// it has said that it is back is left to it.
func TestAttend(t *testing.T) {
	noLeaks(t)
	p, b, handled := countingPeer(t)
	for range 50 {
		before := handled.Load()
		p.Attend()
		mustSend(t, b, &Envelope{Message: new(Ping)})
		within(t, "Help", func() {
			for handled.Load() == before {
				p.Help(func() bool { return handled.Load() > before }, t.Context())
			}
		})
	}
	// Without a helper to come, Serve is woken again.
	mustServe(t, b, handled)
}
