// Package testhost is a supervisor small enough to test executors with: it
// starts them, hands them states and checks what they answer by the rules that
// the engine's ledger has. It is for tests only.
//
// A [World] stands for the ledger: all segments and published blocks. An
// [Executor] is a child process of it.
package testhost

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// World is the segments and blocks of a test.
type World struct {
	t testing.TB

	mu       sync.Mutex
	segments map[shm.SegmentID]*segment
	streams  map[shm.SegmentID]*Stream
	lastHost uint64
	prefix   uint32
}

type segment struct {
	*shm.Segment
	owner   *Executor // nil: the world's
	readers map[*Executor]bool
	blocks  map[uint64]uint64 // published: offset to length
}

// NewWorld returns an empty world, closed with the test.
func NewWorld(t testing.TB) *World {
	w := &World{t: t, segments: make(map[shm.SegmentID]*segment)}
	t.Cleanup(func() {
		for _, s := range w.segments {
			_ = s.Close()
		}
	})
	return w
}

func (w *World) enter(s *shm.Segment, owner *Executor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.segments[s.ID()] != nil {
		return fmt.Errorf("segment %d attached twice", s.ID())
	}
	w.segments[s.ID()] = &segment{Segment: s, owner: owner, readers: make(map[*Executor]bool), blocks: make(map[uint64]uint64)}
	return nil
}

// Import makes a segment of bytes, and one published block.
func (w *World) Import(r io.Reader, enc shm.Encoding) shm.Ref {
	w.t.Helper()
	w.mu.Lock()
	w.lastHost++
	id := shm.SegmentID(w.lastHost)
	w.mu.Unlock()
	s, n, err := shm.Import(id, r, shm.ImportOptions{})
	if err == nil {
		err = w.enter(s, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments[id].blocks[0] = uint64(n)
	return shm.Ref{Segment: id, Length: uint64(n), Encoding: enc}
}

// State makes a state of a JSON document, one segment, as the engine does.
func (w *World) State(doc string) ipc.Table {
	w.t.Helper()
	ref := w.Import(bytes.NewReader([]byte(doc)), shm.JSON)
	outline, err := jsonscan.Top([]byte(doc), jsonscan.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	table := ipc.Table{Kind: ipc.KindObject}
	if outline.Kind != jsonscan.Object {
		table.Kind = ipc.KindValue
	}
	for _, m := range outline.Members {
		part := ref
		part.Offset, part.Length = uint64(m.Offset), uint64(m.Length)
		table.Rows = append(table.Rows, ipc.Row{Key: m.Key, Spans: []shm.Ref{part}})
	}
	return table
}

// Row makes a row whose value is a rope of the pieces.
func (w *World) Row(key string, enc shm.Encoding, pieces ...string) ipc.Row {
	w.t.Helper()
	row := ipc.Row{Key: key}
	for _, p := range pieces {
		row.Spans = append(row.Spans, w.Import(bytes.NewReader([]byte(p)), enc))
	}
	return row
}

// Bytes returns the bytes of a row, copied.
func (w *World) Bytes(row ipc.Row) string {
	w.t.Helper()
	var b []byte
	for _, r := range row.Spans {
		if r.Length == 0 {
			continue
		}
		w.mu.Lock()
		s := w.segments[r.Segment]
		w.mu.Unlock()
		if s == nil {
			w.t.Fatalf("row %q: no segment %d", row.Key, r.Segment)
		}
		p := make([]byte, r.Length)
		if _, err := s.ReadAt(p, int64(r.Offset)); err != nil {
			w.t.Fatalf("row %q: %v", row.Key, err)
		}
		b = append(b, p...)
	}
	return string(b)
}

// Document returns a state as text: {"key":value,…}, values of other
// encodings as <encoding:bytes>.
func (w *World) Document(t ipc.Table) string {
	w.t.Helper()
	if t.Kind == ipc.KindAbsent {
		return ""
	}
	var b []byte
	for i, row := range t.Rows {
		if t.Kind == ipc.KindObject {
			b = append(b, "{,"[min(i, 1)])
			b = jsonscan.AppendKey(b, row.Key)
		}
		if row.Spans[0].Flags&shm.FlagStream != 0 {
			b = append(b, `"[stream]"`...)
			continue
		}
		if enc := row.Encoding(); enc != shm.JSON {
			b = append(b, fmt.Sprintf("<%s:%s>", enc, w.Bytes(row))...)
			continue
		}
		b = append(b, w.Bytes(row)...)
	}
	switch {
	case t.Kind == ipc.KindValue:
		return string(b)
	case len(t.Rows) == 0:
		return "{}"
	}
	return string(b) + "}"
}

// publish enters an executor's result and checks it as the ledger would.
func (w *World) publish(x *Executor, blocks []shm.Block, t ipc.Table) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range blocks {
		s := w.segments[b.Segment]
		if s == nil || s.owner != x {
			return fmt.Errorf("block %+v is in no segment of the executor's", b)
		}
		end, ok := b.End()
		switch _, twice := s.blocks[b.Offset]; {
		case b.Length == 0 || !ok || end > uint64(s.Size()):
			return fmt.Errorf("block %+v is empty or outside of its segment", b)
		case twice:
			return fmt.Errorf("block %+v is published already", b)
		}
		s.blocks[b.Offset] = b.Length
	}
	for id, s := range w.segments {
		at := uint64(0)
		for _, offset := range slices.Sorted(maps.Keys(s.blocks)) {
			if offset < at {
				return fmt.Errorf("segment %d: the block at %d begins before %d, where another ends", id, offset, at)
			}
			at = offset + s.blocks[offset]
		}
	}
	used := make(map[shm.Block]bool)
	for _, row := range t.Rows {
		for _, r := range row.Spans {
			if r.Length == 0 && r.Encoding != shm.JSON {
				continue
			}
			if st := w.streams[r.Segment]; r.Flags&shm.FlagStream != 0 && st != nil && r == st.Row().Spans[0] {
				continue
			}
			b, ok := w.find(r)
			if s := w.segments[r.Segment]; ok && s.owner != x && !s.readers[x] {
				return fmt.Errorf("row %q: %v lies in a segment that the executor has not, or not any more", row.Key, r)
			}
			if !ok {
				return fmt.Errorf("row %q: %v lies in no published block", row.Key, r)
			}
			used[b] = true
		}
	}
	for _, b := range blocks {
		if !used[b] {
			return fmt.Errorf("block %+v is published and not used", b)
		}
	}
	return nil
}

func (w *World) find(r shm.Ref) (shm.Block, bool) {
	s := w.segments[r.Segment]
	if s == nil {
		return shm.Block{}, false
	}
	if length, ok := s.blocks[r.Offset]; ok && length == r.Length {
		return r.Block(), true
	}
	for offset, length := range s.blocks {
		b := shm.Block{Segment: r.Segment, Offset: offset, Length: length}
		if b.Contains(r) {
			return b, true
		}
	}
	return shm.Block{}, false
}

// Blocks returns how many blocks of the executor's are published.
func (w *World) Blocks(x *Executor) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, s := range w.segments {
		if s.owner == x {
			n += len(s.blocks)
		}
	}
	return n
}

// T returns the test that the world is of.
func (w *World) T() testing.TB { return w.t }
