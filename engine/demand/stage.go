package demand

// Stage is a step as the scheduler sees it, shared by all runs of its program.
// Its fields are guarded by the scheduler's lock, but for those marked
// immutable.
type Stage struct {
	scheduler *Scheduler // immutable
	limit     int        // immutable; 0: none
	declared  uint64     // immutable: what a task is expected to publish; 0: learned

	running, blocked, waiting int
	peak, peakHeld            int
	admitted                  uint64
	learned                   uint64 // the most that a task published
	meter                     meter
	short                     meter // of memory: active while nothing else keeps a task waiting

	callers, callees []*Stage
	cyclic           bool // on a circle of calls
	queue            *bucket
}

// NewStage returns a stage. At most limit of its tasks run at once, 0 means no
// limit; reserve is how many bytes a task is expected to publish, 0 means the
// most that one has published so far.
func (s *Scheduler) NewStage(limit int, reserve uint64) *Stage {
	st := &Stage{scheduler: s, limit: limit, declared: reserve, queue: &s.open}
	if limit > 0 {
		st.queue = newBucket(st)
	}
	return st
}

// room reports whether the stage can take one more task.
func (st *Stage) room(nested bool) bool {
	if st.limit == 0 {
		return true
	}
	n := st.running
	if !nested || !st.cyclic {
		n += st.blocked
	}
	return n < st.limit
}

// roomToResume reports whether one of its blocked tasks may run again. Where
// blocked tasks lend their places, one may have to wait for its own.
func (st *Stage) roomToResume() bool {
	return st.limit == 0 || !st.cyclic || st.running < st.limit
}

// reservation returns how many bytes a task is expected to publish.
func (st *Stage) reservation() uint64 {
	if st.declared > 0 {
		return st.declared
	}
	return st.learned
}

// note brings the stage's figures up to date.
func (st *Stage) note() {
	held := st.running + st.blocked
	st.peak = max(st.peak, st.running)
	st.peakHeld = max(st.peakHeld, held)
	if st.limit == 0 {
		return
	}
	full := held
	if st.cyclic {
		full = st.running
	}
	st.meter.set(held+st.waiting > 0, full >= st.limit)
}

// calls enters that tasks of st wait for tasks of other. It reports whether
// that made stages lend the places of their blocked tasks.
func (st *Stage) calls(other *Stage) bool {
	for _, c := range st.callees {
		if c == other {
			return false
		}
	}
	st.callees = append(st.callees, other)
	other.callers = append(other.callers, st)
	// What is new are the circles through this arrow: the stages that can be
	// reached from its head and from which its tail can be reached.
	after := reach(other, func(s *Stage) []*Stage { return s.callees })
	if !after[st] {
		return false
	}
	changed := false
	for before := range reach(st, func(s *Stage) []*Stage { return s.callers }) {
		if after[before] && !before.cyclic {
			before.cyclic, changed = true, true
		}
	}
	return changed
}

// reach returns the stages that can be reached from one, itself included.
func reach(from *Stage, next func(*Stage) []*Stage) map[*Stage]bool {
	seen := map[*Stage]bool{from: true}
	for todo := []*Stage{from}; len(todo) > 0; {
		last := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, n := range next(last) {
			if !seen[n] {
				seen[n] = true
				todo = append(todo, n)
			}
		}
	}
	return seen
}
