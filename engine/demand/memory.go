package demand

import (
	"math"
	"time"
)

// Memory is let go by tasks that end, by callers that are done with a reply,
// and by runs that are closed, so it comes back without anybody leaving: the
// ledger calls Freed.
//
// Sometimes it does not: what is held fills the budget, and only the tasks that
// wait could use it up. So when no task runs, one is admitted all the same, one
// of a run that was begun before, if there is any. But a moment's patience
// keeps the budget: a task that has just ended may be followed by the next of
// its branch, and a blocked caller may be at work on the replies it has, about
// to let them go.
const (
	// patience is how long nothing must have happened before a task of a run
	// that has not begun is forced in.
	patience = time.Millisecond
	// longPatience is the same while there are blocked tasks. It is halved each
	// time it was for naught, down to patience, and restored when it was not.
	longPatience = 250 * time.Millisecond
)

// maxPassed is how many smaller tasks may go before one that does not fit. Then
// memory is kept for it.
const maxPassed = 64

// Freed tells the scheduler that less memory is held than before. It never
// waits and takes no lock, so the ledger may hold its own.
func (s *Scheduler) Freed() {
	if !s.wantsMemory.Load() || s.told.Swap(true) {
		return
	}
	go func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told.Store(false)
		s.quiet = time.Now()
		s.dispatch()
	}()
}

// fits reports whether there is memory for the task.
func (s *Scheduler) fits(w *Slot) bool {
	if s.memory == 0 {
		return true
	}
	if s.urgent != nil && s.urgent != w && w.reserve > 0 {
		return false
	}
	return add(add(s.used(), s.reserved), w.reserve) <= s.memory
}

func add(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// pass notes that a task was admitted while others did not fit.
func (s *Scheduler) pass() {
	for _, w := range s.misfits {
		if w.passed++; w.passed >= maxPassed && s.urgent == nil {
			s.urgent = w
		}
	}
}

// force returns the task that memory holds back when it is to be let in all the
// same, and sees that this is asked again when it is too early.
func (s *Scheduler) force(held *Slot) *Slot {
	if held == nil || s.running > 0 {
		return nil
	}
	wait := patience
	switch {
	case s.blocked > 0:
		wait = s.patience
	case held.run.begun:
		wait = 0
	}
	if left := wait - time.Since(s.quiet); wait > 0 && left > 0 {
		s.again(left)
		return nil
	}
	s.forced++
	s.patience = max(s.patience/2, patience)
	return held
}

// again has the waiting looked at after a time.
func (s *Scheduler) again(d time.Duration) {
	if s.timed {
		return
	}
	s.timed = true
	time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.timed = false
		s.dispatch()
	})
}

func (s *Scheduler) unreserve(w *Slot) {
	s.reserved -= w.reserve
	w.reserve = 0
}
