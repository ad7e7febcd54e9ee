package shm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Defaults of [ArenaOptions].
const (
	DefaultSmallSegmentSize = 16 << 20
	DefaultLargeThreshold   = 256 << 10
	DefaultLargeSegmentSize = 1 << 30
	DefaultRetainBytes      = 256 << 20
)

// ArenaOptions configures an [Arena]; a zero field means its default. The
// callbacks must not call the arena, and may run on several goroutines at once
// (NextID does not).
type ArenaOptions struct {
	// NextID mints the id of each new segment: never 0, never the same twice.
	// By default ids count from 1, for an arena on its own.
	NextID func() SegmentID
	// SmallSegmentSize is the size in bytes of the segments that small blocks
	// share, at least LargeThreshold.
	SmallSegmentSize int64
	// LargeThreshold is the length in bytes from which on a block has a segment
	// of its own.
	LargeThreshold int64
	// LargeSegmentSize is the size in bytes of such a segment: address space,
	// not memory, so that a block of unknown length need not move.
	LargeSegmentSize int64
	// RetainBytes bounds the memory of free segments kept for reuse. Negative
	// means none are kept.
	RetainBytes int64
	// OnSegment is called once for each segment, sealed by then, before the
	// first reference into it is returned: to send its descriptor to the
	// readers. The segment stays the arena's. An error fails that commit, and
	// the next one calls again. Commits into the same segment wait for it.
	OnSegment func(*Segment) error
	// OnDrop is called when the arena has given up a segment that OnSegment was
	// told of, and closed it. Close does not call it: published blocks outlive
	// their writer with whoever holds them.
	OnDrop func(SegmentID)
}

func (o *ArenaOptions) setDefaults() {
	setDefault := func(field *int64, value int64) {
		if *field == 0 {
			*field = value
		}
	}
	setDefault(&o.SmallSegmentSize, DefaultSmallSegmentSize)
	setDefault(&o.LargeThreshold, DefaultLargeThreshold)
	setDefault(&o.LargeSegmentSize, DefaultLargeSegmentSize)
	setDefault(&o.RetainBytes, DefaultRetainBytes)
	page := int64(os.Getpagesize())
	o.LargeThreshold = max(roundUp(o.LargeThreshold, blockAlign), blockAlign)
	o.SmallSegmentSize = roundUp(max(o.SmallSegmentSize, o.LargeThreshold), page)
	o.LargeSegmentSize = roundUp(max(o.LargeSegmentSize, 2*o.LargeThreshold), page)
	if o.NextID == nil {
		var last atomic.Uint64
		o.NextID = func() SegmentID { return SegmentID(last.Add(1)) }
	}
}

// Arena allocates one writer's blocks. It owns its segments until Close; what
// it knows of them is in private memory only. Its methods may be called from
// several goroutines at once.
type Arena struct {
	options ArenaOptions // immutable

	limit atomic.Int64 // bytes; 0 or less: none
	used  atomic.Int64 // bytes published and promised to open blocks

	mu        sync.Mutex
	closed    bool
	open      int // BlockWriters that hold a run
	segments  map[SegmentID]*arenaSegment
	small     []*arenaSegment
	freeRuns  freeLists
	kept      []*arenaSegment // without a live run, last freed at the end
	keptBytes int64
	discarded []*arenaSegment // to be closed by unlock

	publishedBytes, publishedBlocks int64
	reusedBytes, freshBytes         int64
}

// NewArena makes an arena. It takes no memory before the first block.
func NewArena(options ArenaOptions) *Arena {
	options.setDefaults()
	return &Arena{options: options, segments: make(map[SegmentID]*arenaSegment)}
}

// SetLimit sets how many bytes the arena's blocks may hold together, published
// or being written; 0 or less means any number. A block that would exceed it
// gets a *LimitError. Blocks that exist keep what they have.
func (a *Arena) SetLimit(bytes int64) { a.limit.Store(bytes) }

// charge takes n more bytes from the limit for a block that would reach size.
func (a *Arena) charge(n, size int64) error {
	used := a.used.Add(n)
	if limit := a.limit.Load(); limit > 0 && used > limit {
		a.used.Add(-n)
		return &LimitError{Size: size, Used: max(used-size, 0), Limit: limit}
	}
	return nil
}

// Write publishes a copy of p as one block.
func (a *Arena) Write(encoding Encoding, p []byte) (Ref, error) {
	w := a.NewBlock(int64(len(p)))
	defer w.Abort()
	if _, err := w.Write(p); err != nil {
		return Ref{}, err
	}
	return w.Commit(encoding)
}

// Free gives the memory of a published block back to the arena. The caller
// has made sure that no reader has it any more: its bytes will be overwritten.
// A block that is not live, or not exactly as published, is refused with
// ErrUnknownBlock and changes nothing.
func (a *Arena) Free(b Block) error {
	a.mu.Lock()
	s := a.segments[b.Segment]
	var r *run
	if s != nil && b.Offset < uint64(s.seg.Size()) {
		r = s.published[int64(b.Offset)]
	}
	if r == nil || uint64(r.length) != b.Length {
		a.mu.Unlock()
		return fmt.Errorf("%w: segment %d, offset %d, length %d", ErrUnknownBlock, uint64(b.Segment), b.Offset, b.Length)
	}
	a.freePublished(r)
	return a.unlock()
}

func (a *Arena) freePublished(r *run) {
	delete(r.owner.published, r.offset)
	a.publishedBlocks--
	a.publishedBytes -= r.length
	a.used.Add(-r.length)
	r.length = 0
	a.dropRun(r)
}

// Reset frees every published block and keeps up to RetainBytes of free
// segments. Blocks being written are not touched. Readers of the earlier
// blocks that still map a kept segment can see what is written next: call
// Trim too when they must not.
func (a *Arena) Reset() error {
	a.mu.Lock()
	for _, s := range a.segments {
		for _, r := range s.published {
			a.freePublished(r)
		}
	}
	return a.unlock()
}

// Trim gives up every segment that holds no live block.
func (a *Arena) Trim() error {
	a.mu.Lock()
	a.evict(-1)
	return a.unlock()
}

// Close closes every segment of the arena; slices from it die with them, what
// other processes hold lives on. A block being written at that time keeps its
// memory until its Commit (which fails with ErrClosed) or Abort. A second
// Close does nothing.
func (a *Arena) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.publishedBlocks, a.publishedBytes = 0, 0
	gone := a.takeAllIfIdle()
	a.mu.Unlock()
	return closeAll(gone)
}

// takeAllIfIdle empties a closed arena once no block is being written.
func (a *Arena) takeAllIfIdle() []*arenaSegment {
	if !a.closed || a.open > 0 {
		return nil
	}
	var all []*arenaSegment
	for id, s := range a.segments {
		all = append(all, s)
		delete(a.segments, id)
	}
	a.small, a.kept, a.keptBytes, a.freeRuns = nil, nil, 0, freeLists{}
	a.used.Store(0)
	return all
}

func closeAll(segments []*arenaSegment) error {
	var errs []error
	for _, s := range segments {
		errs = append(errs, s.seg.Close())
	}
	return errors.Join(errs...)
}
