package shm

import (
	"fmt"
	"math"
	"os"
)

// mapAhead is how much of a reused segment is entered into the page table at
// once when it was written by write(2) so far.
const mapAhead = 1 << 20

// takeLarge returns the run of a segment with room for need bytes that holds
// no other block: a kept one or a new one. known says that need is the size
// that the block will have, not just the size it has reached.
func (a *Arena) takeLarge(need int64, known bool) (*run, error) {
	s := a.reuseLarge(need, known)
	if s == nil {
		var err error
		if s, err = a.newSegment(max(need, a.options.LargeSegmentSize), true); err != nil {
			return nil, err
		}
	}
	s.live = 1
	return &run{owner: s, size: int64(len(s.mem))}, nil
}

// newSegment makes a segment and enters it.
func (a *Arena) newSegment(size int64, large bool) (*arenaSegment, error) {
	id := a.options.NextID()
	if a.segments[id] != nil {
		return nil, fmt.Errorf("shm: segment id %d is in use", uint64(id))
	}
	seg, err := Create(id, size)
	if err != nil {
		return nil, err
	}
	mem, err := seg.Bytes()
	if err != nil {
		seg.Close()
		return nil, err
	}
	s := &arenaSegment{seg: seg, mem: mem, large: large}
	a.segments[id] = s
	if !large {
		a.small = append(a.small, s)
	}
	return s, nil
}

// mapExisting enters the existing pages of [offset, offset+n) into the page
// table, somewhat ahead, if they are not in it. One fault a page would cost
// as much as the copy itself does, twice over.
func (s *arenaSegment) mapExisting(offset, n int64) {
	touched := s.touched.Load()
	want := min(offset+n, touched)
	if s.mapped >= want || offset > s.mapped {
		return
	}
	page := int64(os.Getpagesize())
	from := s.mapped &^ (page - 1)
	to := roundUp(min(max(want, s.mapped+mapAhead), touched), page)
	mapExisting(s.mem[from:min(to, int64(len(s.mem)))])
	s.mapped = min(to, touched)
}

// populate makes the pages between touched and end. No block is in the
// segment.
func (s *arenaSegment) populate(end int64) error {
	page := int64(os.Getpagesize())
	from := s.touched.Load() &^ (page - 1)
	return populate(s.mem[from:min(roundUp(end, page), int64(len(s.mem)))])
}

// wrote records that [offset, offset+n) was written through the mapping.
func (s *arenaSegment) wrote(offset, n int64) {
	end := offset + n
	s.touch(end)
	if offset <= s.mapped {
		s.mapped = max(s.mapped, end)
	}
}

// doubled returns twice n, or the largest size where that overflows.
func doubled(n int64) int64 {
	if n > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return 2 * n
}
