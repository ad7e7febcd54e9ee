package shm

import (
	"errors"
	"testing"
)

func TestLargeSegmentsAreReusedLastFreedFirst(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	options := tiny(r)
	options.RetainBytes = 1 << 20
	a := NewArena(options)
	defer a.Close()
	const size = 20_000
	var refs []Ref
	for range 4 {
		refs = append(refs, must(a.Write(Raw, make([]byte, size))))
	}
	order := []int{2, 0, 3, 1}
	for _, i := range order {
		if err := a.Free(refs[i].Block()); err != nil {
			t.Fatal(err)
		}
	}
	for i := len(order) - 1; i >= 0; i-- {
		got := must(a.Write(Raw, make([]byte, size)))
		if want := refs[order[i]].Segment; got.Segment != want {
			t.Errorf("got segment %d, want %d, the last freed", got.Segment, want)
		}
	}
	if s := a.Stats(); s.Fresh != 4*size || s.Reused != 4*size || s.Retained != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSmallRunsAreReusedLastFreedFirst(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	var refs []Ref
	for range 8 {
		refs = append(refs, must(a.Write(Raw, make([]byte, 1000))))
	}
	order := []int{3, 1, 5} // no neighbours, which would be joined
	for _, i := range order {
		if err := a.Free(refs[i].Block()); err != nil {
			t.Fatal(err)
		}
	}
	for i := len(order) - 1; i >= 0; i-- {
		if got := must(a.Write(Raw, make([]byte, 1000))); got != refs[order[i]] {
			t.Errorf("got %v, want %v, the last freed", got, refs[order[i]])
		}
	}
}

func TestCommitGivesBackWhatWasNotWritten(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	for i, hint := range []int64{4000, 0, 100_000} {
		w := a.NewBlock(hint)
		must(w.Write(make([]byte, 100)))
		if ref := must(w.Commit(Raw)); ref.Offset != uint64(i*128) {
			t.Errorf("block %d starts at %d", i, ref.Offset)
		}
	}
}

func TestNeighboursJoin(t *testing.T) {
	noLeftovers(t)
	a := NewArena(tiny(newReaders(t)))
	defer a.Close()
	var refs []Ref
	for range 5 {
		refs = append(refs, must(a.Write(Raw, make([]byte, 1024))))
	}
	for _, i := range []int{1, 3, 2} {
		if err := a.Free(refs[i].Block()); err != nil {
			t.Fatal(err)
		}
	}
	if got := must(a.Write(Raw, make([]byte, 3*1024))); got.Offset != refs[1].Offset {
		t.Errorf("three freed neighbours are not one run: %v", got)
	}
}

func TestSegmentChoice(t *testing.T) {
	noLeftovers(t)
	a := NewArena(ArenaOptions{LargeThreshold: 8 << 10, LargeSegmentSize: 1 << 20, RetainBytes: 10 << 20})
	defer a.Close()
	free := func(ref Ref) SegmentID {
		if err := a.Free(ref.Block()); err != nil {
			t.Fatal(err)
		}
		return ref.Segment
	}
	write := func(size int) Ref { return must(a.Write(Raw, make([]byte, size))) }
	bigRef, smallRef := write(900_000), write(20_000)
	small, big := free(smallRef), free(bigRef)
	if got := write(18_000); got.Segment != small {
		t.Errorf("18 KB went to segment %d, not %d: the larger one should wait for a larger block", got.Segment, small)
	} else {
		free(got)
	}
	if got := write(800_000); got.Segment != big {
		t.Errorf("800 KB went to segment %d, its pages are in %d", got.Segment, big)
	} else {
		free(got)
	}
	held := write(800_000)
	if got := write(30_000); got.Segment != small {
		t.Errorf("30 KB went to segment %d; more than half of its pages are in %d", got.Segment, small)
	} else {
		free(got)
	}
	if got := write(200_000); got.Segment == small {
		t.Error("200 KB went to a segment with hardly any of its pages")
	}
	free(held)
	if got := write(5 << 20); got.Segment == big || got.Segment == small {
		t.Error("5 MB went to a segment that is too small")
	}
}

func TestUnknownLengthMovesToWarmerSegment(t *testing.T) {
	noLeftovers(t)
	a := NewArena(ArenaOptions{LargeThreshold: 8 << 10, LargeSegmentSize: 4 << 20})
	defer a.Close()
	large := must(a.Write(Raw, pattern(2<<20, 0)))
	small := must(a.Write(Raw, pattern(20_000, 0)))
	for _, ref := range []Ref{large, small} { // small is the last freed
		if err := a.Free(ref.Block()); err != nil {
			t.Fatal(err)
		}
	}
	fresh := a.Stats().Fresh
	w := a.NewBlock(0)
	want := pattern(1<<20, 9)
	for p := want; len(p) > 0; p = p[4096:] {
		must(w.Write(p[:4096]))
	}
	if string(w.Bytes()) != string(want) {
		t.Error("contents differ after the move")
	}
	if ref := must(w.Commit(Raw)); ref.Segment != large.Segment {
		t.Errorf("in segment %d, the warm one is %d", ref.Segment, large.Segment)
	}
	if got := a.Stats().Fresh - fresh; got != 0 {
		t.Errorf("%d bytes of fresh pages though a segment had them", got)
	}
}

func TestRetainBytesBoundsWhatIsKept(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	options := tiny(r)
	options.RetainBytes = 100_000
	a := NewArena(options)
	defer a.Close()
	var refs []Ref
	for range 6 {
		refs = append(refs, must(a.Write(Raw, make([]byte, 40_960))))
	}
	for _, ref := range refs {
		if err := a.Free(ref.Block()); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.Stats(); s.Retained != 2*40_960 || s.Segments != 2 || len(r.open) != 2 {
		t.Errorf("%d readers' segments, %+v", len(r.open), s)
	}
	if r.open[refs[4].Segment] == nil || r.open[refs[5].Segment] == nil {
		t.Error("the segments kept are not the last freed")
	}
	// A Reserve can touch far more than is committed.
	w := a.NewBlock(0)
	clear(must(w.Reserve(500_000)))
	w.Advance(10_000)
	if err := a.Free(must(w.Commit(Raw)).Block()); err != nil {
		t.Fatal(err)
	}
	if s := a.Stats(); s.Retained > 100_000 {
		t.Errorf("pages touched but not used are not counted: %+v", s)
	}
	if err := a.Trim(); err != nil {
		t.Fatal(err)
	}
	if s := a.Stats(); s.Segments != 0 || s.Retained != 0 || len(r.open) != 0 {
		t.Errorf("after Trim: %+v", s)
	}
}

func TestRetainNothing(t *testing.T) {
	noLeftovers(t)
	options := tiny(newReaders(t))
	options.RetainBytes = -1
	a := NewArena(options)
	defer a.Close()
	for _, size := range []int{10, 10_000} {
		if err := a.Free(must(a.Write(Raw, make([]byte, size))).Block()); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.Stats(); s.Segments != 0 {
		t.Errorf("%+v", s)
	}
	var limitErr *LimitError
	if err := a.Prefault(1); !errors.As(err, &limitErr) {
		t.Errorf("Prefault: %v", err)
	}
}

func TestReset(t *testing.T) {
	noLeftovers(t)
	r := newReaders(t)
	a := NewArena(tiny(r))
	defer a.Close()
	w := a.NewBlock(0)
	must(w.WriteString("being written"))
	var blocks []Block
	for i := range 20 {
		blocks = append(blocks, must(a.Write(Raw, pattern(i*1000, 0))).Block())
	}
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := a.Free(b); !errors.Is(err, ErrUnknownBlock) {
			t.Errorf("%v is live after Reset: %v", b, err)
		}
	}
	must(a.Write(Raw, pattern(30_000, 0)))
	if got := r.read(must(w.Commit(Raw))); string(got) != "being written" {
		t.Errorf("Reset changed an open block: %q", got)
	}
	if s := a.Stats(); s.Blocks != 2 || s.Published != 30_013 || s.Retained > 128<<10 {
		t.Errorf("%+v", s)
	}
}

func TestPrefault(t *testing.T) {
	noLeftovers(t)
	a := NewArena(ArenaOptions{RetainBytes: 8 << 20})
	defer a.Close()
	for range 2 { // the second finds it done
		if err := a.Prefault(5 << 20); err != nil {
			t.Fatal(err)
		}
	}
	if s := a.Stats(); s.Segments != 1 || s.Retained != 5<<20 {
		t.Fatalf("%+v", s)
	}
	ref := must(a.Write(Raw, make([]byte, 5<<20)))
	if s := a.Stats(); s.Fresh != 0 || s.Reused != 5<<20 || s.Segments != 1 {
		t.Errorf("the block did not use it: %+v", s)
	}
	if err := a.Free(ref.Block()); err != nil {
		t.Fatal(err)
	}
	if err := a.Prefault(7 << 20); err != nil { // more than a sealed one has
		t.Fatal(err)
	}
	must(a.Write(Raw, make([]byte, 7<<20)))
	if s := a.Stats(); s.Fresh != 0 {
		t.Errorf("%+v", s)
	}
	var limitErr *LimitError
	if err := a.Prefault(9 << 20); !errors.As(err, &limitErr) || limitErr.Size != 9<<20 {
		t.Errorf("more than can be kept: %v", err)
	}
}
