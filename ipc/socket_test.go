package ipc

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/shm"
)

func attachFrame(t testing.TB, segment shm.SegmentID) []byte {
	return frameOf(t, Envelope{Message: &Attach{Segment: segment, Size: 1}, File: standIn(1)})
}

func TestEveryMessageCrossesEveryTransport(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			a, b := transport.pair(t)
			var count uint64
			sentBefore, _ := a.Bytes()
			_, receivedBefore := b.Bytes()
			for _, c := range vectorCases() {
				if typ := c.e.Message.Type(); typ == TypeDoorbell || typ == TypeFromSocket {
					continue
				}
				mustSend(t, a, &c.e)
				got := mustReceive(t, b)
				if (got.File != nil) != (c.e.File != nil) {
					t.Errorf("%s: descriptor came: %v", c.name, got.File != nil)
				}
				if got.File != nil {
					got.File.Close()
				}
				if diff := cmp.Diff(frameOf(t, c.e), frameOf(t, Envelope{ID: got.ID, Message: got.Message, State: got.State, File: c.e.File})); diff != "" {
					t.Errorf("%s: %s", c.name, diff)
				}
				count += uint64(len(frameOf(t, c.e)))
			}
			sent, _ := a.Bytes()
			_, received := b.Bytes()
			if sent-sentBefore != count || received-receivedBefore != count {
				t.Errorf("counted %d bytes sent and %d received, the messages have %d", sent-sentBefore, received-receivedBefore, count)
			}
		})
	}
}

func TestFrameCutShort(t *testing.T) {
	frame := frameOf(t, Envelope{ID: 1, Message: &Done{}, State: smallTable()})
	t.Run("stalled", func(t *testing.T) {
		noLeaks(t)
		c, peer := hostilePair(t)
		// Whatever the pieces, the frame is whole in the end and nothing before.
		for cut := range frame {
			if _, err := peer.Write(frame[:cut]); err != nil {
				t.Fatal(err)
			}
			c.SetReceiveDeadline(time.Now().Add(200 * time.Microsecond))
			if e, err := c.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("after %d bytes: %v, %v", cut, e, err)
			}
			if _, err := peer.Write(frame[cut:]); err != nil {
				t.Fatal(err)
			}
			c.SetReceiveDeadline(time.Time{})
			if e := mustReceive(t, c); e.ID != 1 || len(e.State.Rows) != 2 {
				t.Fatalf("cut after %d bytes: %+v", cut, e)
			}
		}
	})
	t.Run("hang-up", func(t *testing.T) {
		noLeaks(t)
		for cut := range frame {
			c, peer := hostilePair(t)
			peer.Write(frame)
			peer.Write(frame[:cut])
			peer.Close()
			mustReceive(t, c)
			for range 2 { // the error stays
				if e, err := c.Receive(); !errors.Is(err, ErrHangUp) {
					t.Fatalf("hang-up after %d bytes: %v, %v", cut, e, err)
				}
			}
			c.Close()
		}
	})
}

func TestBadFramesOnTheSocket(t *testing.T) {
	for _, c := range badCases() {
		frame := c.change(frameOf(t, c.e))
		if c.name == "bytes after the frame" || len(frame) < HeaderSize {
			continue // on a stream these are the next frame's, or too few
		}
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			channel, peer := hostilePair(t)
			var files []*os.File
			for range frame[6] {
				files = append(files, memfd(t))
			}
			sendRaw(t, peer, frame, files...)
			peer.CloseWrite()
			e, err := channel.Receive()
			var protocol *ProtocolError
			var size *FrameSizeError
			if !errors.As(err, &protocol) && !errors.As(err, &size) && !errors.Is(err, ErrHangUp) {
				t.Fatalf("%+v, %v", e, err)
			}
			if _, again := channel.Receive(); again == nil {
				t.Error("went on after a breach")
			}
		})
	}
}

func TestDescriptors(t *testing.T) {
	bare := frameOf(t, Envelope{ID: 1, Message: &Ping{}})
	many := func(t testing.TB, n int) []*os.File {
		f := memfd(t)
		return slices.Repeat([]*os.File{f}, n)
	}
	for _, c := range []struct {
		name  string
		send  func(testing.TB, func([]byte, ...*os.File))
		good  int // messages before the error
		error string
	}{
		{"declared, not sent", func(t testing.TB, send func([]byte, ...*os.File)) { send(attachFrame(t, 1)) }, 0, "none was sent"},
		{"sent twice", func(t testing.TB, send func([]byte, ...*os.File)) { send(attachFrame(t, 1), many(t, 2)...) }, 0, "no frame declares"},
		{"undeclared", func(t testing.TB, send func([]byte, ...*os.File)) { send(bare, memfd(t)) }, 0, "no frame declares"},
		{"undeclared, frames behind", func(t testing.TB, send func([]byte, ...*os.File)) {
			send(slices.Concat(bare, bare), memfd(t))
		}, 1, "no frame declares"},
		{"nine", func(t testing.TB, send func([]byte, ...*os.File)) { send(attachFrame(t, 1), many(t, 9)...) }, 0, "more than 8"},
		{"253", func(t testing.TB, send func([]byte, ...*os.File)) { send(attachFrame(t, 1), many(t, 253)...) }, 0, "more than 8"},
		{"one a message, hoarded", func(t testing.TB, send func([]byte, ...*os.File)) {
			send(put32(slices.Clone(bare), 0, MaxFrameSize))
			for range 20 {
				send(bare, memfd(t))
			}
		}, 0, "no frame has declared"},
		{"two frames and theirs at once", func(t testing.TB, send func([]byte, ...*os.File)) {
			send(slices.Concat(attachFrame(t, 1), attachFrame(t, 2)), many(t, 2)...)
		}, 2, ""},
		{"in the middle of the frame", func(t testing.TB, send func([]byte, ...*os.File)) {
			frame := attachFrame(t, 1)
			send(frame[:10])
			send(frame[10:], memfd(t))
		}, 1, ""},
		{"frames before and behind", func(t testing.TB, send func([]byte, ...*os.File)) {
			send(bare)
			send(attachFrame(t, 1), memfd(t))
			send(bare)
			send(attachFrame(t, 2), memfd(t))
		}, 4, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			channel, peer := hostilePair(t)
			c.send(t, func(b []byte, files ...*os.File) { sendRaw(t, peer, b, files...) })
			peer.CloseWrite()
			for range c.good {
				e := mustReceive(t, channel)
				if attach := e.Message.Type() == TypeAttach; attach != (e.File != nil) {
					t.Fatalf("%s with descriptor: %v", e.Message.Type(), e.File != nil)
				}
				if e.File != nil {
					if flags, err := unix.FcntlInt(e.File.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
						t.Error("a child would inherit the descriptor")
					}
					e.File.Close()
				}
			}
			_, err := channel.Receive()
			if c.error == "" {
				if !errors.Is(err, ErrHangUp) {
					t.Fatal(err)
				}
				return
			}
			wantProtocolError(t, err, c.error)
		})
	}
}

