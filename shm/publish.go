package shm

import "fmt"

// Adopt makes seg, which another program wrote (see the function [Adopt] and
// [Import]), one published block of the arena, and returns the reference to
// all of it. The arena owns seg from then on, unless it returns an error.
func (a *Arena) Adopt(seg *Segment, encoding Encoding) (Ref, error) {
	if !encoding.Valid() {
		return Ref{}, fmt.Errorf("%w: %d", ErrInvalidEncoding, uint8(encoding))
	}
	if seg.writable {
		return Ref{}, fmt.Errorf("shm: adopt segment %d: it is this process's own", uint64(seg.ID()))
	}
	if err := a.charge(seg.size, seg.size); err != nil {
		return Ref{}, err
	}
	ref, err := a.adopt(seg, encoding)
	if err != nil {
		a.used.Add(-seg.size)
	}
	return ref, err
}

func (a *Arena) adopt(seg *Segment, encoding Encoding) (Ref, error) {
	s := &arenaSegment{seg: seg, large: true, live: 1}
	s.touched.Store(seg.size)
	if err := a.register(s); err != nil {
		return Ref{}, err
	}
	err := s.announce.do(seg, a.options.OnSegment)
	if err == nil {
		var ref Ref
		if ref, err = a.publish(&run{owner: s, size: seg.size}, seg.size, encoding, 0); err == nil {
			return ref, nil
		}
	}
	a.unregister(s)
	return Ref{}, err
}

// register enters a segment which was made elsewhere, and whose block is open.
func (a *Arena) register(s *arenaSegment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if a.segments[s.seg.ID()] != nil {
		return fmt.Errorf("shm: segment id %d is in use", uint64(s.seg.ID()))
	}
	a.segments[s.seg.ID()] = s
	a.open++
	return nil
}

// unregister undoes register; the segment is its caller's again.
func (a *Arena) unregister(s *arenaSegment) {
	a.mu.Lock()
	delete(a.segments, s.seg.ID())
	a.open--
	gone := a.takeAllIfIdle()
	a.mu.Unlock()
	_ = closeAll(gone) // the arena was closed meanwhile
}

// publish makes the first length bytes of r a live block; fresh of them are on
// new pages, which only a large segment's writer counts by itself. The run is
// its writer's no more, unless it returns an error.
func (a *Arena) publish(r *run, length int64, encoding Encoding, fresh int64) (Ref, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return Ref{}, ErrClosed
	}
	s := r.owner
	if !s.large {
		fresh = length - min(max(s.touched.Load()-r.offset, 0), length)
		s.touch(r.offset + length)
		a.shrinkRun(r, max(roundUp(length, blockAlign), blockAlign))
	}
	if s.published == nil {
		s.published = make(map[int64]*run)
	}
	r.length = length
	s.published[r.offset] = r
	a.open--
	a.publishedBlocks++
	a.publishedBytes += length
	if s.mem != nil {
		a.freshBytes += fresh
		a.reusedBytes += length - fresh
	}
	return Ref{Segment: s.seg.ID(), Offset: uint64(r.offset), Length: uint64(length), Encoding: encoding}, nil
}
