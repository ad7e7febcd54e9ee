package ipc

import (
	"math"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/shm"
)

func row(key string, lengths ...uint64) Row {
	r := Row{Key: key}
	for _, n := range lengths {
		r.Spans = append(r.Spans, ref(1, 0, n, shm.JSON))
	}
	return r
}

func TestTableSizesSaturate(t *testing.T) {
	r := row("k", math.MaxUint64, 1)
	if r.Size() != math.MaxUint64 {
		t.Error(r.Size())
	}
	table := Table{Kind: KindObject, Rows: []Row{row("a", 1<<63), row("b", 1<<63), row("c", 5)}}
	if table.Size() != math.MaxUint64 {
		t.Error(table.Size())
	}
	if n := (Table{Rows: []Row{row("a", 1, 2), row("b", 3)}}).Size(); n != 6 {
		t.Error(n)
	}
}

func TestTableOfABareValue(t *testing.T) {
	value := Table{Kind: KindValue, Rows: []Row{row("", 4)}}
	if diff := cmp.Diff(value, value.Without("")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Table{Kind: KindObject, Rows: []Row{row("k", 1)}}, value.With(row("k", 1))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Table{Kind: KindObject, Rows: []Row{row("k", 1)}}, (Table{}).With(row("k", 1))); diff != "" {
		t.Error(diff)
	}
}

// A table against a model, and no table ever changes under another.
func TestTableIsAValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := Table{Kind: KindObject}
		var keys []string
		sizes := make(map[string]uint64)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := Table{Kind: table.Kind, Rows: append([]Row(nil), table.Rows...)}
			old := table
			key := strconv.Itoa(rapid.IntRange(0, 25).Draw(t, "key"))
			if rapid.Bool().Draw(t, "set") {
				n := rapid.Uint64Range(0, 1<<40).Draw(t, "size")
				if _, ok := sizes[key]; !ok {
					keys = append(keys, key)
				}
				sizes[key] = n
				table = table.With(row(key, n))
			} else {
				table = table.Without(key, "never there")
				if _, ok := sizes[key]; ok {
					delete(sizes, key)
					kept := keys[:0:0]
					for _, k := range keys {
						if k != key {
							kept = append(kept, k)
						}
					}
					keys = kept
				}
			}
			if diff := cmp.Diff(before.Rows, old.Rows, cmp.Transformer("nil", func(r []Row) []Row { return append([]Row{}, r...) })); diff != "" {
				t.Fatalf("a change reached an older table: %s", diff)
			}
			if len(table.Rows) != len(keys) {
				t.Fatalf("%d rows, not %d", len(table.Rows), len(keys))
			}
			for i, k := range keys {
				r, ok := table.Get(k)
				if !ok || table.Find(k) != i || r.Size() != sizes[k] {
					t.Fatalf("key %s: %+v at %d, want %d bytes at %d", k, r, table.Find(k), sizes[k], i)
				}
			}
			if err := table.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Any table survives the wire.
func TestTableCrossesTheWire(t *testing.T) {
	spans := rapid.Custom(func(t *rapid.T) []shm.Ref {
		encoding := rapid.SampledFrom([]shm.Encoding{shm.JSON, shm.ArrowStream, shm.Raw}).Draw(t, "encoding")
		list := make([]shm.Ref, rapid.IntRange(1, 5).Draw(t, "spans"))
		for i := range list {
			r := shm.Ref{Segment: shm.SegmentID(rapid.Uint64().Draw(t, "segment")), Offset: rapid.Uint64().Draw(t, "offset"), Encoding: encoding, Flags: shm.Flags(rapid.Uint16().Draw(t, "flags"))}
			r.Length = rapid.Uint64Range(0, math.MaxUint64-r.Offset).Draw(t, "length")
			list[i] = r
		}
		return list
	})
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.String(), 0, 40, rapid.ID[string]).Draw(t, "keys")
		table := Table{Kind: KindObject}
		for _, k := range keys {
			table.Rows = append(table.Rows, Row{Key: k, Spans: spans.Draw(t, "row")})
		}
		b, err := AppendFrame(nil, &Envelope{ID: 1, Message: &Execute{Run: rapid.String().Draw(t, "run")}, State: table})
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseFrame(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table, e.State); diff != "" {
			t.Fatal(diff)
		}
		// Rows share memory; one that grows must not reach into the next.
		for i := range e.State.Rows {
			_ = append(e.State.Rows[i].Spans, shm.Ref{})
		}
		if diff := cmp.Diff(table, e.State); diff != "" {
			t.Fatalf("rows reach into one another: %s", diff)
		}
	})
}
