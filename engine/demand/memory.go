package demand

import (
	"math"
	"slices"
	"time"
)

// Memory is let go by tasks that end, by callers that are done with a reply,
// and by runs that are closed, so it comes back without anybody leaving: the
// ledger calls Freed.
//
// Sometimes it does not: what is held fills the budget, and only the tasks that
// wait could use it up. So when no task runs, one is admitted all the same, one
// of a run that was begun before, if there is any. But patience keeps the
// budget: a blocked caller may be at work on the replies it has, about to let
// them go, and a run's result may be on its way out. So a task that nothing
// but memory holds back is forced in once no memory was let go for
// longPatience. That is halved each time it was for naught, down to
// shortPatience, and restored when it was not. There is nothing to wait for
// when nothing is held, nor, while no caller is blocked, for a run that was
// begun: it goes on at once.
const (
	longPatience  = 250 * time.Millisecond
	shortPatience = time.Millisecond
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

// shortage brings the figures of the stages up to date that memory holds back.
func (s *Scheduler) shortage() {
	for _, st := range s.short {
		if !slices.ContainsFunc(s.misfits, func(w *Slot) bool { return w.stage == st }) {
			st.short.set(false, false)
		}
	}
	s.short = s.short[:0]
	for _, w := range s.misfits {
		if st := w.stage; !slices.Contains(s.short, st) {
			st.short.set(true, false)
			s.short = append(s.short, st)
		}
	}
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
	wait := s.patience
	if s.blocked == 0 && (held.run.begun || s.used() == 0) {
		wait = 0
	}
	if wait > 0 {
		if left := wait - time.Since(s.quiet); left > 0 {
			s.again(left)
			return nil
		}
		s.patience = max(s.patience/2, shortPatience)
	}
	s.forced++
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
