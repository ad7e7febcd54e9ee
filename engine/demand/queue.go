package demand

import (
	"math"
	"math/bits"
)

// maxLevel is the deepest call that is told from deeper ones.
const maxLevel = 63

// bucket holds what waits for one stage; all stages without a limit share one.
type bucket struct {
	stage    *Stage // nil: no limit
	resuming list[*group]
	asking   list[*group]
	self     link[*bucket] // in the scheduler's list while anything is in it
}

func newBucket(st *Stage) *bucket {
	b := &bucket{stage: st}
	b.self.of = b
	return b
}

func (b *bucket) room(nested bool) bool { return b.stage == nil || b.stage.room(nested) }
func (b *bucket) roomToResume() bool    { return b.stage == nil || b.stage.roomToResume() }

// group is what waits of one run in one bucket. While its run has no room it
// is parked there, out of the bucket's way.
type group struct {
	run     *Run
	bucket  *bucket
	resumes list[*Slot]
	levels  []*list[*Slot] // new tasks by depth; 0: nobody called them
	filled  uint64         // the levels with tasks in them
	parked  bool

	resuming, asking link[*group]
}

// enqueue makes the slot wait, to resume or to enter.
func (s *Scheduler) enqueue(w *Slot, resume bool) {
	b := w.stage.queue
	g := w.run.groups[b]
	if g == nil {
		g = &group{run: w.run, bucket: b}
		g.resuming.of, g.asking.of = g, g
		if w.run.groups == nil {
			w.run.groups = make(map[*bucket]*group)
		}
		w.run.groups[b] = g
	}
	w.group, w.resumes, w.passed = g, resume, 0
	if resume {
		g.resumes.push(&w.queued)
	} else {
		for len(g.levels) <= w.level() {
			g.levels = append(g.levels, new(list[*Slot]))
		}
		g.levels[w.level()].push(&w.queued)
		g.filled |= 1 << w.level()
	}
	s.waiting++
	w.stage.waiting++
	s.link(g)
}

// dequeue takes a waiting slot out.
func (s *Scheduler) dequeue(w *Slot) {
	g := w.group
	w.queued.remove()
	w.group = nil
	if !w.resumes && g.levels[w.level()].empty() {
		g.filled &^= 1 << w.level()
	}
	s.waiting--
	w.stage.waiting--
	if s.urgent == w {
		s.urgent = nil
	}
	if g.resumes.empty() {
		g.resuming.remove()
	}
	if g.filled == 0 {
		g.asking.remove()
	}
	if g.resumes.empty() && g.filled == 0 {
		delete(g.run.groups, g.bucket)
		if g.parked {
			g.parked = false
			g.run.unpark(g)
		}
	}
	s.tidy(g.bucket)
}

// link enters a group where it is looked for.
func (s *Scheduler) link(g *group) {
	if g.parked {
		return
	}
	b := g.bucket
	if !g.resumes.empty() && g.resuming.in == nil {
		b.resuming.push(&g.resuming)
	}
	if g.filled != 0 && g.asking.in == nil {
		b.asking.push(&g.asking)
	}
	if b.self.in == nil {
		s.buckets.push(&b.self)
	}
}

// tidy takes an empty bucket off the list.
func (s *Scheduler) tidy(b *bucket) {
	if b.resuming.empty() && b.asking.empty() {
		b.self.remove()
	}
}

// park puts a group aside until its run has room.
func (s *Scheduler) park(g *group) {
	g.resuming.remove()
	g.asking.remove()
	g.parked = true
	g.run.parked = append(g.run.parked, g)
	s.tidy(g.bucket)
}

// next returns what of the group goes first, or nil when the bucket has no
// room for any of it.
func (g *group) next(roomNested, roomRoot bool) *Slot {
	if roomNested && g.filled > 1 {
		return g.levels[bits.Len64(g.filled)-1].head.of
	}
	if roomRoot && g.filled&1 != 0 {
		return g.levels[0].head.of
	}
	return nil
}

// nextResume returns the task to resume next, or nil.
func (s *Scheduler) nextResume() *Slot {
	var best *Slot
	for bl := s.buckets.head; bl != nil; {
		b := bl.of
		bl = bl.next
		if b.resuming.empty() || !b.roomToResume() {
			continue
		}
		for gl := b.resuming.head; gl != nil; {
			g := gl.of
			gl = gl.next
			if g.run.full() {
				s.park(g)
				continue
			}
			if w := g.resumes.head.of; best == nil || w.before(best) {
				best = w
			}
			break
		}
	}
	return best
}

// maxMisfits bounds how many tasks are noted that do not fit into memory.
const maxMisfits = 8

// nextNew returns the new task that goes next, or nil; held is the one that
// would go if memory had no limit, when memory is all that is in its way.
func (s *Scheduler) nextNew() (best, held *Slot) {
	s.misfits = s.misfits[:0]
	tooMuch := uint64(math.MaxUint64) // the least that does not fit
	for bl := s.buckets.head; bl != nil; {
		b := bl.of
		bl = bl.next
		roomNested, roomRoot := b.room(true), b.room(false)
		if b.asking.empty() || !roomNested {
			continue
		}
		for gl := b.asking.head; gl != nil; {
			g := gl.of
			gl = gl.next
			if g.run.full() {
				s.park(g)
				continue
			}
			w := g.next(roomNested, roomRoot)
			if w == nil {
				continue
			}
			if w.reserve >= tooMuch && w != s.urgent || !s.fits(w) {
				tooMuch = min(tooMuch, w.reserve)
				if len(s.misfits) < maxMisfits {
					s.misfits = append(s.misfits, w)
				}
				if held == nil || w.pressing(held) {
					held = w
				}
				continue
			}
			if best == nil || w.before(best) {
				best = w
			}
			break
		}
	}
	return best, held
}

// before is the order of runs, and within a run of depths.
func (w *Slot) before(other *Slot) bool {
	if w.run != other.run {
		return w.run.served < other.run.served
	}
	return w.depth > other.depth
}

// pressing is the order when memory is short: what was begun is brought to its
// end before anything else begins.
func (w *Slot) pressing(other *Slot) bool {
	if w.run.begun != other.run.begun {
		return w.run.begun
	}
	return w.before(other)
}
