package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// book is what a supervisor knows of memory in one case: segments, who wrote
// them, and which blocks of them are published. Segments are never mapped, so
// that what the program under test does to them cannot harm this process.
type book struct {
	mu        sync.Mutex
	segments  map[shm.SegmentID]*segment
	processes []*process
	lastHost  uint64
}

type segment struct {
	*shm.Segment
	writer  *session // nil: the supervisor
	readers map[*session]bool
	blocks  []shm.Block // published, not released
}

func newBook() *book { return &book{segments: make(map[shm.SegmentID]*segment)} }

func (b *book) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.segments {
		_ = s.Close() // only a descriptor
	}
	b.segments = nil
}

// killAll ends every process of the case.
func (b *book) killAll() {
	b.mu.Lock()
	processes := slices.Clone(b.processes)
	b.mu.Unlock()
	for _, p := range processes {
		_ = p.signal(9) // it may be gone already
	}
}

func (b *book) watch(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.processes = append(b.processes, p)
}

// enter adds a segment that writer (nil: the supervisor) handed over.
func (b *book) enter(s *shm.Segment, writer *session) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.segments == nil {
		return errors.Join(errors.New("segment attached after the end"), s.Close())
	}
	if b.segments[s.ID()] != nil {
		return errors.Join(fmt.Errorf("segment %#x attached twice", uint64(s.ID())), s.Close())
	}
	b.segments[s.ID()] = &segment{Segment: s, writer: writer, readers: make(map[*session]bool)}
	return nil
}

// leave takes out a segment that its writer gave up.
func (b *book) leave(id shm.SegmentID, writer *session) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.segments[id]
	switch {
	case s == nil || s.writer != writer:
		return fmt.Errorf("detach of segment %#x, which is not one of its own", uint64(id))
	case len(s.blocks) > 0:
		return fmt.Errorf("detach of segment %#x, of which %d blocks are published and not released", uint64(id), len(s.blocks))
	}
	delete(b.segments, id)
	return s.Close()
}

// missing returns the segments of a table that the reader has not got, and
// enters that it gets them.
func (b *book) missing(t ipc.Table, reader *session) []*shm.Segment {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []*shm.Segment
	for _, row := range t.Rows {
		for _, r := range row.Spans {
			s := b.segments[r.Segment]
			if s == nil || s.writer == reader || s.readers[reader] {
				continue
			}
			s.readers[reader] = true
			list = append(list, s.Segment)
		}
	}
	return list
}

// publish checks a result by the rules of the engine's ledger and enters its
// blocks. It returns those that no row refers to: they are the writer's again.
func (b *book) publish(writer *session, blocks []shm.Block, t ipc.Table) (unused []shm.Block, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, block := range blocks {
		s := b.segments[block.Segment]
		end, ok := block.End()
		switch {
		case s == nil:
			return nil, fmt.Errorf("published %s: the segment was never attached", blockText(block))
		case s.writer != writer:
			return nil, fmt.Errorf("published %s: the segment is another writer's", blockText(block))
		case block.Length == 0:
			return nil, fmt.Errorf("published %s: it is empty", blockText(block))
		case !ok || end > uint64(s.Size()):
			return nil, fmt.Errorf("published %s: it ends past the segment's %d bytes", blockText(block), s.Size())
		}
		for _, other := range s.blocks {
			if other.Offset < end && block.Offset < other.Offset+other.Length {
				return nil, fmt.Errorf("published %s: it overlaps %s, which is published already", blockText(block), blockText(other))
			}
		}
		s.blocks = append(s.blocks, block)
	}
	used := make(map[shm.Block]bool)
	for _, row := range t.Rows {
		for _, r := range row.Spans {
			if r.Length == 0 {
				if r.Encoding == shm.JSON && r.Flags&shm.FlagStream == 0 {
					return nil, fmt.Errorf("row %q: an empty JSON value", row.Key)
				}
				continue
			}
			block, ok := b.find(r)
			if !ok {
				return nil, fmt.Errorf("row %q: %v lies in no published block", row.Key, r)
			}
			used[block] = true
		}
	}
	for _, block := range blocks {
		if !used[block] {
			unused = append(unused, block)
		}
	}
	return unused, nil
}

func (b *book) find(r shm.Ref) (shm.Block, bool) {
	if s := b.segments[r.Segment]; s != nil {
		for _, block := range s.blocks {
			if block.Contains(r) {
				return block, true
			}
		}
	}
	return shm.Block{}, false
}

func blockText(b shm.Block) string {
	return fmt.Sprintf("block %d+%d of segment %#x", b.Offset, b.Length, uint64(b.Segment))
}

// release takes blocks out again.
func (b *book) release(blocks []shm.Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, block := range blocks {
		if s := b.segments[block.Segment]; s != nil {
			s.blocks = slices.DeleteFunc(s.blocks, func(x shm.Block) bool { return x == block })
		}
	}
}

// resident returns the memory that a writer's segments take, in bytes.
func (b *book) resident(writer *session) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sum int64
	for _, s := range b.segments {
		if s.writer == writer {
			n, err := s.Resident()
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// segment returns one that is attached, or nil.
func (b *book) segment(id shm.SegmentID) *segment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.segments[id]
}

// put makes a segment of the supervisor's with one block that holds p.
func (b *book) put(enc shm.Encoding, p []byte) (shm.Ref, error) {
	b.mu.Lock()
	b.lastHost++
	id := shm.SegmentID(b.lastHost)
	b.mu.Unlock()
	s, n, err := shm.Import(id, bytes.NewReader(p), shm.ImportOptions{})
	if err == nil {
		err = b.enter(s, nil)
	}
	if err != nil {
		return shm.Ref{}, err
	}
	ref := shm.Ref{Segment: id, Length: uint64(n), Encoding: enc}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.segments[id].blocks = []shm.Block{ref.Block()}
	return ref, nil
}

// bytes reads a row's value.
func (b *book) bytes(row ipc.Row) ([]byte, error) {
	var value []byte
	for _, r := range row.Spans {
		s := b.segment(r.Segment)
		if r.Length == 0 {
			continue
		}
		if s == nil {
			return nil, fmt.Errorf("row %q: segment %#x is gone", row.Key, uint64(r.Segment))
		}
		p := make([]byte, r.Length)
		if _, err := s.ReadAt(p, int64(r.Offset)); err != nil {
			return nil, fmt.Errorf("row %q: %w", row.Key, err)
		}
		value = append(value, p...)
	}
	return value, nil
}

// checkValues validates the JSON of every row.
func (b *book) checkValues(t ipc.Table) error {
	for _, row := range t.Rows {
		if row.Encoding() != shm.JSON || row.Spans[0].Flags&shm.FlagStream != 0 {
			continue
		}
		value, err := b.bytes(row)
		if err == nil {
			err = jsonscan.Validate(value)
		}
		if err != nil {
			return fmt.Errorf("row %q is not valid JSON: %w", row.Key, err)
		}
	}
	return nil
}
