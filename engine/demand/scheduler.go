package demand

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure a Scheduler.
type Options struct {
	// Slots is how many tasks run at once on this host. 0: no limit.
	Slots int
	// Memory is how many bytes may be held and expected. 0: no limit.
	Memory uint64
	// Used returns how many bytes are held now; needed with Memory. It is
	// called with the scheduler's lock held.
	Used func() uint64
}

// Scheduler admits tasks. The zero value is not ready: use New.
type Scheduler struct {
	slots  int
	memory uint64
	used   func() uint64

	wantsMemory atomic.Bool // somebody may wait for memory
	told        atomic.Bool // a look at the waiting is under way

	mu       sync.Mutex
	running  int
	blocked  int
	waiting  int
	peak     int
	reserved uint64 // of running and blocked tasks
	forced   uint64
	meter    meter

	turn    uint64        // counts admissions
	buckets list[*bucket] // those in which anything waits
	open    bucket        // of stages without a limit
	short   []*Stage      // that memory holds back
	misfits []*Slot       // of the last look: those that memory holds back
	urgent  *Slot         // passed too often: memory is kept for it

	quiet    time.Time // when something last happened that may go on by itself
	patience time.Duration
	timed    bool // a look at the waiting is planned
}

// New returns a scheduler.
func New(o Options) *Scheduler {
	s := &Scheduler{slots: o.Slots, memory: o.Memory, used: o.Used, patience: longPatience}
	s.open.self.of = &s.open
	return s
}

// Run is a run as the scheduler sees it. Its fields are guarded by the
// scheduler's lock, but for those marked immutable.
type Run struct {
	limit   int // immutable; 0: none
	running int
	begun   bool   // a task of it was admitted
	served  uint64 // the turn when one last was
	groups  map[*bucket]*group
	parked  []*group
}

// NewRun returns a run of which at most limit tasks run at once; 0 means no
// limit.
func (s *Scheduler) NewRun(limit int) *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Run{limit: limit, served: s.turn}
}

func (r *Run) full() bool { return r.limit > 0 && r.running >= r.limit }

func (r *Run) unpark(g *group) {
	for i := range r.parked {
		if r.parked[i] == g {
			r.parked = append(r.parked[:i], r.parked[i+1:]...)
			return
		}
	}
}

// Request asks for a task's admission.
type Request struct {
	Run   *Run
	Stage *Stage
	// Parent is the task that waits for this one and has said so by Block; nil
	// when nobody called it.
	Parent *Slot
	// Feeders are the tasks whose streams this one reads, and which have said
	// so by Feed. None stands here twice.
	Feeders []*Slot
	// Reserve is how many bytes the task is expected to publish, for one that
	// knows better than its stage; 0: as the stage says.
	Reserve uint64
}

// Enter waits until the task may start, or until ctx's end, whose cause it
// returns. The caller leaves.
func (s *Scheduler) Enter(ctx context.Context, r Request) (*Slot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	w := &Slot{scheduler: s, run: r.Run, stage: r.Stage, reserve: r.Reserve}
	w.queued.of = w
	s.mu.Lock()
	if w.reserve == 0 {
		w.reserve = r.Stage.reservation()
	}
	if s.memory == 0 {
		w.reserve = 0
	}
	if s.connect(w, r.Parent, r.Feeders) {
		s.dispatch() // what waited may find places lent
	}
	// Nobody who waits could be admitted now, so one who can passes nobody. But
	// what fits into memory must not pass what does not for ever.
	if (s.slots == 0 || s.running < s.slots) && !r.Run.full() && r.Stage.room(w.depth > 0) &&
		(s.memory == 0 || !s.wantsMemory.Load() && s.fits(w)) {
		s.admit(w)
		s.mu.Unlock()
		return w, nil
	}
	s.enqueue(w, false)
	w.stage.note()
	s.dispatch()
	if err := s.wait(ctx, w); err != nil {
		return nil, err
	}
	return w, nil
}

// connect enters who waits for w. It reports whether that made stages lend places.
func (s *Scheduler) connect(w *Slot, parent *Slot, feeders []*Slot) bool {
	lent := false
	if parent != nil {
		w.depth = parent.depth + 1
		lent = parent.waitsFor(w, false)
	}
	for _, f := range feeders {
		w.depth = max(w.depth, f.depth+1)
		lent = f.waitsFor(w, true) || lent
	}
	return lent
}

