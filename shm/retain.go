package shm

import "slices"

// A segment without a live run is kept for reuse: its pages exist, and making
// pages is what costs. a.kept holds such segments, the last freed at the end.

// retain keeps s, and gives up the ones that were freed first once the kept
// ones together take more than RetainBytes.
func (a *Arena) retain(s *arenaSegment) {
	if s.mem == nil || a.closed { // adopted: nobody can write it again
		a.discard(s)
		return
	}
	s.retained = s.touched.Load()
	if resident, err := s.seg.Resident(); err == nil {
		// A Reserve may have touched more than was ever advanced over.
		s.retained = max(s.retained, resident)
	}
	a.keptBytes += s.retained
	a.kept = append(a.kept, s)
	a.evict(a.options.RetainBytes)
}

func (a *Arena) evict(limit int64) {
	for len(a.kept) > 0 && a.keptBytes > limit {
		oldest := a.kept[0]
		a.unretain(oldest)
		a.discard(oldest)
	}
}

// unretain takes s out of the kept ones, to be used or discarded.
func (a *Arena) unretain(s *arenaSegment) {
	i := slices.Index(a.kept, s)
	if i < 0 {
		return // a new one, never kept
	}
	a.kept = slices.Delete(a.kept, i, i+1)
	a.keptBytes -= s.retained
	s.retained = 0
}

// discard forgets s. Its memory goes when the lock is released: unmapping
// many pages takes milliseconds.
func (a *Arena) discard(s *arenaSegment) {
	delete(a.segments, s.seg.ID())
	if !s.large {
		i := slices.Index(a.small, s)
		a.small = slices.Delete(a.small, i, i+1)
	}
	a.discarded = append(a.discarded, s)
}

// unlock releases a.mu and then closes what was discarded meanwhile.
func (a *Arena) unlock() error {
	gone := a.discarded
	a.discarded = nil
	a.mu.Unlock()
	var first error
	for _, s := range gone {
		if err := s.seg.Close(); err != nil && first == nil {
			first = err
		}
		if s.announce.done() && a.options.OnDrop != nil {
			a.options.OnDrop(s.seg.ID())
		}
	}
	return first
}

// reuseLarge takes a kept large segment with room for need bytes, or returns
// nil when fresh pages are the better choice.
//
// With a known size the last freed one whose pages suffice is best, unless it
// is so large that it should wait for a larger block. Pages beyond the ones a
// sealed segment has are made through the mapping, which costs twice what a
// fresh segment's write(2) does: so one with less than half of them is passed
// over. With an unknown size the last freed one is the best guess.
func (a *Arena) reuseLarge(need int64, known bool) *arenaSegment {
	var exact, tight, partial *arenaSegment
	for i := len(a.kept) - 1; i >= 0; i-- {
		s := a.kept[i]
		if !s.large || int64(len(s.mem)) < need {
			continue
		}
		touched := s.touched.Load()
		if !known {
			exact = s
			break
		}
		if touched >= need {
			if touched/4 <= need {
				exact = s
				break
			}
			if tight == nil || touched < tight.touched.Load() {
				tight = s
			}
		} else if partial == nil && touched >= need/2 {
			partial = s
		}
	}
	for _, s := range []*arenaSegment{exact, tight, partial} {
		if s != nil {
			a.unretain(s)
			return s
		}
	}
	return nil
}

// warmer takes the last freed large segment with at least touched bytes of
// pages and at least size bytes in all, or returns nil.
func (a *Arena) warmer(touched, size int64) *arenaSegment {
	for i := len(a.kept) - 1; i >= 0; i-- {
		s := a.kept[i]
		if s.large && s.touched.Load() >= touched && int64(len(s.mem)) >= size {
			a.unretain(s)
			return s
		}
	}
	return nil
}