func TestFrameSize(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			a, b := transport.pair(t)
			log := func(size int) *Envelope { return &Envelope{Message: &Log{Message: string(make([]byte, size))}} }
			overhead := len(frameOf(t, *log(0)))
			largest := MaxFrameSize - overhead
			sent := make(chan error, 3)
			go func() {
				for _, size := range []int{largest, largest + 8, 5} {
					sent <- a.Send(log(size))
				}
			}()
			if e := mustReceive(t, b); len(e.Message.(*Log).Message) != largest {
				t.Error("largest frame came otherwise")
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			var size *FrameSizeError
			if err := <-sent; !errors.As(err, &size) || size.Size != MaxFrameSize+8 || size.Limit != MaxFrameSize {
				t.Fatalf("one too large: %v", err)
			}
			// That failed one message alone.
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if e := mustReceive(t, b); len(e.Message.(*Log).Message) != 5 {
				t.Error("what followed came otherwise")
			}
			mustSend(t, b, &Envelope{Message: &Ping{}})
			mustReceive(t, a)
			b.Close() // nobody reads its socket any more
			if n := len(b.socket.buf); n > MaxFrameSize+2*readSize {
				t.Errorf("read buffer of %d bytes", n)
			}
		})
	}
}

func TestMalformedMessagesAreNotSent(t *testing.T) {
	noLeaks(t)
	a, b := channelPair(t, nil)
	good := ref(1, 0, 1, shm.JSON)
	object := func(rows ...Row) Table { return Table{Kind: KindObject, Rows: rows} }
	for name, e := range map[string]*Envelope{
		"key not UTF-8":       {Message: &Done{}, State: object(Row{Key: "\xff", Spans: []shm.Ref{good}})},
		"key twice":           {Message: &Done{}, State: object(Row{Key: "k", Spans: []shm.Ref{good}}, Row{Key: "k", Spans: []shm.Ref{good}})},
		"no spans":            {Message: &Done{}, State: object(Row{Key: "k"})},
		"zero reference":      {Message: &Done{}, State: object(Row{Key: "k", Spans: make([]shm.Ref, 1)})},
		"mixed encodings":     {Message: &Done{}, State: object(Row{Key: "k", Spans: []shm.Ref{good, ref(1, 0, 1, shm.Raw)}})},
		"rows, no state":      {Message: &Done{}, State: Table{Rows: object(Row{Key: "k", Spans: []shm.Ref{good}}).Rows}},
		"value without a row": {Message: &Done{}, State: Table{Kind: KindValue}},
		"unknown kind":        {Message: &Done{}, State: Table{Kind: 9}},
		"state with a ping":   {Message: &Ping{}, State: Table{Kind: KindObject}},
		"file with a ping":    {Message: &Ping{}, File: memfd(t)},
		"attach, no file":     {Message: &Attach{}},
	} {
		var malformed *MessageError
		if err := a.Send(e); !errors.As(err, &malformed) || malformed.Type != e.Message.Type() {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Text is repaired: a step's stderr may hold anything.
	mustSend(t, a, &Envelope{Message: &Log{Message: "caf\xe9"}})
	if m := mustReceive(t, b).Message.(*Log).Message; m != "caf\uFFFD" {
		t.Errorf("text %q", m)
	}
}

func TestPeerThatNeverReads(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			a, _ := transport.pair(t)
			a.SetWriteTimeout(100 * time.Millisecond)
			e := &Envelope{Message: &Log{Message: string(make([]byte, 10_000))}}
			var err error
			start := time.Now()
			within(t, "Send", func() {
				for err == nil {
					err = a.Send(e)
				}
			})
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			if took := time.Since(start); took < 100*time.Millisecond {
				t.Errorf("gave up after %v", took)
			}
			if again := a.Send(&Envelope{Message: &Ping{}}); again != err {
				t.Errorf("then %v", again)
			}
		})
	}
}
