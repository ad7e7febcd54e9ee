package ipc

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// servedPair returns a serving peer and the channel at its other end, closed
// and ended with the test.
func servedPair(t *testing.T, pair func(testing.TB) (*Channel, *Channel), handle func(*Envelope) error) (*Peer, *Channel) {
	t.Helper()
	a, b := pair(t)
	p := NewPeer(a)
	go p.Serve(handle)
	t.Cleanup(func() { p.Close(); <-p.Done() })
	return p, b
}

func noMessages(e *Envelope) error { return errors.New("unexpected " + e.Message.Type().String()) }

func onEach(t *testing.T, f func(t *testing.T, pair func(testing.TB) (*Channel, *Channel))) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			f(t, transport.pair)
		})
	}
}

func TestRepliesInAnyOrder(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		p, other := servedPair(t, pair, noMessages)
		const n = 50
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() {
				e, err := p.Call(t.Context(), &Envelope{Message: &Execute{Code: uint64(i)}})
				if err != nil {
					t.Error(err)
				} else if done, ok := e.Message.(*Done); !ok || done.Started != uint64(i) {
					t.Errorf("call %d: %+v", i, e.Message)
				}
			})
		}
		requests := make([]*Envelope, n)
		for i := range requests {
			requests[i] = mustReceive(t, other)
		}
		rand.Shuffle(n, func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
		for _, e := range requests {
			mustSend(t, other, &Envelope{ID: e.ID, Message: &Done{Started: e.Message.(*Execute).Code}})
		}
		calls.Wait()
	})
}

func TestBreachesOfReply(t *testing.T) {
	for _, c := range []struct {
		name    string
		request Message
		replies func(id uint64) []*Envelope
		error   string
	}{
		{"never asked", &Execute{}, func(id uint64) []*Envelope { return []*Envelope{{ID: id + 1, Message: &Done{}}} }, "never made"},
		{"id 0", &Execute{}, func(id uint64) []*Envelope { return []*Envelope{{Message: &Fail{}}} }, "never made"},
		{"twice", &Execute{}, func(id uint64) []*Envelope {
			return []*Envelope{{ID: id, Message: &Done{}}, {ID: id, Message: &Done{}}}
		}, "answered before"},
		{"done, then fail", &Execute{}, func(id uint64) []*Envelope {
			return []*Envelope{{ID: id, Message: &Done{}}, {ID: id, Message: &Fail{}}}
		}, "answered before"},
		{"execute by pong", &Execute{}, func(id uint64) []*Envelope { return []*Envelope{{ID: id, Message: &Pong{}}} }, "which was execute"},
		{"ping by done", &Ping{}, func(id uint64) []*Envelope { return []*Envelope{{ID: id, Message: &Done{}}} }, "which was ping"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
				p, other := servedPair(t, pair, noMessages)
				r, err := p.Start(&Envelope{Message: c.request}, nil)
				if err != nil {
					t.Fatal(err)
				}
				replies := c.replies(mustReceive(t, other).ID)
				for _, e := range replies {
					mustSend(t, other, e)
				}
				if e, err := r.Wait(t.Context()); len(replies) == 1 {
					wantProtocolError(t, err, c.error)
				} else if err != nil || e.Message.Type() != TypeDone {
					t.Fatal(e, err)
				}
				within(t, "Serve", func() { <-p.Done() })
				wantProtocolError(t, p.Err(), c.error)
				if _, err := other.Receive(); !errors.Is(err, ErrHangUp) {
					t.Error("the channel is open after a breach:", err)
				}
				// A call on what ended says why.
				_, err = p.Call(t.Context(), &Envelope{Message: &Ping{}})
				wantProtocolError(t, err, c.error)
			})
		})
	}
}

func TestCancel(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		p, other := servedPair(t, pair, noMessages)
		cause := errors.New("step timed out")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, cause)
		defer cancel()
		r, err := p.Start(&Envelope{Message: &Execute{}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // one cancel, however often it is waited for
			if _, err := r.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if e := mustReceive(t, other); e.ID != r.ID || e.Message.Type() != TypeExecute {
			t.Fatal(e)
		}
		if e := mustReceive(t, other); e.ID != r.ID || e.Message.(*Cancel).Reason != cause.Error() {
			t.Fatal(e)
		}
		mustSend(t, other, &Envelope{ID: r.ID, Message: &Fail{Name: "Cancelled"}})
		e, err := r.Wait(context.Background())
		if err != nil || e.Message.(*Fail).Name != "Cancelled" {
			t.Fatal(e, err)
		}
		// Nobody waits for this one's answer; it is no breach.
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := p.Call(ended, &Envelope{Message: &Execute{}}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		late := mustReceive(t, other)
		if e := mustReceive(t, other); e.Message.Type() != TypeCancel || e.ID != late.ID {
			t.Fatal(e)
		}
		mustSend(t, other, &Envelope{ID: late.ID, Message: &Done{}})
		next := make(chan error, 1)
		go func() {
			_, err := p.Call(t.Context(), &Envelope{Message: &Ping{}})
			next <- err
		}()
		mustSend(t, other, &Envelope{ID: mustReceive(t, other).ID, Message: &Pong{}})
		if err := <-next; err != nil {
			t.Fatal(err)
		}
	})
}

