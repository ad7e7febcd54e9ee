package shm

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readers stands for the processes that receive segments: it holds what
// OnSegment handed over, opened as a peer would open it.
type readers struct {
	t    testing.TB
	open map[SegmentID]*Segment
}

func newReaders(t testing.TB) *readers {
	r := &readers{t: t, open: make(map[SegmentID]*Segment)}
	t.Cleanup(func() {
		for _, s := range r.open {
			s.Close()
		}
	})
	return r
}

func (r *readers) receive(s *Segment) error {
	if r.open[s.ID()] != nil {
		r.t.Errorf("segment %d is announced twice", s.ID())
	}
	opened, err := Open(s.ID(), dup(r.t, s.File()), s.Size())
	r.open[s.ID()] = opened
	return err
}

func (r *readers) drop(id SegmentID) {
	if r.open[id] == nil {
		r.t.Errorf("segment %d is dropped but was never announced", id)
		return
	}
	r.open[id].Close()
	delete(r.open, id)
}

func (r *readers) read(ref Ref) []byte {
	s := r.open[ref.Segment]
	if s == nil {
		r.t.Fatalf("%v is in a segment that was not announced", ref)
	}
	b, err := s.Slice(ref)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// tiny options, so that a few kilobytes reach every path.
func tiny(r *readers) ArenaOptions {
	return ArenaOptions{
		SmallSegmentSize: 32 << 10, LargeThreshold: 8 << 10, LargeSegmentSize: 64 << 10, RetainBytes: 128 << 10,
		OnSegment: r.receive, OnDrop: r.drop,
	}
}

func pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7) + byte(i>>8) + seed
	}
	return p
}

