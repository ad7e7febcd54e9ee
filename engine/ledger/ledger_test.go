package ledger

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writer is an executor's side: an arena whose segments are attached to the
// ledger as they would be over the control channel.
type writer struct {
	*shm.Arena
	owner *Owner
	nudge int
}

func newWriter(t testing.TB, l *Ledger, prefix uint32) *writer {
	t.Helper()
	w := &writer{}
	w.owner = l.AddOwner(prefix, func() { w.nudge++ })
	n := uint64(0)
	w.Arena = shm.NewArena(shm.ArenaOptions{
		NextID: func() shm.SegmentID { n++; return shm.SegmentID(uint64(prefix)<<32 | n) },
		OnSegment: func(s *shm.Segment) error {
			f, err := shm.DupFile(s.File())
			if err != nil {
				return err
			}
			return w.owner.Attach(s.ID(), f, uint64(s.Size()))
		},
	})
	t.Cleanup(func() {
		w.owner.Close()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// put writes a value and returns its row and block.
func (w *writer) put(t testing.TB, key, value string) (ipc.Row, shm.Block) {
	t.Helper()
	ref, err := w.Write(shm.JSON, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return ipc.Row{Key: key, Spans: []shm.Ref{ref}}, ref.Block()
}

func object(rows ...ipc.Row) ipc.Table { return ipc.Table{Kind: ipc.KindObject, Rows: rows} }

func openAccount(t testing.TB, l *Ledger, run string, limit uint64) *Account {
	t.Helper()
	a := l.Open(run, limit)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func read(t testing.TB, l *Ledger, row ipc.Row) string {
	t.Helper()
	v, err := l.Value(row)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(v.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPublishedStateOutlivesItsWriter(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w := newWriter(t, l, 7)
	row, block := w.put(t, "data", `[1,2,3]`)
	state := object(row)
	if _, err := a.Publish(w.owner, []shm.Block{block}, state); err != nil {
		t.Fatal(err)
	}
	w.owner.Close()
	if err := w.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, l, row); got != `[1,2,3]` {
		t.Fatalf("read %q", got)
	}
	a.Release(state)
	if n := l.Segments(); n != 0 {
		t.Fatalf("%d segments held after the last reference went", n)
	}
}

func TestBlocksGoBackWhenNothingRefersToThem(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w := newWriter(t, l, 7)
	row, block := w.put(t, "a", `"x"`)
	unused, spare := w.put(t, "b", `"y"`)
	_ = unused
	state := object(row)
	if _, err := a.Publish(w.owner, []shm.Block{block, spare}, state); err != nil {
		t.Fatal(err)
	}
	if owed, _ := w.owner.Owed(); len(owed) != 1 || owed[0] != spare {
		t.Fatalf("a block that no row uses is owed at once; owed %v", owed)
	}
	if err := a.Retain(state); err != nil {
		t.Fatal(err)
	}
	a.Release(state)
	if owed, _ := w.owner.Owed(); len(owed) != 0 {
		t.Fatalf("owed %v while still held", owed)
	}
	a.Release(state)
	if owed, _ := w.owner.Owed(); len(owed) != 1 || owed[0] != block {
		t.Fatalf("owed %v, want %v", owed, block)
	}
	if now, peak, _ := a.Bytes(); now != 0 || peak == 0 {
		t.Fatalf("holds %d bytes, peak %d", now, peak)
	}
}

func TestReusedBytesAreCounted(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w := newWriter(t, l, 7)
	big, block := w.put(t, "big", `"`+strings.Repeat("x", 1000)+`"`)
	first := object(big)
	if reused, err := a.Publish(w.owner, []shm.Block{block}, first); err != nil || reused != 0 {
		t.Fatalf("reused %d, %v", reused, err)
	}
	small, block2 := w.put(t, "small", `1`)
	second := object(big, small)
	reused, err := a.Publish(w.owner, []shm.Block{block2}, second)
	if err != nil || reused != 1002 {
		t.Fatalf("reused %d, %v; want the 1002 bytes of the untouched key", reused, err)
	}
	a.Release(first)
	a.Release(second)
}

func TestResultOfADeadExecutor(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w := newWriter(t, l, 7)
	row, block := w.put(t, "k", `1`)
	w.owner.Close()
	if _, err := a.Publish(w.owner, []shm.Block{block}, object(row)); !errors.Is(err, ErrOwnerGone) {
		t.Fatalf("got %v", err)
	}
}

func TestBudget(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 100)
	w := newWriter(t, l, 7)
	small, b1 := w.put(t, "small", `1`)
	large, b2 := w.put(t, "large", `"`+strings.Repeat("x", 1000)+`"`)
	_, err := a.Publish(w.owner, []shm.Block{b1, b2}, object(small, large))
	var budget *BudgetError
	if !errors.As(err, &budget) || budget.Key != "large" || budget.KeySize != 1002 || budget.Limit != 100 || budget.Size != 1003 {
		t.Fatalf("got %+v (%v)", budget, err)
	}
	if owed, _ := w.owner.Owed(); len(owed) != 2 {
		t.Fatalf("owed %v: both blocks are the writer's again", owed)
	}
	if now, _, _ := a.Bytes(); now != 0 {
		t.Fatalf("%d bytes entered of a result that was refused", now)
	}
}

// A hostile executor's references, blocks and descriptors.
func TestHostileReferences(t *testing.T) {
	const huge = 1 << 63
	type attack func(w *writer, good shm.Ref) ([]shm.Block, ipc.Table)
	one := func(r shm.Ref) ipc.Table { return object(ipc.Row{Key: "k", Spans: []shm.Ref{r}}) }
	cases := map[string]attack{
		"a block outside the segment": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			return []shm.Block{{Segment: g.Segment, Offset: 1 << 40, Length: 8}}, ipc.Table{}
		},
		"a block of 2^63 bytes": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			return []shm.Block{{Segment: g.Segment, Offset: huge, Length: huge}}, ipc.Table{}
		},
		"an empty block": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			return []shm.Block{{Segment: g.Segment, Offset: 0}}, ipc.Table{}
		},
		"the same block twice": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			return []shm.Block{g.Block(), g.Block()}, one(g)
		},
		"overlapping blocks": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			b := g.Block()
			b.Offset++
			return []shm.Block{g.Block(), b}, one(g)
		},
		"a segment never attached": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			g.Segment += 99
			return []shm.Block{g.Block()}, one(g)
		},
		"a reference past its block": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			r := g
			r.Length++
			return []shm.Block{g.Block()}, one(r)
		},
		"a reference of 2^63 bytes": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			r := g
			r.Offset, r.Length = huge, huge-1
			return []shm.Block{g.Block()}, one(r)
		},
		"a reference to nothing published": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			return nil, one(g)
		},
		"an empty JSON value": func(_ *writer, g shm.Ref) ([]shm.Block, ipc.Table) {
			r := g
			r.Length = 0
			return []shm.Block{g.Block()}, one(r)
		},
	}
	for name, attack := range cases {
		t.Run(name, func(t *testing.T) {
			l := New()
			a := openAccount(t, l, "run", 0)
			w := newWriter(t, l, 7)
			row, _ := w.put(t, "k", `"value"`)
			blocks, table := attack(w, row.Spans[0])
			_, err := a.Publish(w.owner, blocks, table)
			var bad *RefError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a *RefError", err)
			}
			if l.Bytes() != 0 {
				t.Fatalf("%d bytes entered of a refused message", l.Bytes())
			}
		})
	}
}

