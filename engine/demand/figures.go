package demand

import "time"

// StageFigures are a stage's figures.
type StageFigures struct {
	// Limit of tasks at once; 0: none.
	Limit int
	// Running and Blocked tasks hold a place, Waiting ones want one.
	Running, Blocked, Waiting int
	// Peak is the most tasks that ever ran at once, PeakHeld counts those that
	// waited for steps they called as well.
	Peak, PeakHeld int
	// Admitted is how many tasks started.
	Admitted uint64
	// Reserve is how many bytes a task is expected to publish.
	Reserve uint64
	// Lends: the stage is on a circle of calls, so that called tasks do not
	// count its blocked ones.
	Lends bool
	// Busy is how long a task held a place or wanted one, and Saturated how
	// long the limit was reached; both 0 without a limit. Short is how long
	// memory alone kept a task waiting.
	Busy, Saturated, Short time.Duration
}

// Figures returns the stage's figures.
func (st *Stage) Figures() StageFigures {
	s := st.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	f := StageFigures{
		Limit: st.limit, Running: st.running, Blocked: st.blocked, Waiting: st.waiting,
		Peak: st.peak, PeakHeld: st.peakHeld, Admitted: st.admitted, Reserve: st.reservation(), Lends: st.cyclic,
	}
	now := time.Now()
	f.Busy, f.Saturated = st.meter.at(now)
	f.Short, _ = st.short.at(now)
	return f
}

// HostFigures are the figures of the whole scheduler.
type HostFigures struct {
	// Running and Blocked tasks, and Waiting ones, resumes among them.
	Running, Blocked, Waiting int
	// Peak is the most tasks that ever ran at once.
	Peak int
	// Reserved is how many bytes tasks at work are still expected to publish.
	Reserved uint64
	// Forced counts the tasks that were admitted over the memory's limit because
	// nothing else could go on.
	Forced uint64
	// Held is how long a task waited for anything, and Saturated how long all
	// of the host's places were taken meanwhile.
	Held, Saturated time.Duration
}

// Figures returns the scheduler's figures.
func (s *Scheduler) Figures() HostFigures {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := HostFigures{
		Running: s.running, Blocked: s.blocked, Waiting: s.waiting, Peak: s.peak,
		Reserved: s.reserved, Forced: s.forced,
	}
	f.Held, f.Saturated = s.meter.at(time.Now())
	return f
}
