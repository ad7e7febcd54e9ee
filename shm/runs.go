package shm

import "sync/atomic"

// arenaSegment is the arena's private account of one segment. Nothing of it
// is in shared memory. Fields are guarded by Arena.mu unless they say
// otherwise.
type arenaSegment struct {
	seg   *Segment
	mem   []byte // the writable mapping; nil for an adopted segment
	large bool   // immutable: holds one block at most

	live      int            // runs taken: open or published
	published map[int64]*run // by offset
	bump      int64          // small: bytes beyond were never part of a run since the last reset
	top       *run           // small: the run that ends at bump

	// touched is the end of the pages that exist: below, a write costs memcpy.
	// The open block's goroutine writes it for a large segment.
	touched atomic.Int64
	// mapped is the end of those that are in the page table too. It belongs to
	// whoever has the segment's block open.
	mapped int64

	retained int64 // bytes counted against RetainBytes while it is kept free
	announce announcement
}

// run is a stretch of a segment: free, open in a BlockWriter, or published.
type run struct {
	owner        *arenaSegment
	offset, size int64 // multiples of blockAlign
	free         bool
	length       int64 // bytes published

	below, above       *run // neighbours by address, small segments only
	freePrev, freeNext *run // neighbours in the free list
}

// touch records that the pages up to end exist.
func (s *arenaSegment) touch(end int64) {
	if end > s.touched.Load() {
		s.touched.Store(end)
	}
}

func (r *run) end() int64 { return r.offset + r.size }

// takeSmall returns a run of size bytes (a multiple of blockAlign): the last
// freed one that fits, otherwise the next stretch of a small segment. It
// returns nil when a new segment is needed.
func (a *Arena) takeSmall(size int64) *run {
	if r := a.freeRuns.find(size); r != nil {
		a.freeRuns.remove(r)
		r.free = false
		r.owner.live++
		a.shrinkRun(r, size)
		return r
	}
	for i := len(a.small) - 1; i >= 0; i-- {
		s := a.small[i]
		if s.bump+size > int64(len(s.mem)) {
			continue
		}
		if s.live == 0 {
			a.unretain(s)
		}
		r := &run{owner: s, offset: s.bump, size: size, below: s.top}
		if s.top != nil {
			s.top.above = r
		}
		s.top, s.bump = r, s.bump+size
		s.live++
		return r
	}
	return nil
}

// growRun makes r at least size bytes long without moving it, where the space
// above it is free.
func (a *Arena) growRun(r *run, size int64) bool {
	s := r.owner
	if r == s.top {
		if r.offset+size > int64(len(s.mem)) {
			return false
		}
		r.size = size
		s.bump = r.end()
		return true
	}
	next := r.above
	if !next.free || r.size+next.size < size {
		return false
	}
	a.freeRuns.remove(next)
	r.size += next.size
	r.unlinkAbove()
	a.shrinkRun(r, size)
	return true
}

// shrinkRun gives back what r has beyond size bytes.
func (a *Arena) shrinkRun(r *run, size int64) {
	if r.size == size {
		return
	}
	s := r.owner
	if r == s.top {
		r.size = size
		s.bump = r.end()
		return
	}
	rest := &run{owner: s, offset: r.offset + size, size: r.size - size, below: r, above: r.above}
	r.size = size
	r.above.below = rest
	r.above = rest
	a.releaseRun(rest)
}

// releaseRun makes r free, joined with its free neighbours, or part of the
// untouched rest when it is the last one of its segment. It does not count
// live runs.
func (a *Arena) releaseRun(r *run) {
	if below := r.below; below != nil && below.free {
		a.freeRuns.remove(below)
		below.size += r.size
		below.unlinkAbove()
		r = below
	}
	if above := r.above; above != nil && above.free {
		a.freeRuns.remove(above)
		r.size += above.size
		r.unlinkAbove()
	}
	s := r.owner
	if r == s.top {
		s.top, s.bump = r.below, r.offset
		if r.below != nil {
			r.below.above = nil
		}
		return
	}
	r.free = true
	a.freeRuns.push(r)
}

// unlinkAbove takes the run above r, whose bytes r has taken over, out of the
// address order.
func (r *run) unlinkAbove() {
	gone := r.above
	r.above = gone.above
	if r.above != nil {
		r.above.below = r
	} else {
		r.owner.top = r
	}
}

// dropRun frees a taken run, of a small or large segment.
func (a *Arena) dropRun(r *run) {
	s := r.owner
	s.live--
	if !s.large {
		a.releaseRun(r)
	}
	if s.live == 0 {
		a.retain(s)
	}
}