// wait waits until the slot is in no queue any more. The lock is held when it
// is called, and not when it returns.
func (s *Scheduler) wait(ctx context.Context, w *Slot) error {
	if w.group == nil {
		s.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	w.ready = ready
	s.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.ready != ready {
		return nil // both at once: it has its place, and will see for itself
	}
	s.dequeue(w)
	w.ready = nil
	if !w.resumes {
		s.forget(w)
	}
	w.stage.note()
	s.dispatch() // memory may have been kept for it
	return context.Cause(ctx)
}

// forget takes the slot out of the streams it reads and the one it feeds.
func (s *Scheduler) forget(w *Slot) {
	for _, f := range w.feeders {
		f.readers = without(f.readers, w)
	}
	w.feeders = nil
	if w.stalled() {
		w.stall(-1)
	}
	for _, r := range w.readers {
		r.feeders = without(r.feeders, w)
	}
	w.readers = nil
}

func without(slots []*Slot, w *Slot) []*Slot {
	return slices.DeleteFunc(slots, func(other *Slot) bool { return other == w })
}

// dispatch admits whatever waits and can be admitted.
func (s *Scheduler) dispatch() {
	s.meter.set(s.waiting > 0, s.slots > 0 && s.running >= s.slots)
	if s.waiting == 0 {
		if s.memory > 0 {
			s.wantsMemory.Store(false)
			s.misfits = s.misfits[:0]
			s.shortage()
		}
		return
	}
	if s.memory > 0 {
		s.wantsMemory.Store(true) // before memory is looked at: see Freed
	}
	s.misfits = s.misfits[:0]
	for s.slots == 0 || s.running < s.slots {
		if w := s.nextResume(); w != nil {
			g := w.group
			s.dequeue(w)
			s.resume(w)
			w.wake()
			if g.resuming.in != nil {
				g.resuming.remove()
				g.bucket.resuming.push(&g.resuming)
			}
			continue
		}
		w, held := s.nextNew()
		switch {
		case w != nil && held != nil:
			s.patience = longPatience
			s.pass()
		case w == nil:
			w = s.force(held)
		}
		if w == nil {
			if held == nil && s.memory > 0 {
				s.wantsMemory.Store(false)
			}
			break
		}
		g := w.group
		s.dequeue(w)
		s.admit(w)
		w.wake()
		if g.asking.in != nil { // the others' turn first
			g.asking.remove()
			g.bucket.asking.push(&g.asking)
		}
	}
	if s.memory > 0 {
		s.shortage()
	}
	s.meter.set(s.waiting > 0, s.slots > 0 && s.running >= s.slots)
}

// admit gives a new task its places.
func (s *Scheduler) admit(w *Slot) {
	s.reserved += w.reserve
	w.stage.admitted++
	w.run.begun = true
	s.start(w)
	if w.stuck() { // its feeder waits for a call
		s.block(w)
	}
}

// start makes a task that has no place in the host run.
func (s *Scheduler) start(w *Slot) {
	w.state = running
	s.running++
	s.peak = max(s.peak, s.running)
	w.run.running++
	s.turn++
	w.run.served = s.turn
	w.stage.running++
	w.stage.note()
}

// stop takes a running task's places back.
func (s *Scheduler) stop(w *Slot) {
	s.running--
	if s.running == 0 && s.memory > 0 {
		s.quiet = time.Now()
	}
	w.stage.running--
	r := w.run
	r.running--
	if len(r.parked) > 0 {
		for _, g := range r.parked {
			g.parked = false
			s.link(g)
		}
		r.parked = r.parked[:0]
	}
}

// block makes a task blocked that runs or waits to resume.
func (s *Scheduler) block(w *Slot) {
	switch {
	case w.group != nil && w.resumes:
		s.dequeue(w)
		w.wake()
	case w.state == running:
		s.stop(w)
		w.state = blocked
		s.blocked++
		w.stage.blocked++
	}
	w.stage.note()
}

// unblock makes a blocked task that waits for nothing any more wait to resume.
func (s *Scheduler) unblock(w *Slot) {
	if w.state == blocked && w.group == nil && !w.stuck() {
		s.enqueue(w, true)
		w.stage.note()
	}
}

// resume makes a blocked task run.
func (s *Scheduler) resume(w *Slot) {
	s.blocked--
	w.stage.blocked--
	s.start(w)
}