// Wait comes back when its context ends, though the peer sends without end.
func TestWaitUnderAFlood(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		var logs int
		p, other := servedPair(t, pair, func(*Envelope) error { logs++; return nil })
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			for other.Send(&Envelope{Message: &Log{}}) == nil {
			}
		}()
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
			within(t, "Wait", func() {
				if _, err := p.Call(ctx, &Envelope{Message: &Execute{}}); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
			cancel()
		}
		p.Close()
		<-flooded
		<-p.Done()
		if logs == 0 {
			t.Error("no message was handled")
		}
	})
}

// What a helper leaves in the ring is handled though no doorbell rings for it.
func TestHelperLeavesTheRest(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, []string{CapabilityRing})
	p := NewPeer(a)
	handled := make(chan uint64, 100)
	go p.Serve(func(e *Envelope) error { handled <- e.ID; return nil })
	defer func() { p.Close(); <-p.Done() }()
	next := uint64(0)
	for range 200 {
		// Take the turn while frames come, then leave before the last of them.
		p.turn.Lock()
		p.disarm()
		for id := range uint64(3) {
			mustSend(t, b, &Envelope{ID: next + id, Message: &Ping{}})
		}
		p.turn.Unlock()
		taken := false
		p.Help(func() bool { was := taken; taken = true; return was })
		for range 3 {
			select {
			case id := <-handled:
				if id != next {
					t.Fatalf("message %d came in place of %d", id, next)
				}
				next++
			case <-time.After(patience):
				t.Fatal("a message was left in the ring")
			}
		}
	}
}

// An error that a helper meets is Serve's to return.
func TestHelperFails(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, []string{CapabilityRing})
	p := NewPeer(a)
	failure := errors.New("handle failed")
	go p.Serve(func(*Envelope) error { return failure })
	time.Sleep(5 * time.Millisecond)
	p.turn.Lock()
	p.disarm()
	mustSend(t, b, &Envelope{Message: &Ping{}})
	p.turn.Unlock()
	p.Help(func() bool { return false }, t.Context())
	within(t, "Serve", func() { <-p.Done() })
	if !errors.Is(p.Err(), failure) {
		t.Fatal(p.Err())
	}
}

// Who waits for a reply does the work that messages bring, and then gets the
// reply; that it came is told meanwhile.
func TestWorkWhileWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		a, other := pair(t)
		p := NewPeer(a)
		work, answered := make(chan func(), 1), make(chan struct{})
		done := 0
		go p.Serve(func(e *Envelope) error {
			work <- func() { // that the reply comes while it is at work
				mustSend(t, other, &Envelope{ID: e.ID, Message: &Done{}})
				within(t, "the reply", func() { <-answered })
				done++
			}
			return nil
		})
		defer func() { p.Close(); <-p.Done() }()
		r, err := p.StartObserved(&Envelope{Message: &Execute{}}, nil, func() { close(answered) })
		if err != nil {
			t.Fatal(err)
		}
		mustSend(t, other, &Envelope{ID: mustReceive(t, other).ID, Message: &Forward{Step: "x"}})
		e, f, err := r.WaitOr(t.Context(), work)
		if f == nil || err != nil {
			t.Fatal(e, err)
		}
		f()
		e, f, err = r.WaitOr(t.Context(), work)
		if f != nil || err != nil || e.Message.Type() != TypeDone || done != 1 {
			t.Fatal(e, done, err)
		}
	})
}

func TestHandleClosesFileOnError(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		p, other := servedPair(t, pair, noMessages)
		mustSend(t, other, &Envelope{Message: &Attach{}, File: memfd(t)})
		within(t, "Serve", func() { <-p.Done() })
	})
}

// Close may be called by handle, as on a shutdown.
func TestCloseInHandle(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		var p *Peer
		started := make(chan struct{})
		p, other := servedPair(t, pair, func(*Envelope) error { <-started; return p.Close() })
		close(started)
		mustSend(t, other, &Envelope{Message: &Shutdown{}})
		within(t, "Serve", func() { <-p.Done() })
		if !errors.Is(p.Err(), ErrClosed) {
			t.Fatal(p.Err())
		}
	})
}

// A request whose frame is too large fails alone.
func TestRequestTooLarge(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		p, other := servedPair(t, pair, noMessages)
		var size *FrameSizeError
		if _, err := p.Call(t.Context(), &Envelope{Message: &Execute{Run: string(make([]byte, MaxFrameSize))}}); !errors.As(err, &size) {
			t.Fatal(err)
		}
		go func() {
			if e, err := other.Receive(); err == nil {
				other.Send(&Envelope{ID: e.ID, Message: &Pong{}})
			}
		}()
		if _, err := p.Call(t.Context(), &Envelope{Message: &Ping{}}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCallBeforeServe(t *testing.T) {
	onEach(t, func(t *testing.T, pair func(testing.TB) (*Channel, *Channel)) {
		a, other := pair(t)
		p := NewPeer(a)
		got := make(chan error, 1)
		go func() {
			_, err := p.Call(t.Context(), &Envelope{Message: &Ping{}})
			got <- err
		}()
		mustSend(t, other, &Envelope{ID: mustReceive(t, other).ID, Message: &Pong{}})
		go p.Serve(noMessages)
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		p.Close()
		<-p.Done()
	})
}
