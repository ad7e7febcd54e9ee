package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/shm"
)

// Random items and random turns: what is read is what was written, and neither
// demand nor capacity is ever exceeded.
func TestRandomItems(t *testing.T) {
	for _, d := range []Demand{{Max: 1}, {Max: 10, Min: 5}, {Max: 1000, Min: 900}, {Manual: true}} {
		t.Run(fmt.Sprintf("%+v", d), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(d.Max)))
			p := newPair(t, small, d)
			var waiting []string
			written, read := 0, 0
			for n := 0; read < 5000; n++ {
				switch random.IntN(5) {
				case 0, 1:
					size := []int{0, 1, 7, 8, 9, 100, 3000, p.Writer.MaxItem()}[random.IntN(8)]
					item := strings.Repeat(string(rune('a'+n%26)), size)
					if p.put(t, item) {
						waiting = append(waiting, item)
						written++
					}
				case 2, 3:
					item, ok := p.take(t)
					if ok != (len(waiting) > 0) {
						t.Fatalf("read %v with %d items written", ok, len(waiting))
					}
					if !ok {
						break
					}
					if item != waiting[0] {
						t.Fatalf("item %d has %d bytes, not %d", read, len(item), len(waiting[0]))
					}
					waiting, read = waiting[1:], read+1
				default:
					if p.Asked() == 0 {
						p.Ask(uint64(1 + random.IntN(20)))
					}
					if asleep, err := p.Reader.Sleep(); err != nil || asleep != (len(waiting) == 0) {
						t.Fatalf("asleep %v, %v with %d items there", asleep, err, len(waiting))
					}
				}
				if uint64(written) > p.Reader.demand || p.Writer.at-p.stored > small {
					t.Fatalf("%d items written of %d asked for, %d bytes in the ring", written, p.Reader.demand, p.Writer.at-p.stored)
				}
			}
			if p.Writer.at < 20*small {
				t.Fatalf("the ring was filled only %d times", p.Writer.at/small)
			}
		})
	}
}

