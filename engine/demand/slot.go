package demand

import (
	"context"
	"slices"
)

// Slot is a task's place under all of its limits, from Enter to Leave. Its
// fields are guarded by the scheduler's lock, but for those marked immutable.
type Slot struct {
	scheduler *Scheduler // immutable
	run       *Run       // immutable
	stage     *Stage     // immutable
	depth     int        // immutable: callers above it

	state   state
	reserve uint64   // bytes still expected
	ahead   uint64   // and those of the task that is to follow
	calls   int      // outstanding
	called  []*Stage // by them
	feeding bool
	feeders []*Slot // whose streams it reads, until either leaves
	readers []*Slot // of its stream
	stalls  int     // feeders above it that wait for a call

	// While it waits: where, for what, and how to wake it.
	group   *group
	resumes bool
	queued  link[*Slot]
	passed  int           // tasks that memory let pass before it
	ready   chan struct{} // closed when it is not waiting any more; nil: nobody looks
}

type state uint8

const (
	outside state = iota // not admitted yet, or gone
	running
	blocked
)

func (w *Slot) level() int { return min(w.depth, maxLevel) }

// stuck reports whether the task waits for another, or must be taken to.
func (w *Slot) stuck() bool { return w.calls > 0 || w.feeding || w.stalls > 0 }

// stalled reports whether the readers of its stream get nothing for now.
func (w *Slot) stalled() bool { return w.calls > 0 || w.stalls > 0 }

// Block enters that the task waits for one more call. It gives its places in
// the host and the run back and keeps the one in its stage. It never waits.
func (w *Slot) Block() {
	s := w.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state == outside {
		return // it has left: its run was ended under it
	}
	before := w.stalled()
	w.calls++
	if !before {
		w.stall(1)
	}
	s.block(w)
	s.dispatch()
}

// Resume takes one Block back. After the last it waits until the host and the
// run have room for the task again, or until another Block or Leave, or ctx's
// end, whose cause it returns: the task stays blocked and should leave. It
// panics without a Block.
func (w *Slot) Resume(ctx context.Context) error {
	s := w.scheduler
	s.mu.Lock()
	if w.state == outside {
		s.mu.Unlock()
		return nil
	}
	if w.calls == 0 {
		s.mu.Unlock()
		panic("demand: Resume without Block")
	}
	if w.calls--; w.calls == 0 {
		w.called = w.called[:0]
	}
	if !w.stalled() {
		w.stall(-1)
	}
	s.unblock(w)
	s.dispatch()
	return s.wait(ctx, w)
}

// Feed enters that the task has handed its state over and only feeds a stream
// of it from now on: it is blocked until it leaves, and expected to publish
// nothing more.
func (w *Slot) Feed() {
	s := w.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state == outside {
		return
	}
	w.feeding = true
	s.unreserve(w)
	s.block(w)
	s.dispatch()
}

// Published enters that the task's result is in the ledger, and how many bytes
// are new in it: nothing is reserved for it any more, and its stage learns.
func (w *Slot) Published(bytes uint64) {
	s := w.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	w.stage.learned = max(w.stage.learned, bytes)
	if w.reserve > 0 {
		s.unreserve(w)
		s.dispatch()
	}
}

// Ahead asks for the task to be followed by one of another stage without anybody's
// admission, see Pass: it is refused when anything waits, when the stage has a
// limit, and when there is no memory for what the task that follows is expected to
// publish. That is reserved until Pass or Leave.
func (w *Slot) Ahead(to *Stage) bool {
	s := w.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state == outside || to.limit > 0 || s.waiting > 0 {
		return false
	}
	if s.memory > 0 {
		more := to.reservation()
		if add(add(s.used(), s.reserved), more) > s.memory {
			return false
		}
		w.ahead += more
		s.reserved += more
	}
	return true
}

// Pass ends the task and starts the one that follows it in its places, for which
// Ahead was granted; parent is as in Request. It never waits. It returns nil, and
// nothing has changed, when the task has no places to pass on because it is
// blocked.
func (w *Slot) Pass(to *Stage, parent *Slot) *Slot {
	s := w.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state != running || to.limit > 0 {
		return nil
	}
	next := &Slot{scheduler: s, run: w.run, stage: to, reserve: w.ahead}
	next.queued.of = next
	s.connect(next, parent, nil)
	s.leave(w)
	s.admit(next)
	s.dispatch()
	return next
}

// Leave ends the task. It never waits; a second one does nothing.
func (w *Slot) Leave() {
	s := w.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.state == outside {
		return
	}
	s.leave(w)
	s.dispatch()
}

// leave takes all that a task has back.
func (s *Scheduler) leave(w *Slot) {
	s.forget(w)
	if w.group != nil { // it was to resume
		s.dequeue(w)
		w.wake()
	}
	switch w.state {
	case running:
		s.stop(w)
	case blocked:
		s.blocked--
		w.stage.blocked--
	}
	w.state = outside
	w.stage.note()
	s.unreserve(w)
	s.reserved -= w.ahead
	w.ahead = 0
}

// waitsFor enters that w waits for another that is about to enter, a call or
// the reader of its stream. It reports whether that made stages lend places.
func (w *Slot) waitsFor(other *Slot, reads bool) bool {
	lent := w.stage.calls(other.stage)
	if reads && w.state != outside {
		other.feeders = append(other.feeders, w)
		w.readers = append(w.readers, other)
		if w.stalled() {
			other.stalls++
		}
		lent = other.waitsForCallsOf(w) || lent
	} else if !reads {
		if !slices.Contains(w.called, other.stage) {
			w.called = append(w.called, other.stage)
		}
		lent = w.readersWaitFor(other.stage) || lent
	}
	return lent
}

// waitsForCallsOf enters that w gets nothing until what its feeder, and those
// that feed that one, call returns.
func (w *Slot) waitsForCallsOf(feeder *Slot) bool {
	lent := false
	for _, st := range feeder.called {
		lent = w.stage.calls(st) || lent
	}
	for _, f := range feeder.feeders {
		lent = w.waitsForCallsOf(f) || lent
	}
	return lent
}

// readersWaitFor enters that those who read what w feeds get nothing until its
// call of a stage returns.
func (w *Slot) readersWaitFor(st *Stage) bool {
	lent := false
	for _, r := range w.readers {
		lent = r.stage.calls(st) || lent
		lent = r.readersWaitFor(st) || lent
	}
	return lent
}

// stall tells the readers of the task's stream, and theirs, that it waits for a
// call, or no longer.
func (w *Slot) stall(by int) {
	for _, r := range w.readers {
		before := r.stalled()
		r.stalls += by
		if r.stalled() != before {
			r.stall(by)
		}
		if r.state == outside {
			continue
		}
		if by > 0 {
			w.scheduler.block(r)
		} else {
			w.scheduler.unblock(r)
		}
	}
}

// wake ends a wait.
func (w *Slot) wake() {
	if w.ready != nil {
		close(w.ready)
		w.ready = nil
	}
}
