package ledger

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

func openStream(t *testing.T, a *Account, want uint64) (*Stream, ipc.Row, chan struct{}) {
	t.Helper()
	unused := make(chan struct{})
	s, row, err := a.OpenStream("pages", shm.JSON, want, func() { close(unused) })
	if err != nil {
		t.Fatal(err)
	}
	return s, row, unused
}

// A stream is there as long as a table with its row is held, and its memory
// counts until it is closed.
func TestStream(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w := newWriter(t, l, 7)
	s, row, unused := openStream(t, a, 100_000)
	if s.Capacity != 128<<10 || l.Bytes() != 128<<10 {
		t.Fatalf("capacity %d, %d bytes counted", s.Capacity, l.Bytes())
	}
	f, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != 4096+128<<10 {
		t.Fatal(info, err)
	}
	state := object(row)
	if _, err := a.Publish(w.owner, nil, state); err != nil { // passed on by a step
		t.Fatal(err)
	}
	if missing := w.owner.Missing(state); len(missing) != 0 {
		t.Fatalf("%d segments would be attached for a stream", len(missing))
	}
	if got := read(t, l, row); got != `"[stream]"` {
		t.Fatalf("shows as %s", got)
	}
	a.Release(state)
	select {
	case <-unused:
		t.Fatal("unused while it is held")
	case <-time.After(10 * time.Millisecond):
	}
	a.Release(state)
	<-unused
	var bad *RefError
	if _, err := a.Publish(w.owner, nil, state); !errors.As(err, &bad) {
		t.Fatalf("a stream that nobody has was published: %v", err)
	}
	s.Close()
	s.Close()
	if _, err := s.Open(); l.Bytes() != 0 || !errors.Is(err, shm.ErrClosed) {
		t.Fatalf("%d bytes left, opened: %v", l.Bytes(), err)
	}
}

func TestForgedStreams(t *testing.T) {
	l := New()
	a, other := openAccount(t, l, "run", 0), openAccount(t, l, "other", 0)
	w := newWriter(t, l, 7)
	s, row, _ := openStream(t, a, 0)
	defer s.Close()
	good := row.Spans[0]
	one := func(r shm.Ref) ipc.Row { return ipc.Row{Key: "k", Spans: []shm.Ref{r}} }
	twice := ipc.Row{Key: "k", Spans: []shm.Ref{good, good}}
	for name, forge := range map[string]func() (*Account, ipc.Row){
		"another id":       func() (*Account, ipc.Row) { r := good; r.Segment++; return a, one(r) },
		"an offset":        func() (*Account, ipc.Row) { r := good; r.Offset = 8; return a, one(r) },
		"a length":         func() (*Account, ipc.Row) { r := good; r.Length = 8; return a, one(r) },
		"another encoding": func() (*Account, ipc.Row) { r := good; r.Encoding = shm.Raw; return a, one(r) },
		"twice in a row":   func() (*Account, ipc.Row) { return a, twice },
		"another run's":    func() (*Account, ipc.Row) { return other, row },
		"as a block":       func() (*Account, ipc.Row) { r := good; r.Flags, r.Length = 0, 8; return a, one(r) },
	} {
		t.Run(name, func(t *testing.T) {
			account, forged := forge()
			var bad *RefError
			if _, err := account.Publish(w.owner, nil, object(forged)); !errors.As(err, &bad) {
				t.Fatalf("got %v, want a *RefError", err)
			}
		})
	}
}

func TestStreamsCountAgainstTheBudget(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 1<<20)
	var budget *BudgetError
	if _, _, err := a.OpenStream("pages", shm.JSON, 2<<20, func() {}); !errors.As(err, &budget) || budget.Key != "pages" {
		t.Fatalf("got %v", err)
	}
	if l.Bytes() != 0 {
		t.Fatal("counted all the same")
	}
}

func TestAccountCloseEndsItsStreams(t *testing.T) {
	l := New()
	a := l.Open("run", 0)
	openStream(t, a, 0)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Bytes() != 0 || len(l.streams) != 0 {
		t.Fatalf("%d bytes, %d streams left", l.Bytes(), len(l.streams))
	}
}