// Two goroutines that sleep and wake each other lose nothing.
func TestSleepAndWake(t *testing.T) {
	const items = 6_000
	for _, d := range []Demand{{Max: 1}, {Max: 64, Min: 32}} {
		t.Run(fmt.Sprintf("%+v", d), func(t *testing.T) {
			f, g := memory(t, small)
			toWriter, toReader := make(chan struct{}, 2), make(chan struct{}, 2)
			ring := func(ch chan struct{}) func() {
				return func() {
					select {
					case ch <- struct{}{}:
					default: // it has one to come that it has not seen yet
					}
				}
			}
			done := make(chan error, 1)
			go func() { done <- produce(f, items, ring(toReader), toWriter) }()
			r, err := NewReader(g, small, d, ring(toWriter))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for n := 0; n < items; {
				b, ok, err := r.Next()
				switch {
				case err != nil:
					t.Fatal(err)
				case ok:
					if want := fmt.Sprintf("item %d", n); string(b[:len(want)]) != want {
						t.Fatalf("got %q, want %q", b, want)
					}
					n++
				case r.Spin():
				default:
					asleep, err := r.Sleep()
					if err != nil {
						t.Fatal(err)
					}
					if asleep {
						<-toReader
						r.Slept()
					}
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func produce(f *os.File, items int, wake func(), woken chan struct{}) error {
	w, err := NewWriter(f, small, wake)
	if err != nil {
		return err
	}
	for n := 0; n < items; {
		item := fmt.Appendf(nil, "item %d%s", n, strings.Repeat(".", n*37%900))
		b, ok, err := w.Reserve(len(item))
		switch {
		case err != nil:
			return errors.Join(err, w.Close())
		case ok:
			copy(b, item)
			w.Commit(len(item))
			n++
		case w.Spin():
		default:
			asleep, err := w.Sleep(len(item))
			if err != nil {
				return errors.Join(err, w.Close())
			}
			if asleep {
				<-woken
				w.Slept()
			}
		}
	}
	return w.Close()
}

func TestNothingIsAllocatedForAnItem(t *testing.T) {
	p := newPair(t, small, Demand{Max: 8, Min: 4})
	item := make([]byte, 1000)
	allocs := testing.AllocsPerRun(1000, func() {
		b, _, _ := p.Reserve(len(item))
		copy(b, item)
		p.Commit(len(item))
		if got, ok, err := p.Next(); !ok || err != nil || !bytes.Equal(got, item) {
			t.Fatal(ok, err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations an item", allocs)
	}
}

// The largest item fits wherever the ring stands; a larger one never does.
func TestItemSizes(t *testing.T) {
	p := newPair(t, small, Demand{Max: 100})
	var size *ItemSizeError
	if _, _, err := p.Reserve(small/2 - 7); !errors.As(err, &size) || size.Size != small/2-7 || size.Limit != small/2-8 {
		t.Fatal(err)
	}
	for n := range 50 {
		for range n % 3 {
			p.put(t, "ab")
			p.take(t)
		}
		item := strings.Repeat("x", size.Limit)
		if !p.put(t, item) {
			t.Fatal("the largest item does not fit into an empty ring")
		}
		if got, ok := p.take(t); !ok || got != item {
			t.Fatal("the largest item did not come")
		}
		if _, ok := p.take(t); ok { // gives its bytes back
			t.Fatal("one too many")
		}
	}
}

// What is reserved need not be used up, or used at all.
func TestReserveMoreThanIsCommitted(t *testing.T) {
	p := newPair(t, small, Demand{Max: 1000, Min: 999})
	for n := range 500 {
		if _, ok, err := p.Reserve(p.Writer.MaxItem()); !ok || err != nil {
			t.Fatal(ok, err)
		}
		b, ok, err := p.Reserve(20_000)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		want := fmt.Sprint("item ", n)
		p.Commit(copy(b, want))
		if got, ok := p.take(t); !ok || got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if _, ok := p.take(t); ok {
			t.Fatal("one too many")
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a Commit without a reservation")
		}
	}()
	p.Commit(1)
}

func TestDemand(t *testing.T) {
	p := newPair(t, small, Demand{Max: 4, Min: 1})
	fill := func() (n int) {
		for ; p.put(t, "x"); n++ {
		}
		return n
	}
	if n := fill(); n != 4 {
		t.Fatalf("%d items at first", n)
	}
	for range 2 {
		p.take(t)
	}
	if n := fill(); n != 0 {
		t.Fatalf("%d more with 2 asked for and left", n)
	}
	p.take(t)
	if n := fill(); n != 3 {
		t.Fatalf("%d more when 1 was left", n)
	}

	p = newPair(t, small, Demand{Max: 4, Manual: true})
	if n := fill(); n != 0 || p.Asked() != 0 || !p.Manual() {
		t.Fatalf("%d items that nobody asked for", n)
	}
	p.Ask(2)
	if n := fill(); n != 2 {
		t.Fatalf("%d items of 2 asked for", n)
	}
	p.Ask(^uint64(0))
	if !p.put(t, "x") {
		t.Fatal("no item of all there can be")
	}
}

func TestFlags(t *testing.T) {
	p := newPair(t, small, Demand{Max: 1})
	woken := func(writer, reader int) {
		t.Helper()
		if p.writerWoken != writer || p.readerWoken != reader {
			t.Fatalf("the writer was woken %d times, the reader %d; want %d, %d", p.writerWoken, p.readerWoken, writer, reader)
		}
	}
	sleep := func(asleep bool, err error) bool {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return asleep
	}
	if !sleep(p.Reader.Sleep()) {
		t.Fatal("awake without an item")
	}
	p.put(t, "one")
	woken(0, 1)
	if sleep(p.Reader.Sleep()) {
		t.Fatal("asleep with an item there")
	}
	if !sleep(p.Writer.Sleep(1)) {
		t.Fatal("awake without demand")
	}
	p.take(t) // asks again
	woken(1, 1)
	if sleep(p.Writer.Sleep(1)) {
		t.Fatal("asleep with demand and room")
	}
	p.put(t, "two")
	p.take(t)
	woken(1, 1)
}

func TestWhatIsNoRing(t *testing.T) {
	unsealed := func() *os.File {
		f, err := shm.CreateGrowable("millrace-stream")
		if err == nil {
			err = f.Truncate(shm.StreamHeaderSize + small)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	halfSealed := func() *os.File {
		f := unsealed()
		if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_GROW|unix.F_SEAL_SHRINK); err != nil {
			t.Fatal(err)
		}
		return f
	}
	ring := func() *os.File {
		f, err := shm.CreateStreamMemory(small)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	pipe := func() *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		return r
	}
	for name, c := range map[string]struct {
		file     func() *os.File
		capacity uint64
	}{
		"unsealed":         {unsealed, small},
		"half sealed":      {halfSealed, small},
		"another size":     {ring, 2 * small},
		"no power of two":  {ring, small + 4096},
		"too small":        {ring, small / 2},
		"too large":        {ring, 2 << 30},
		"nothing":          {ring, 0},
		"past all numbers": {ring, 1 << 63},
		"a pipe":           {pipe, small},
	} {
		t.Run(name, func(t *testing.T) {
			var breach *BreachError
			f := c.file()
			if _, err := NewReader(f, c.capacity, Demand{}, nil); !errors.As(err, &breach) {
				t.Errorf("as a reader: %v", err)
			}
			if f.Close() == nil {
				t.Error("the descriptor was left open")
			}
			if _, err := NewWriter(c.file(), c.capacity, nil); !errors.As(err, &breach) {
				t.Errorf("as a writer: %v", err)
			}
		})
	}
}
