package stream

import (
	"encoding/binary"
	"errors"
	"testing"
)

// A producer that breaks the rules gets a *BreachError out of the consumer, and
// never any bytes outside of the ring.
func TestHostileProducer(t *testing.T) {
	// The first item is read, 16 bytes of ring; what follows is forged there.
	record := func(size, kind uint32, written uint64) func(*pair) {
		return func(p *pair) {
			binary.LittleEndian.PutUint32(p.Writer.data[16:], size)
			binary.LittleEndian.PutUint32(p.Writer.data[20:], kind)
			p.Writer.counters.written.Store(written)
		}
	}
	for name, forge := range map[string]func(*pair){
		"written shrinks":        record(0, 0, 8),
		"more than the ring has": record(0, 0, small+8),
		"written overflows":      record(0, 0, 1<<63),
		"less than a header":     record(0, 0, 20),
		"past what is written":   record(100, 0, 40),
		"the largest size":       record(0xFFFFFFFF, 0, 40),
		"over half of the ring":  record(small/2, 0, small),
		"unknown kind":           record(8, 2, 32),
		"a skip in the middle":   record(8, 1, 32),
		"a skip past the end":    record(small-16, 1, small),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, small, Demand{Max: 10})
			p.put(t, "one")
			if got, _ := p.take(t); got != "one" {
				t.Fatal(got)
			}
			forge(p)
			var breach *BreachError
			if b, ok, err := p.Next(); !errors.As(err, &breach) {
				t.Fatalf("got %q, %v, %v", b, ok, err)
			}
		})
	}
	t.Run("more than was asked for", func(t *testing.T) {
		p := newPair(t, small, Demand{Max: 1, Manual: true})
		p.Ask(1)
		p.put(t, "one")
		p.take(t)
		record(3, 0, 32)(p)
		var breach *BreachError
		if _, _, err := p.Next(); !errors.As(err, &breach) {
			t.Fatal(err)
		}
	})
}

func TestHostileConsumer(t *testing.T) {
	for name, forge := range map[string]func(*Reader){
		"read shrinks":        func(r *Reader) { r.read.Store(0) },
		"more than written":   func(r *Reader) { r.read.Store(56) },
		"read overflows":      func(r *Reader) { r.read.Store(1 << 63) },
		"the demand shrinks":  func(r *Reader) { r.counters.demand.Store(1) },
		"both go backwards":   func(r *Reader) { r.read.Store(8); r.counters.demand.Store(0) },
		"the end of counting": func(r *Reader) { r.read.Store(^uint64(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, small, Demand{Max: 2})
			p.put(t, "one")
			p.put(t, "two")
			p.take(t)
			p.giveBack()
			if p.put(t, "three") {
				t.Fatal("an item that nobody asked for")
			}
			forge(p.Reader)
			var breach *BreachError
			if _, _, err := p.Reserve(3); !errors.As(err, &breach) {
				t.Errorf("Reserve: %v", err)
			}
			if asleep, err := p.Writer.Sleep(3); asleep || !errors.As(err, &breach) {
				t.Errorf("Sleep: %v, %v", asleep, err)
			}
		})
	}
}

// FuzzReader reads from a ring whose producer does what the input says: a
// number of steps, each a store of written and some bytes anywhere in the ring.
func FuzzReader(f *testing.F) {
	f.Add(uint64(16), uint16(0), []byte{8, 0, 0, 0, 0, 0, 0, 0, 'a', 'b'}, uint64(32))
	f.Add(uint64(24), uint16(0), []byte{1, 0, 0, 0, 0, 0, 0, 0}, uint64(16))
	f.Add(uint64(small), uint16(0), []byte{0xF8, 0xFF, 0, 0, 1, 0, 0, 0}, uint64(small))
	f.Add(uint64(32), uint16(8), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}, uint64(1)<<63)
	f.Fuzz(func(t *testing.T, written uint64, at uint16, forged []byte, later uint64) {
		p := newPair(t, small, Demand{Max: 100, Min: 50})
		copy(p.Writer.data[at:], forged)
		sum := 0
		for _, counter := range []uint64{written, later} {
			p.Writer.counters.written.Store(counter)
			for n := uint64(0); ; n++ {
				item, ok, err := p.Next()
				var breach *BreachError
				if err != nil && !errors.As(err, &breach) {
					t.Fatal(err)
				}
				if err != nil || !ok {
					break
				}
				if len(item) > p.Reader.MaxItem() || n*headerSize > counter {
					t.Fatalf("item %d has %d bytes, with %d written", n, len(item), counter)
				}
				for _, c := range item { // every byte of it can be read
					sum += int(c)
				}
				if p.Reader.at > counter {
					t.Fatalf("read up to %d of %d", p.Reader.at, counter)
				}
			}
		}
		_ = sum
	})
}

// FuzzWriter writes into a ring whose consumer stores what the input says. What
// is accepted never overwrites what was not read, by the consumer's own count.
func FuzzWriter(f *testing.F) {
	f.Add(uint16(100), uint64(0), uint64(10), uint64(108), uint64(20))
	f.Add(uint16(32760), uint64(0), uint64(3), uint64(1<<63), uint64(3))
	f.Add(uint16(5), uint64(0), uint64(1)<<63, uint64(16), uint64(0))
	f.Fuzz(func(t *testing.T, size uint16, read1, demand1, read2, demand2 uint64) {
		p := newPair(t, small, Demand{Manual: true})
		n := min(int(size), p.Writer.MaxItem())
		for _, c := range [][2]uint64{{read1, demand1}, {read2, demand2}} {
			p.Reader.counters.read.Store(c[0])
			p.Reader.counters.demand.Store(c[1])
			for range 20 {
				b, ok, err := p.Reserve(n)
				var breach *BreachError
				if err != nil && !errors.As(err, &breach) {
					t.Fatal(err)
				}
				if err != nil || !ok {
					break
				}
				if len(b) != n || p.Writer.items >= max(demand1, demand2) {
					t.Fatalf("%d bytes for item %d", len(b), p.Writer.items)
				}
				clear(b)
				p.Commit(n)
				if p.Writer.at-p.Writer.read > small {
					t.Fatalf("%d bytes in the ring", p.Writer.at-p.Writer.read)
				}
			}
		}
	})
}