func TestForeignState(t *testing.T) {
	l := New()
	mine, other := openAccount(t, l, "mine", 0), openAccount(t, l, "other", 0)
	w, thief := newWriter(t, l, 7), newWriter(t, l, 8)
	row, block := w.put(t, "secret", `"s"`)
	state := object(row)
	if _, err := mine.Publish(w.owner, []shm.Block{block}, state); err != nil {
		t.Fatal(err)
	}
	defer mine.Release(state)
	var bad *RefError
	if _, err := other.Publish(thief.owner, nil, state); !errors.As(err, &bad) {
		t.Fatalf("another run's state was accepted: %v", err)
	}
	spare, spareBlock := w.put(t, "k", `1`)
	if _, err := mine.Publish(thief.owner, []shm.Block{spareBlock}, object(spare)); !errors.As(err, &bad) {
		t.Fatalf("a block in another executor's segment was accepted: %v", err)
	}
}

func TestHostileDescriptors(t *testing.T) {
	regular := func(t *testing.T) *os.File {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		return f
	}
	unsealed := func(t *testing.T) *os.File {
		fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "unsealed")
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		return f
	}
	none := func(*testing.T) *os.File { return nil }
	for _, c := range []struct {
		name string
		file func(*testing.T) *os.File
		id   shm.SegmentID
		size uint64
	}{
		{"not a memfd", regular, 7<<32 | 1, 4096},
		{"no seals", unsealed, 7<<32 | 1, 4096},
		{"no descriptor", none, 7<<32 | 1, 4096},
		{"another executor's id", unsealed, 8<<32 | 1, 4096},
		{"the supervisor's id", unsealed, 1, 4096},
		{"a size of 2^63", unsealed, 7<<32 | 1, 1 << 63},
		{"a size of 0", unsealed, 7<<32 | 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New()
			o := l.AddOwner(7, func() {})
			defer o.Close()
			f := c.file(t)
			if err := o.Attach(c.id, f, c.size); err == nil {
				t.Fatal("accepted")
			}
			if f != nil {
				if err := f.Close(); !errors.Is(err, os.ErrClosed) {
					t.Fatalf("the descriptor was left open: %v", err)
				}
			}
			if l.Segments() != 0 {
				t.Fatal("entered all the same")
			}
		})
	}
}

func TestAttachTwice(t *testing.T) {
	l := New()
	w := newWriter(t, l, 7)
	row, _ := w.put(t, "k", `1`)
	id := row.Spans[0].Segment
	again, err := shm.DupFile(l.segments[id].File())
	if err != nil {
		t.Fatal(err)
	}
	var bad *RefError
	if err := w.owner.Attach(id, again, uint64(l.segments[id].Size())); !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
}

