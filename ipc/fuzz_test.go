package ipc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seeds adds every golden frame, good and bad.
func seeds(f *testing.F) {
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		f.Fatal(err)
	}
	var file vectors
	if err := json.Unmarshal(raw, &file); err != nil {
		f.Fatal(err)
	}
	add := func(s string) {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, v := range file.Frames {
		add(v.Hex)
	}
	for _, v := range file.BadFrames {
		add(v.Hex)
	}
}

// Whatever parses can be sent again and then parses to the same, and from then
// on to the same bytes.
func FuzzParseFrame(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		kept := bytes.Clone(b)
		e, err := ParseFrame(b)
		if !bytes.Equal(b, kept) {
			t.Fatal("the frame was written to")
		}
		if err != nil {
			return
		}
		e.File = standIn(int(b[6]))
		again, err := AppendFrame(nil, e)
		if err != nil {
			t.Fatalf("parsed %+v, which cannot be sent: %v", e, err)
		}
		if len(again) > len(b) {
			t.Fatalf("grew from %d bytes to %d", len(b), len(again))
		}
		second, err := ParseFrame(again)
		if err != nil {
			t.Fatal(err)
		}
		second.File = e.File
		clear(b) // nothing of the envelope may be in it
		if diff := cmp.Diff(e, second, cmp.AllowUnexported(doorbell{}, fromSocket{}), cmp.Comparer(func(a, b *os.File) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
		third, err := AppendFrame(nil, second)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatal("the bytes differ", err)
		}
	})
}

// The same for a table alone: its kind, its row count, its bytes.
func FuzzTable(f *testing.F) {
	b := frameOf(f, Envelope{Message: &Done{}, State: smallTable()})
	f.Add(uint8(KindObject), uint32(2), b[HeaderSize+40:])
	f.Add(uint8(KindValue), uint32(1), b[HeaderSize+40:])
	f.Add(uint8(KindAbsent), uint32(0), []byte{})
	f.Add(uint8(KindObject), uint32(1<<31), bytes.Repeat([]byte{0xff}, 80))
	f.Fuzz(func(t *testing.T, kind uint8, rows uint32, b []byte) {
		d := decoder{b: b}
		table, err := d.table(Kind(kind), rows)
		if err != nil {
			return
		}
		if err := table.check(); err != nil {
			t.Fatal(err)
		}
		if len(table.Rows) != int(rows) {
			t.Fatalf("%d rows, not %d", len(table.Rows), rows)
		}
		seen := make(map[string]bool)
		for _, r := range table.Rows {
			if seen[r.Key] || len(r.Spans) == 0 {
				t.Fatalf("row %+v", r)
			}
			seen[r.Key] = true
		}
		var e encoder
		for i := range table.Rows {
			e.row(0, &table.Rows[i])
		}
		if used := len(b) - len(d.b); len(e.b) != used {
			t.Fatalf("%d bytes were read, %d are written", used, len(e.b))
		}
		again, err := (&decoder{b: e.b}).table(Kind(kind), rows)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A ring whose every byte a peer chose gives well-formed frames or an error,
// reads nothing twice and ends.
func FuzzRingFrame(f *testing.F) {
	ping := frameOf(f, Envelope{ID: 1, Message: &Ping{}})
	f.Add(uint64(0), uint64(len(ping)), ping)
	f.Add(uint64(minRingSize-8), uint64(minRingSize-8+2*len(ping)), append(bytes.Clone(ping), ping...))
	f.Add(uint64(0), uint64(1<<63), ping)
	f.Add(^uint64(7), uint64(len(ping)-8), ping)
	f.Add(uint64(0), uint64(minRingSize), announcement)
	mem := make([]byte, ringMemorySize(minRingSize))
	buf := make([]byte, minRingSize)
	f.Fuzz(func(t *testing.T, read, written uint64, data []byte) {
		l, _ := lanes(mem, minRingSize)
		clear(l.data)
		for i, c := range data[:min(len(data), len(l.data))] {
			l.data[(read+uint64(i))%minRingSize] = c
		}
		l.own = read
		l.written.Store(written)
		for frames := 0; ; frames++ {
			if frames > minRingSize/HeaderSize {
				t.Fatal("more frames than fit")
			}
			before := l.own
			h, b, err := l.readFrame(buf)
			if err != nil {
				if l.own != before {
					t.Fatal("moved on after an error")
				}
				return
			}
			if b == nil {
				if l.available() {
					t.Fatal("there is something, and nothing was read")
				}
				return
			}
			if len(b) != int(h.size) || l.own-before != uint64(h.size) || l.read.Load() != l.own {
				t.Fatalf("frame of %d bytes, %d read, moved on by %d", h.size, len(b), l.own-before)
			}
			_, _ = parseBody(&h, b) // must not panic
		}
	})
}
