package shm

// prepare makes room for n more bytes, within the limit.
func (w *BlockWriter) prepare(n int64) error {
	if w.done {
		return ErrBlockDone
	}
	if w.err != nil {
		return w.err
	}
	size := w.length + n
	if more := size - w.charged; more > 0 {
		if err := w.arena.charge(more, size); err != nil {
			return err
		}
		w.charged = size
	}
	if size > int64(len(w.mem)) {
		return w.grow(size)
	}
	return nil
}

// grow gives the block a run of at least size bytes, with its bytes in it.
func (w *BlockWriter) grow(size int64) error {
	if err := w.flush(); err != nil {
		return err
	}
	a := w.arena
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return ErrClosed
	}
	old := w.run
	if old != nil && !old.owner.large && size < a.options.LargeThreshold {
		want := min(roundUp(max(size, 4*old.size), blockAlign), a.options.LargeThreshold)
		if a.growRun(old, want) {
			w.attach(old)
			a.mu.Unlock()
			return nil
		}
	}
	next, err := a.takeRun(old, size, w.hint)
	if err != nil {
		a.mu.Unlock()
		return err
	}
	if old == nil {
		a.open++
	}
	a.mu.Unlock()
	return w.move(next)
}

// takeRun finds the run for a block that has old (nil at first) and is to hold
// size bytes now, hint bytes in the end if that is not 0.
func (a *Arena) takeRun(old *run, size, hint int64) (*run, error) {
	want := max(size, hint)
	known := hint >= size
	if limit := a.limit.Load(); limit > 0 {
		want = max(size, min(want, limit))
	}
	switch {
	case old != nil && old.owner.large, want >= a.options.LargeThreshold:
		if old != nil && old.owner.large {
			// What outgrew one large segment may well outgrow the next.
			want = max(want, doubled(old.size))
		}
		r, err := a.takeLarge(want, known)
		if err != nil && want > size { // the guess was beyond what can be had
			r, err = a.takeLarge(size, false)
		}
		return r, err
	case old != nil:
		want = min(max(want, 4*old.size), a.options.LargeThreshold)
	case !known:
		want = min(max(want, firstRun), a.options.LargeThreshold)
	}
	return a.takeSmallRun(want)
}

// takeSmallRun is takeSmall with a new segment where there is no room.
func (a *Arena) takeSmallRun(size int64) (*run, error) {
	size = roundUp(size, blockAlign)
	r := a.takeSmall(size)
	if r == nil {
		if _, err := a.newSegment(a.options.SmallSegmentSize, false); err != nil {
			return nil, err
		}
		r = a.takeSmall(size)
	}
	return r, nil
}

// attach makes r the block's run.
func (w *BlockWriter) attach(r *run) {
	w.run = r
	w.mem = r.owner.mem[r.offset:r.end():r.end()]
	w.sealed = r.owner.seg.isSealed()
}

// move copies the block into next, and gives its former run back.
func (w *BlockWriter) move(next *run) error {
	old, bytes := w.run, w.mem[:w.length]
	w.attach(next)
	if old == nil {
		return nil
	}
	w.length, w.fresh = 0, 0
	err := w.append(bytes)
	if err == nil {
		err = w.flush()
	}
	w.arena.giveBack(old, int64(len(bytes)), false)
	return err
}

// upgrade moves a block that has used up the pages of its sealed segment, and
// is to get n bytes more, to a kept segment with twice as many pages, if there
// is one: copying what is there costs a tenth of making the pages that it is
// about to need. It reports whether the block moved.
func (w *BlockWriter) upgrade(n int64) bool {
	if w.length < w.nextUpgrade {
		return false
	}
	w.nextUpgrade = doubled(w.length)
	a := w.arena
	a.mu.Lock()
	var next *run
	if s := a.warmer(max(w.length+n, w.nextUpgrade), int64(len(w.mem))); s != nil {
		s.live = 1
		next = &run{owner: s, size: int64(len(s.mem))}
	}
	a.mu.Unlock()
	// All of the move is over pages that exist, so it cannot fail.
	return next != nil && w.move(next) == nil
}

// moveToSmall takes a block that stayed shorter than expected out of its large
// segment.
func (w *BlockWriter) moveToSmall() error {
	a := w.arena
	a.mu.Lock()
	next, err := a.takeSmallRun(w.length)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	return w.move(next)
}

// release gives the run back, if there is one, with the bytes in it.
func (w *BlockWriter) release() {
	if w.run != nil {
		w.arena.giveBack(w.run, w.length-int64(w.staged), true)
	}
	w.run, w.mem = nil, nil
	w.length, w.fresh = 0, 0
	w.dropStage()
}

// giveBack frees an open run of which length bytes were written. last says
// that its writer keeps no other.
func (a *Arena) giveBack(r *run, length int64, last bool) {
	a.mu.Lock()
	if !r.owner.large {
		r.owner.touch(r.offset + length)
	}
	a.dropRun(r)
	if last {
		a.open--
	}
	gone := a.takeAllIfIdle()
	// An error in closing a segment that is of no use any more changes nothing
	// for this block.
	_ = a.unlock()
	_ = closeAll(gone)
}
