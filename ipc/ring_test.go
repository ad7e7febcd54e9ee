package ipc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sequence sends n messages of random sizes, numbered; some too large for the
// ring, some with a descriptor, so that the two ways mix.
func sequence(c *Channel, seed uint64, n int, file *os.File) error {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		e := &Envelope{ID: uint64(i + 1)}
		switch r.IntN(20) {
		case 0:
			e.Message = &Log{Message: string(make([]byte, DefaultRingSize/4+r.IntN(100_000)))}
		case 1:
			e.Message, e.File = &Attach{Size: uint64(i)}, file
		case 2:
			e.Message = &Log{Message: string(make([]byte, r.IntN(DefaultRingSize/4)))}
		default:
			e.Message = &Log{Message: string(make([]byte, r.IntN(200)))}
		}
		if err := c.Send(e); err != nil {
			return err
		}
		if r.IntN(50) == 0 {
			time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond)
		}
	}
	return nil
}

// inSequence receives what sequence sent and checks the order.
func inSequence(c *Channel, n int) error {
	for i := range n {
		e, err := c.Receive()
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
		if attach := e.Message.Type() == TypeAttach; attach != (e.File != nil) {
			return fmt.Errorf("message %d: %s with descriptor: %v", i+1, e.Message.Type(), e.File != nil)
		}
		if e.File != nil {
			e.File.Close()
		}
		if e.ID != uint64(i+1) {
			return fmt.Errorf("message %d came in place of %d", e.ID, i+1)
		}
	}
	return nil
}

func init() {
	// sequence-peer sends and receives a sequence at once.
	roles["sequence-peer"] = func() error {
		c, err := childChannel()
		if err != nil {
			return err
		}
		var announce []string
		if os.Getenv("RING") != "" {
			announce = []string{CapabilityRing}
		}
		if _, err := c.Greet(Hello{Capabilities: announce}, patience); err != nil {
			return err
		}
		n, err := strconv.Atoi(os.Getenv("COUNT"))
		if err != nil {
			return err
		}
		received := make(chan error, 1)
		go func() { received <- inSequence(c, n) }()
		if err := errors.Join(sequence(c, 2, n, os.Stderr), <-received); err != nil {
			return err
		}
		_, err = c.Receive() // the other side hangs up when it has everything
		return ignoreEnd(err)
	}
}

func TestOrderBetweenGoroutines(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			noLeaks(t)
			a, b := transport.pair(t)
			exchange(t, a, b, 3000)
		})
	}
}

func exchange(t *testing.T, a, b *Channel, n int) {
	file := memfd(t)
	ends := make(chan error, 4)
	go func() { ends <- sequence(a, 1, n, file) }()
	go func() { ends <- sequence(b, 2, n, file) }()
	go func() { ends <- inSequence(a, n) }()
	go func() { ends <- inSequence(b, n) }()
	for range 4 {
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
	}
}

func TestOrderBetweenProcesses(t *testing.T) {
	const n = 3000
	for _, ring := range []string{"", "1"} {
		t.Run("ring="+ring, func(t *testing.T) {
			noLeaks(t)
			c := startRole(t, "sequence-peer", "COUNT="+strconv.Itoa(n), "RING="+ring)
			if _, err := c.Accept(Welcome{}, []string{CapabilityRing}, patience); err != nil {
				t.Fatal(err)
			}
			if c.UsesRing() != (ring != "") {
				t.Fatal("ring in use:", c.UsesRing())
			}
			received := make(chan error, 1)
			go func() { received <- inSequence(c, n) }()
			if err := sequence(c, 1, n, memfd(t)); err != nil {
				t.Fatal(err)
			}
			if err := <-received; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Every message finds the reader asleep, about to sleep or just awake: a lost
// wake-up would be a receive that never returns.
func TestNoWakeUpIsLost(t *testing.T) {
	for _, processors := range []int{1, runtime.NumCPU()} {
		t.Run(fmt.Sprint("GOMAXPROCS=", processors), func(t *testing.T) {
			noLeaks(t)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
			a, b := channelPair(t, []string{CapabilityRing})
			large := &Log{Message: string(make([]byte, DefaultRingSize/4))}
			turns := 20_000
			if testing.Short() {
				turns = 2000
			}
			echoed := make(chan error, 1)
			go func() {
				for range turns {
					e, err := b.Receive()
					if err == nil {
						err = b.Send(e)
					}
					if err != nil {
						echoed <- err
						return
					}
				}
				echoed <- nil
			}()
			a.SetReceiveDeadline(time.Now().Add(60 * time.Second))
			r := rand.New(rand.NewPCG(1, 2))
			for i := range turns {
				e := &Envelope{ID: uint64(i), Message: &Ping{}}
				if i%5 == 0 {
					e.Message = large
				}
				mustSend(t, a, e)
				if got, err := a.Receive(); err != nil || got.ID != uint64(i) {
					t.Fatalf("turn %d: %+v, %v", i, got, err)
				}
				// Around the time it takes to fall asleep.
				for until := time.Now().Add(time.Duration(r.IntN(3)*r.IntN(20)) * time.Microsecond); time.Now().Before(until); {
					runtime.Gosched()
				}
			}
			if err := <-echoed; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A lane against a model: a queue of frames.
func TestLane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := 1 << rapid.IntRange(12, 14).Draw(t, "log2 size")
		mem := make([]byte, ringMemorySize(size))
		// Both sides' views of the same lane, at any place in the count.
		out, _ := lanes(mem, size)
		in, _ := lanes(mem, size)
		start := rapid.Uint64().Draw(t, "start") &^ (frameAlign - 1)
		out.own, in.own = start, start
		out.written.Store(start)
		out.read.Store(start)
		var queue []Envelope
		pending := 0
		buf := make([]byte, size)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "write") {
				e := Envelope{ID: rapid.Uint64().Draw(t, "id"), Message: &Cancel{Reason: string(make([]byte, rapid.IntRange(0, size/3).Draw(t, "size")))}}
				b, err := AppendFrame(nil, &e)
				if err != nil {
					t.Fatal(err)
				}
				ok, err := out.write(b)
				if err != nil {
					t.Fatal(err)
				}
				if fits := pending+len(b) <= size; ok != fits {
					t.Fatalf("%d bytes pending, %d more: written %v", pending, len(b), ok)
				}
				if ok {
					queue, pending = append(queue, e), pending+len(b)
				}
				continue
			}
			if in.available() != (len(queue) > 0) {
				t.Fatalf("available %v, %d are", in.available(), len(queue))
			}
			h, b, err := in.readFrame(buf)
			if err != nil {
				t.Fatal(err)
			}
			if len(queue) == 0 {
				if b != nil {
					t.Fatal("a frame out of nothing")
				}
				continue
			}
			e, err := ParseFrame(b)
			if err != nil {
				t.Fatal(err)
			}
			if e.ID != queue[0].ID || e.Message.(*Cancel).Reason != queue[0].Message.(*Cancel).Reason {
				t.Fatal("another frame than was written")
			}
			queue, pending = queue[1:], pending-int(h.size)
		}
	})
}
