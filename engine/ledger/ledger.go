package ledger

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// HostOwner is the segment-id prefix of the supervisor's own segments.
const HostOwner = 0

// Ledger is the reference table of one supervisor.
type Ledger struct {
	mu       sync.Mutex
	segments map[shm.SegmentID]*segment
	streams  map[shm.SegmentID]*Stream
	owners   map[*Owner]struct{}
	bytes    atomic.Uint64 // of all blocks; written with mu held
	freed    func()        // called with mu held when Held went down

	lingering atomic.Uint64 // bytes of large blocks that are gone, in memory that is not; written with mu held

	nextHost uint32

	closing int        // segments whose memory is being given back
	closed  *sync.Cond // on mu: closing has changed
}

// segment is one memfd and what is published in it.
type segment struct {
	*shm.Segment
	owner   *Owner          // nil when the supervisor made it or its writer died
	arena   bool            // the account's own arena still writes in it
	blocks  []*block        // by offset
	readers map[*Owner]bool // executors that hold its descriptor
	dead    uint64          // bytes of it that linger
}

// block is an entry: it lives while refs > 0.
type block struct {
	shm.Block
	segment *segment
	account *Account
	refs    int
	stream  *Stream // set for a live stream, which has no bytes of its own
}

// New returns an empty ledger.
func New() *Ledger { return NewWatched(func() {}) }

// NewWatched returns an empty ledger that calls freed whenever memory was given
// back. It does so with its lock held: freed must not wait, nor call the ledger
// but for Bytes and Held.
func NewWatched(freed func()) *Ledger {
	l := &Ledger{segments: make(map[shm.SegmentID]*segment), streams: make(map[shm.SegmentID]*Stream), owners: make(map[*Owner]struct{}), freed: freed}
	l.closed = sync.NewCond(&l.mu)
	return l
}

// Bytes returns the length of all blocks of all accounts: the host's state in
// memory. It takes no lock.
func (l *Ledger) Bytes() uint64 { return l.bytes.Load() }

// Segments returns how many segments are held open.
func (l *Ledger) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segments)
}

// find returns the block that holds all of r, or nil.
func (l *Ledger) find(r shm.Ref) *block {
	if r.Flags&shm.FlagStream != 0 {
		if s := l.streams[r.Segment]; s != nil && !s.over && r.Offset == 0 && r.Length == 0 && r.Encoding == s.Encoding {
			return s.entry
		}
		return nil
	}
	s := l.segments[r.Segment]
	if s == nil {
		return nil
	}
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].Offset > r.Offset }) - 1
	if i < 0 {
		return nil
	}
	b := s.blocks[i]
	end, ok := r.End()
	if !ok || end > b.Offset+b.Length {
		return nil
	}
	return b
}

// enter adds a block that was checked to lie within its segment.
func (s *segment) enter(b *block) error {
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].Offset >= b.Offset })
	end := b.Offset + b.Length
	if i < len(s.blocks) && s.blocks[i].Offset < end {
		return blockError(b.Block, "overlaps the block at %d", s.blocks[i].Offset)
	}
	if i > 0 && s.blocks[i-1].Offset+s.blocks[i-1].Length > b.Offset {
		return blockError(b.Block, "overlaps the block at %d", s.blocks[i-1].Offset)
	}
	s.blocks = slices.Insert(s.blocks, i, b)
	return nil
}

// drop takes a block out and gives it back to its writer. When the segment is
// of no further use it is closed.
func (l *Ledger) drop(b *block) {
	if b.stream != nil {
		l.dropStream(b.stream)
		return
	}
	s := b.segment
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].Offset >= b.Offset })
	s.blocks = slices.Delete(s.blocks, i, i+1)
	l.bytes.Add(-b.Length)
	b.account.bytes -= b.Length
	l.linger(s, b.Length)
	l.freed()
	switch {
	case s.owner != nil:
		s.owner.owe(b.Block)
	case s.arena:
		b.account.freed = append(b.account.freed, b.Block)
	default:
		l.retire(s)
	}
}

// retire closes a segment that has no writer any more, once nothing in it is
// referred to, and tells its readers.
func (l *Ledger) retire(s *segment) {
	if s.owner != nil || s.arena || len(s.blocks) > 0 {
		return
	}
	delete(l.segments, s.ID())
	d := &departure{bytes: s.dead, holders: 1 + len(s.readers)}
	for reader := range s.readers {
		reader.oweDetach(s.ID(), d)
	}
	// The last descriptor's close frees the pages, about a millisecond for 10 MB:
	// not while somebody waits for the ledger, or for the next step. That it
	// fails cannot matter to anybody: nobody reads this segment any more.
	l.closing++
	go func() {
		_ = s.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.depart(d)
		l.closing--
		l.closed.Broadcast()
	}()
}

// Wait waits until the memory of all segments that are off the table was given
// back.
func (l *Ledger) Wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.closing > 0 {
		l.closed.Wait()
	}
}

// enterSegment adds a segment.
func (l *Ledger) enterSegment(seg *shm.Segment, owner *Owner) (*segment, error) {
	if _, ok := l.segments[seg.ID()]; ok {
		return nil, &RefError{Ref: shm.Ref{Segment: seg.ID()}, Msg: "segment attached twice"}
	}
	s := &segment{Segment: seg, owner: owner, readers: make(map[*Owner]bool)}
	l.segments[seg.ID()] = s
	return s, nil
}

// NextHostSegment mints an id for a segment that the supervisor makes.
func (l *Ledger) NextHostSegment() shm.SegmentID {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextHost++
	return shm.SegmentID(uint64(HostOwner)<<32 | uint64(l.nextHost))
}

// holders calls f for the block of each span of the table, and fails on the
// first span that no block of the account's holds.
func (l *Ledger) holders(a *Account, t ipc.Table, f func(*block)) error {
	for i := range t.Rows {
		row := &t.Rows[i]
		for _, r := range row.Spans {
			if r.Length == 0 && r.Flags&shm.FlagStream == 0 {
				if r.Encoding == shm.JSON {
					return &RefError{Key: row.Key, Ref: r, Msg: "an empty JSON value"}
				}
				continue
			}
			b := l.find(r)
			switch {
			case b == nil && r.Flags&shm.FlagStream != 0:
				return &RefError{Key: row.Key, Ref: r, Msg: "there is no such stream"}
			case b == nil:
				return &RefError{Key: row.Key, Ref: r, Msg: "no published block holds it"}
			case b.stream != nil && len(row.Spans) != 1:
				return &RefError{Key: row.Key, Ref: r, Msg: "a stream is one reference"}
			case b.account != a:
				return &RefError{Key: row.Key, Ref: r, Msg: fmt.Sprintf("it is not of run %s", a.Run)}
			}
			f(b)
		}
	}
	return nil
}