func TestReadersAreToldToDetach(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 0)
	w, reader := newWriter(t, l, 7), newWriter(t, l, 8)
	row, block := w.put(t, "k", `1`)
	state := object(row)
	if _, err := a.Publish(w.owner, []shm.Block{block}, state); err != nil {
		t.Fatal(err)
	}
	if got := reader.owner.Missing(state); len(got) != 1 {
		t.Fatalf("missing %d segments, want 1", len(got))
	}
	if got := reader.owner.Missing(state); len(got) != 0 {
		t.Fatal("handed out twice")
	}
	if got := w.owner.Missing(state); len(got) != 0 {
		t.Fatal("a writer was handed its own segment")
	}
	w.owner.Close()
	a.Release(state)
	if _, detach := reader.owner.Owed(); len(detach) != 1 || detach[0] != block.Segment {
		t.Fatalf("detach %v", detach)
	}
	if reader.nudge == 0 {
		t.Fatal("the reader keeps the memory until its next step")
	}
}

func TestAccountCloseLeavesNothing(t *testing.T) {
	l := New()
	w := newWriter(t, l, 7)
	a := l.Open("run", 0)
	row, block := w.put(t, "k", `1`)
	if _, err := a.Publish(w.owner, []shm.Block{block}, object(row)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write("own", shm.JSON, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Import(strings.NewReader(`{"x":1}`), shm.JSON); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Bytes() != 0 || l.Segments() != 1 { // the writer's, which it may use again
		t.Fatalf("%d bytes in %d segments left", l.Bytes(), l.Segments())
	}
}

func TestImportHonoursTheBudget(t *testing.T) {
	l := New()
	a := openAccount(t, l, "run", 10)
	_, err := a.Import(strings.NewReader(strings.Repeat("1", 11)), shm.JSON)
	var limit *shm.LimitError
	if !errors.As(err, &limit) || limit.Limit != 10 {
		t.Fatalf("got %v", err)
	}
}

// Random publishing, holding and releasing by several writers, against a model
// that counts by hand.
func TestLedgerProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := New()
		a := l.Open("run", 0)
		writers := []*writer{newWriter(t, l, 1), newWriter(t, l, 2)}
		type held struct {
			state ipc.Table
			text  []string
		}
		var states []held
		steps := rapid.IntRange(1, 40).Draw(rt, "steps")
		for range steps {
			switch op := rapid.IntRange(0, 3).Draw(rt, "op"); {
			case op == 0 || len(states) == 0: // publish: fresh rows and some of a former state
				w := writers[rapid.IntRange(0, 1).Draw(rt, "writer")]
				var next held
				var blocks []shm.Block
				next.state.Kind = ipc.KindObject
				if len(states) > 0 && rapid.Bool().Draw(rt, "pass on") {
					from := states[rapid.IntRange(0, len(states)-1).Draw(rt, "from")]
					next.state.Rows = append(next.state.Rows, from.state.Rows...)
					next.text = append(next.text, from.text...)
				}
				for range rapid.IntRange(0, 3).Draw(rt, "rows") {
					value := `"` + strings.Repeat("v", rapid.IntRange(0, 300).Draw(rt, "size")) + `"`
					row, block := w.put(t, "k", value)
					next.state.Rows = append(next.state.Rows, row)
					next.text = append(next.text, value)
					blocks = append(blocks, block)
				}
				if _, err := a.Publish(w.owner, blocks, next.state); err != nil {
					rt.Fatal(err)
				}
				states = append(states, next)
			case op == 1: // hold once more
				s := states[rapid.IntRange(0, len(states)-1).Draw(rt, "hold")]
				if err := a.Retain(s.state); err != nil {
					rt.Fatal(err)
				}
				states = append(states, s)
			default: // let go, and give what is owed back to its writer
				i := rapid.IntRange(0, len(states)-1).Draw(rt, "release")
				a.Release(states[i].state)
				states = append(states[:i], states[i+1:]...)
				for _, w := range writers {
					owed, _ := w.owner.Owed()
					for _, b := range owed {
						if err := w.Free(b); err != nil {
							rt.Fatalf("the ledger gave back %v: %v", b, err)
						}
					}
				}
			}
			live := make(map[shm.Block]bool)
			var want uint64
			for _, s := range states {
				for i, row := range s.state.Rows {
					if got := read(t, l, row); got != s.text[i] {
						rt.Fatalf("read %q, want %q", got, s.text[i])
					}
					if b := row.Spans[0].Block(); !live[b] {
						live[b] = true
						want += b.Length
					}
				}
			}
			if l.Bytes() != want {
				rt.Fatalf("the ledger counts %d bytes, %d are referred to", l.Bytes(), want)
			}
		}
		for _, s := range states {
			a.Release(s.state)
		}
		if err := a.Close(); err != nil {
			rt.Fatal(err)
		}
		if l.Bytes() != 0 {
			rt.Fatalf("%d bytes left", l.Bytes())
		}
	})
}
