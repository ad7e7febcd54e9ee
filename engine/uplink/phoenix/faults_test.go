package phoenix

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// The connection breaks in the middle of a message: it is sent again, whole,
// whether or not it may be resent, as the server cannot have seen it.
func TestBreakInsideMessage(t *testing.T) {
	for _, framing := range []Framing{Fragmented, Whole} {
		s := newServer(t, nil)
		s.onOpen = func(c *peer) bool { return true }
		o := s.options()
		o.Framing = framing
		socket, c := s.join(o, "run:1")
		const size = 2 << 20
		_, err := c.Push(testContext(t), "big", stream{n: size, before: func(written int64) {
			if written == size/2 && s.connections() == 1 {
				s.mu.Lock()
				s.peers[0].CloseNow()
				s.mu.Unlock()
			}
		}}, PushOptions{})
		if err != nil {
			t.Error(err)
		}
		if got := s.events("big"); len(got) != 1 || len(got[0]) != size+2 {
			t.Errorf("%d messages", len(got))
		}
		if socket.Stats().Connects != 2 {
			t.Errorf("%+v", socket.Stats())
		}
	}
}

// A payload that fails is its own push's affair.
func TestPayloadFails(t *testing.T) {
	s := newServer(t, nil)
	socket, c := s.join(s.options(), "run:1")
	ctx := testContext(t)
	if _, err := c.Push(ctx, "x", stream{n: 1 << 20, fail: 1}, PushOptions{}); !errors.Is(err, errPayload) {
		t.Errorf("early: %v", err)
	}
	if socket.Stats().Connects != 1 {
		t.Error("nothing was sent, and the connection was given up")
	}
	if _, err := c.Push(ctx, "x", stream{n: 1 << 20, fail: 1 << 19}, PushOptions{Resend: true}); !errors.Is(err, errPayload) {
		t.Errorf("late: %v", err)
	}
	if _, err := c.Push(ctx, "x", JSON(func() {}), PushOptions{}); err == nil {
		t.Error("a function was encoded")
	}
	if _, err := c.Push(ctx, "x", JSON(1), PushOptions{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if got := s.events("x"); len(got) != 1 || got[0] != "1" {
		t.Errorf("the server received %d messages", len(got))
	}
}

// A server that stops reading stops the sender; memory stays where it is.
func TestServerStopsReading(t *testing.T) {
	resume := make(chan struct{})
	s := newServer(t, nil)
	s.handle = func(c *peer, m inbound) bool {
		c.ok(m, "{}")
		if m.Event == "stall" {
			<-resume
		}
		return true
	}
	o := s.options()
	o.Outbox = 4
	socket, c := s.join(o, "run:1")
	ctx := testContext(t)
	if _, err := c.Push(ctx, "stall", JSON(1), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	before := heap()
	const size = 24 << 20
	progress := make(chan int64, size/(64<<10)+1)
	done := make(chan error, 6)
	go func() {
		_, err := c.Push(ctx, "big", stream{n: size, before: func(n int64) { progress <- n }}, PushOptions{})
		done <- err
	}()
	for range 5 {
		go func() {
			_, err := c.Push(ctx, "small", JSON(1), PushOptions{})
			done <- err
		}()
	}
	var reached int64
	for stalled := false; !stalled; {
		select {
		case reached = <-progress:
		case <-time.After(200 * time.Millisecond):
			stalled = true
		}
	}
	if reached > size/2 {
		t.Errorf("sent %d bytes to a server that does not read", reached)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d bytes of heap for a message that waits", grown)
	}
	// One is being sent and three wait: the outbox is full.
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := c.Push(short, "x", JSON(1), PushOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pushed into a full outbox: %v", err)
	}
	if n := socket.Stats().Outbox; n != 4 {
		t.Errorf("%d in the outbox", n)
	}
	close(resume)
	for range 6 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestHeartbeat(t *testing.T) {
	s := newServer(t, nil)
	s.onOpen = func(c *peer) bool {
		if c.count > 1 {
			return true
		}
		for { // answers nothing
			if _, _, err := c.Read(context.Background()); err != nil {
				return false
			}
		}
	}
	o := s.options()
	o.Heartbeat = 20 * time.Millisecond
	lost := make(chan error, 10)
	o.OnDisconnect = func(err error) { lost <- err }
	socket := s.dial(o)
	if err := <-lost; !errors.Is(err, ErrHeartbeat) {
		t.Errorf("lost by %v", err)
	}
	eventually(t, "the second connection lives on heartbeats", func() bool { return len(s.events("heartbeat")) >= 5 })
	if got := socket.Stats(); got.Connects != 2 {
		t.Errorf("%+v", got)
	}
}

func TestHeartbeatTolerance(t *testing.T) {
	s := newServer(t, nil)
	s.onOpen = func(c *peer) bool {
		for {
			if _, _, err := c.Read(context.Background()); err != nil {
				return false
			}
		}
	}
	o := s.options()
	o.Heartbeat = 5 * time.Millisecond
	o.HeartbeatTolerance = -1
	socket := s.dial(o)
	time.Sleep(100 * time.Millisecond)
	got := socket.Stats()
	if got.Connects != 1 || got.Messages < 3 {
		t.Errorf("%+v", got)
	}
	socket.mu.Lock()
	defer socket.mu.Unlock()
	if n := len(socket.pending); n > 1 {
		t.Errorf("%d unanswered heartbeats kept", n)
	}
}

// A server that closes the connection because of one message's size does not
// get it for ever.
func TestTooBigForServer(t *testing.T) {
	for _, framing := range []Framing{Fragmented, Whole} {
		s := newServer(t, nil)
		s.onOpen = func(c *peer) bool {
			c.SetReadLimit(1 << 20)
			return true
		}
		o := s.options()
		o.Framing = framing
		socket, c := s.join(o, "run:1")
		other := socket.Channel("run:2", nil)
		ctx := testContext(t)
		if _, err := other.Join(ctx); err != nil {
			t.Fatal(err)
		}
		_, err := c.Push(ctx, "big", stream{n: 4 << 20}, PushOptions{Resend: true})
		var big *TooBigError
		if !errors.As(err, &big) {
			t.Errorf("got %v", err)
		}
		if _, err := other.Push(ctx, "x", JSON(1), PushOptions{Resend: true}); err != nil {
			t.Errorf("the other run: %v", err)
		}
	}
}

func TestMaxSends(t *testing.T) {
	s := newServer(t, func(c *peer, m inbound) bool {
		if m.Event == "poison" {
			return false
		}
		c.ok(m, "{}")
		return true
	})
	o := s.options()
	o.MaxSends = 3
	_, c := s.join(o, "run:1")
	_, err := c.Push(testContext(t), "poison", JSON(1), PushOptions{Resend: true})
	var big *TooBigError
	if !errors.As(err, &big) || big.Sends != 3 || len(s.events("poison")) != 3 {
		t.Errorf("%v; sent %d times", err, len(s.events("poison")))
	}
}

func TestCompression(t *testing.T) {
	for _, framing := range []Framing{Fragmented, Whole} {
		s := newServer(t, nil)
		s.opts.CompressionMode = websocket.CompressionContextTakeover
		o := s.options()
		o.Compress = true
		o.Framing = framing
		socket, c := s.join(o, "run:1")
		ctx := testContext(t)
		const size = 1 << 20
		for range 2 {
			if _, err := c.Push(ctx, "big", stream{n: size}, PushOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, got := range s.events("big") {
			if len(got) != size+2 || strings.Trim(got, `x"`) != "" {
				t.Errorf("%d bytes arrived", len(got))
			}
		}
		socket.mu.Lock()
		wire := socket.conn.wire.written.Load()
		socket.mu.Unlock()
		if wire > size/10 {
			t.Errorf("%d bytes on the wire", wire)
		}
	}
}

// Fragments of any size, deflated or not, make up the message: the end of the
// last block, which is left out, may lie across two of them.
func TestFragments(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, compress := range []bool{false, true} {
		for _, frame := range []int{1, 2, 3, 5, 64, 125, 126, 1000} {
			s := newServer(t, nil)
			s.opts.CompressionMode = websocket.CompressionContextTakeover
			o := s.options()
			o.Compress, o.CompressAbove, o.MaxFrame = compress, 1, frame
			_, c := s.join(o, "run:1")
			var want []string
			for n := range 20 {
				text := make([]byte, n*frame/2)
				for i := range text {
					text[i] = byte('a' + random.IntN(26))
				}
				want = append(want, `"`+string(text)+`"`)
				if _, err := c.Push(testContext(t), "text", Raw([]byte(want[n])), PushOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.events("text"); !slices.Equal(got, want) {
				t.Errorf("compress=%t, frames of %d: %q", compress, frame, got)
			}
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s := newServer(t, func(c *peer, m inbound) bool {
		if m.Event == "phx_join" {
			c.ok(m, "{}")
		}
		return true
	})
	socket, c := s.join(s.options(), "run:1")
	done := make(chan error, 1)
	go func() {
		_, err := c.Push(context.Background(), "silent", JSON(1), PushOptions{Resend: true})
		done <- err
	}()
	eventually(t, "the push is sent", func() bool { return len(s.events("silent")) == 1 })
	socket.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Push(t.Context(), "x", JSON(1), PushOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
	if _, err := socket.Channel("y", nil).Join(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a new channel: %v", err)
	}
}

func TestCancelledPush(t *testing.T) {
	s := newServer(t, func(c *peer, m inbound) bool {
		if m.Event != "silent" {
			c.ok(m, "{}")
		}
		return true
	})
	socket, c := s.join(s.options(), "run:1")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Push(ctx, "silent", JSON(1), PushOptions{Timeout: -1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Push(t.Context(), "x", JSON(1), PushOptions{}); err != nil {
		t.Error(err)
	}
	if n := socket.Stats().Outbox; n != 0 {
		t.Errorf("%d left in the outbox", n)
	}
}
