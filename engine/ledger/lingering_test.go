package ledger

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// large is a value that has a segment of its own.
var large = `"` + strings.Repeat("x", 1<<20) + `"`

// lingering is a ledger with one large block that a reader has as well, and
// counts how often memory was told to have been given back.
func lingering(t *testing.T) (l *Ledger, a *Account, w, reader *writer, state ipc.Table, freed *int) {
	freed = new(int)
	l = NewWatched(func() { *freed++ })
	a = openAccount(t, l, "run", 0)
	w, reader = newWriter(t, l, 7), newWriter(t, l, 8)
	row, block := w.put(t, "k", large)
	state = object(row)
	if _, err := a.Publish(w.owner, []shm.Block{block}, state); err != nil {
		t.Fatal(err)
	}
	reader.owner.Missing(state)
	return l, a, w, reader, state, freed
}

func wantHeld(t *testing.T, l *Ledger, when string, want int) {
	t.Helper()
	if got := l.Held(); got != uint64(want) {
		t.Errorf("%s: %d bytes are held, want %d", when, got, want)
	}
}

// Memory counts until the last of those that have it has closed it.
func TestMemoryCountsUntilItIsClosed(t *testing.T) {
	l, a, w, reader, state, freed := lingering(t)
	wantHeld(t, l, "published", len(large))
	a.Release(state)
	wantHeld(t, l, "let go", len(large))
	if l.Bytes() != 0 {
		t.Errorf("%d bytes of state", l.Bytes())
	}
	if err := w.owner.Detach([]shm.SegmentID{state.Rows[0].Spans[0].Segment}); err != nil {
		t.Fatal(err)
	}
	l.Wait()
	wantHeld(t, l, "its writer gave it up", len(large))
	_, detach := reader.owner.Owed()
	before := *freed
	reader.owner.Detached(detach)
	wantHeld(t, l, "its reader closed it", 0)
	if *freed == before {
		t.Error("nobody was told")
	}
	reader.owner.Detached(detach)
	wantHeld(t, l, "said twice", 0)
}

func TestReaderThatDiesHoldsNothing(t *testing.T) {
	l, a, w, reader, state, _ := lingering(t)
	a.Release(state)
	w.owner.Close()
	l.Wait()
	wantHeld(t, l, "its writer died", len(large))
	_, detach := reader.owner.Owed()
	reader.owner.Close()
	wantHeld(t, l, "its reader died", 0)
	reader.owner.Detached(detach)
	wantHeld(t, l, "its answer was late", 0)
}

// A segment that its writer fills again does not count twice.
func TestReusedMemoryCountsOnce(t *testing.T) {
	l, a, w, _, state, _ := lingering(t)
	a.Release(state)
	owed, _ := w.owner.Owed()
	if err := w.Free(owed[0]); err != nil {
		t.Fatal(err)
	}
	half := large[:1<<19] + `"`
	row, block := w.put(t, "k", half)
	if block.Segment != owed[0].Segment {
		t.Fatal("the segment was not used again")
	}
	if _, err := a.Publish(w.owner, []shm.Block{block}, object(row)); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, l, "half of it is used again", len(large))
	if l.Bytes() != uint64(len(half)) {
		t.Errorf("%d bytes of state", l.Bytes())
	}
}

// A segment is not held by a reader that was gone before it was handed over, so
// its memory does not wait for that one.
func TestNoReaderThatIsGone(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w, reader := newWriter(t, l, 7), newWriter(t, l, 8)
	row, block := w.put(t, "k", `"value"`)
	state := object(row)
	if _, err := a.Publish(w.owner, []shm.Block{block}, state); err != nil {
		t.Fatal(err)
	}
	reader.owner.Close()
	if got := reader.owner.Missing(state); len(got) != 0 {
		t.Fatalf("%d segments are to be sent to who is gone", len(got))
	}
	w.owner.Close()
	a.Release(state)
	l.Wait()
	if l.Held() != 0 || l.Segments() != 0 {
		t.Fatalf("%d bytes in %d segments are held", l.Held(), l.Segments())
	}
}