func TestBlockThroughEveryWriter(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	a := NewArena(tiny(r))
	defer a.Close()
	ways := map[string]func(w *BlockWriter, p []byte) error{
		"Write": func(w *BlockWriter, p []byte) error { _, err := w.Write(p); return err },
		"small Writes": func(w *BlockWriter, p []byte) error {
			for len(p) > 0 {
				n, err := w.Write(p[:min(100, len(p))])
				if err != nil {
					return err
				}
				p = p[n:]
			}
			return nil
		},
		"WriteString": func(w *BlockWriter, p []byte) error { _, err := w.WriteString(string(p)); return err },
		"WriteByte": func(w *BlockWriter, p []byte) error {
			for _, c := range p {
				if err := w.WriteByte(c); err != nil {
					return err
				}
			}
			return nil
		},
		"ReadFrom": func(w *BlockWriter, p []byte) error {
			_, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(p)))
			return err
		},
		"Reserve": func(w *BlockWriter, p []byte) error {
			for len(p) > 0 {
				buf, err := w.Reserve(300)
				if err != nil {
					return err
				}
				n := copy(buf, p)
				w.Advance(n / 2)
				w.Advance(n - n/2)
				p = p[n:]
			}
			return nil
		},
		"mixed": func(w *BlockWriter, p []byte) error {
			for i := 0; len(p) > 0; i++ {
				n := min(len(p), 1+i*997%5000)
				var err error
				if i%3 == 0 {
					var buf []byte
					if buf, err = w.Reserve(n); err == nil {
						copy(buf, p[:n])
						w.Advance(n)
					}
				} else {
					_, err = w.Write(p[:n])
				}
				if err != nil {
					return err
				}
				if len(w.Bytes()) != int(w.Len()) {
					return errors.New("Bytes is not what was written")
				}
				p = p[n:]
			}
			return nil
		},
	}
	for round := range 3 { // fresh, then over pages of write(2), then over mapped ones
		for name, write := range ways {
			for _, size := range []int{1, 63, 64, 65, 4096, 8191, 8192, 8193, 40_000, 64 << 10, 200_000, 700_000} {
				for _, hint := range []int64{0, int64(size), int64(size / 2), int64(size * 2), 100_000, 1 << 62} {
					want := pattern(size, byte(round))
					w := a.NewBlock(hint)
					if err := write(w, want); err != nil {
						t.Fatalf("%s of %d bytes, hint %d: %v", name, size, hint, err)
					}
					if !bytes.Equal(w.Bytes(), want) {
						t.Fatalf("%s of %d bytes, hint %d: Bytes differ", name, size, hint)
					}
					ref := must(w.Commit(Raw))
					if got := r.read(ref); !bytes.Equal(got, want) {
						t.Fatalf("%s of %d bytes, hint %d: the reader sees something else", name, size, hint)
					}
					if ref.Offset%blockAlign != 0 || ref.Length != uint64(size) || ref.Encoding != Raw {
						t.Fatalf("%s of %d bytes: %v", name, size, ref)
					}
					if err := a.Free(ref.Block()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	if s := a.Stats(); s.Published != 0 || s.Unpublished != 0 || s.Blocks != 0 || s.Reused == 0 || s.Fresh == 0 {
		t.Errorf("%+v", s)
	}
}

func TestEncodersWriteStraightIn(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	a := NewArena(tiny(r))
	defer a.Close()
	w := a.NewBlock(0)
	if err := json.NewEncoder(w).Encode(map[string]string{"a": strings.Repeat("x", 20_000)}); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(r.read(must(w.Commit(JSON)))) {
		t.Error("not what was encoded")
	}
}

func TestEmptyBlocksAreDistinct(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	first := must(a.Write(Raw, nil))
	w := a.NewBlock(50_000)
	must(w.Reserve(20_000)) // and nothing of it used
	second := must(w.Commit(Raw))
	if first.Length != 0 || second.Length != 0 || first.Block() == second.Block() {
		t.Errorf("%v, %v", first, second)
	}
	if err := errors.Join(a.Free(first.Block()), a.Free(second.Block())); err != nil {
		t.Error(err)
	}
}

func TestFreeRefusesWhatIsNotLive(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	a := NewArena(tiny(r))
	defer a.Close()
	want := pattern(500, 1)
	ref := must(a.Write(Raw, want))
	freed := must(a.Write(Raw, want)).Block()
	if err := a.Free(freed); err != nil {
		t.Fatal(err)
	}
	for _, b := range []Block{
		freed, {},
		{ref.Segment + 1, ref.Offset, ref.Length},
		{ref.Segment, ref.Offset, ref.Length - 1},
		{ref.Segment, ref.Offset + 64, ref.Length - 64},
		{ref.Segment, 1 << 63, ref.Length},
		{ref.Segment, ref.Offset, 1 << 63},
	} {
		if err := a.Free(b); !errors.Is(err, ErrUnknownBlock) {
			t.Errorf("%v: %v", b, err)
		}
	}
	if !bytes.Equal(r.read(ref), want) {
		t.Error("the live block changed")
	}
}

func TestWriterAfterTheEnd(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	committed, aborted := a.NewBlock(0), a.NewBlock(0)
	must(committed.WriteString("x"))
	must(aborted.Write(pattern(20_000, 0)))
	must(committed.Commit(Raw))
	aborted.Abort()
	for _, w := range []*BlockWriter{committed, aborted} {
		w.Abort()
		_, commitErr := w.Commit(Raw)
		_, writeErr := w.Write([]byte("x"))
		_, reserveErr := w.Reserve(1)
		for _, err := range []error{commitErr, writeErr, reserveErr} {
			if !errors.Is(err, ErrBlockDone) {
				t.Errorf("got %v", err)
			}
		}
		if w.Bytes() != nil {
			t.Error("Bytes after the end")
		}
	}
	if s := a.Stats(); s.Blocks != 1 || s.Published != 1 || s.Unpublished != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAdvanceBeyondReservePanics(t *testing.T) {
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	for name, misuse := range map[string]func(w *BlockWriter){
		"beyond":        func(w *BlockWriter) { w.Advance(11) },
		"after a Write": func(w *BlockWriter) { must(w.WriteString("x")); w.Advance(1) },
		"negative":      func(w *BlockWriter) { w.Advance(-1) },
		"Reserve(-1)":   func(w *BlockWriter) { _, _ = w.Reserve(-1) },
	} {
		w := a.NewBlock(0)
		must(w.Reserve(10))
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse(w)
		}()
		w.Abort()
	}
}
