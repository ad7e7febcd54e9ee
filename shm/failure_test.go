package shm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLimit(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	a := NewArena(tiny(r))
	defer a.Close()
	a.SetLimit(30_000)
	kept := must(a.Write(Raw, pattern(10_000, 1)))
	w := a.NewBlock(1 << 40)
	must(w.Write(pattern(15_000, 2)))
	var limitErr *LimitError
	if _, err := w.Write(make([]byte, 5_001)); !errors.As(err, &limitErr) ||
		*limitErr != (LimitError{Size: 20_001, Used: 10_000, Limit: 30_000}) {
		t.Fatalf("got %v", err)
	}
	if _, err := w.Reserve(5_001); !errors.As(err, &limitErr) {
		t.Fatalf("Reserve: %v", err)
	}
	must(w.Write(make([]byte, 5_000))) // exactly full
	if _, err := a.Write(Raw, []byte{1}); !errors.As(err, &limitErr) || limitErr.Size != 1 {
		t.Fatalf("a full arena: %v", err)
	}
	ref := must(w.Commit(Raw))
	if ref.Length != 20_000 {
		t.Errorf("%v", ref)
	}
	if err := a.Free(kept.Block()); err != nil {
		t.Fatal(err)
	}
	must(a.Write(Raw, make([]byte, 10_000)))
	a.SetLimit(1) // below what exists: nothing is lost
	if !bytes.Equal(r.read(ref)[:15_000], pattern(15_000, 2)) {
		t.Error("a lower limit changed a block")
	}
	a.SetLimit(0)
	must(a.Write(Raw, make([]byte, 100_000)))
}

func TestReserveReturnsUnusedCharge(t *testing.T) {
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	a.SetLimit(10_000)
	w := a.NewBlock(0)
	must(w.Reserve(9_000))
	w.Advance(10)
	must(w.Commit(Raw))
	must(a.Write(Raw, make([]byte, 9_990)))
}

func TestAnnouncementFails(t *testing.T) {
	noLeftovers(t)
	full := errors.New("channel full")
	r := newReaders(t)
	options := tiny(r)
	fail := true
	options.OnSegment = func(s *Segment) error {
		if fail {
			return full
		}
		return r.receive(s)
	}
	a := NewArena(options)
	defer a.Close()
	for _, size := range []int{100, 20_000} {
		fail = true
		if _, err := a.Write(Raw, make([]byte, size)); !errors.Is(err, full) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if s := a.Stats(); s.Published+s.Unpublished != 0 {
			t.Errorf("a failed commit left %+v", s)
		}
		fail = false
		if err := a.Free(must(a.Write(Raw, make([]byte, size))).Block()); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Write(0, nil); !errors.Is(err, ErrInvalidEncoding) {
		t.Errorf("encoding 0: %v", err)
	}
}

func TestAdoptIntoArena(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	options := tiny(r)
	a := NewArena(options)
	defer a.Close()
	imported := func(id SegmentID) *Segment {
		s, _ := must2(Import(id, strings.NewReader("from outside"), ImportOptions{}))
		return s
	}
	ref := must(a.Adopt(imported(77), JSON))
	if string(r.read(ref)) != "from outside" {
		t.Error("not what was imported")
	}
	same := imported(77)
	if _, err := a.Adopt(same, JSON); err == nil {
		t.Error("an id in use is accepted")
	}
	a.SetLimit(15)
	var limitErr *LimitError
	if _, err := a.Adopt(same, JSON); !errors.As(err, &limitErr) || limitErr.Size != 12 || limitErr.Used != 12 {
		t.Errorf("over the limit: %v", err)
	}
	if same.File() == nil {
		t.Error("a refused segment was taken")
	}
	same.Close()
	options.OnSegment = func(*Segment) error { return io.ErrClosedPipe }
	unheard := NewArena(options)
	lost := imported(79)
	if _, err := unheard.Adopt(lost, JSON); !errors.Is(err, io.ErrClosedPipe) || lost.File() == nil {
		t.Errorf("not announced: %v", err)
	}
	lost.Close()
	if s := unheard.Stats(); s.Segments+s.Unpublished != 0 {
		t.Errorf("a refused segment left %+v", s)
	}
	unheard.Close()
	own := must(Create(78, 1))
	if _, err := a.Adopt(own, JSON); err == nil {
		t.Error("a segment this process writes is accepted")
	}
	own.Close()
	if err := a.Free(ref.Block()); err != nil {
		t.Error(err)
	}
	if r.open[77] != nil {
		t.Error("an adopted segment is kept though nobody can write it again")
	}
}

func TestCloseWhileWriting(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	w := a.NewBlock(0)
	must(w.Write(pattern(20_000, 3)))
	small := a.NewBlock(0)
	must(small.WriteString("small"))
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.Bytes(), pattern(20_000, 3)) {
		t.Error("the block's memory went with the arena")
	}
	if _, err := w.Write(make([]byte, 1<<20)); !errors.Is(err, ErrClosed) {
		t.Errorf("growing: %v", err)
	}
	if _, err := w.Commit(Raw); !errors.Is(err, ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	small.Abort()
	if _, err := a.Write(Raw, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := a.Prefault(100); !errors.Is(err, ErrClosed) {
		t.Errorf("Prefault: %v", err)
	}
}

func TestFailedWriteFailsTheBlockOnly(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	for name, write := range map[string]func(w *BlockWriter) error{
		"large piece": func(w *BlockWriter) error { _, err := w.Write(make([]byte, directWrite)); return err },
		"gathered":    func(w *BlockWriter) error { _, _ = w.Write(make([]byte, 10)); _, err := w.Reserve(1); return err },
	} {
		_ = a.Trim()
		w := a.NewBlock(200_000)
		must(w.Write(make([]byte, 10_000)))
		w.Bytes()
		// The descriptor refuses writes from here on, as a full machine would.
		if err := w.run.owner.seg.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := write(w); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.Commit(Raw); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: Commit: %v", name, err)
		}
		if s := a.Stats(); s.Blocks != 0 || s.Unpublished != 0 {
			t.Errorf("%s: left %+v", name, s)
		}
		must(a.Write(Raw, make([]byte, 1000)))
		_ = a.Reset()
	}
}
