package demand

import "fmt"

// check looks for what must never be, after any method.
func (s *Scheduler) check(stages []*Stage, runs []*Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	run, block, wait := 0, 0, 0
	for i, st := range stages {
		run, block, wait = run+st.running, block+st.blocked, wait+st.waiting
		held := st.running
		if !st.cyclic {
			held += st.blocked
		}
		switch {
		case st.running < 0 || st.blocked < 0 || st.waiting < 0:
			return fmt.Errorf("stage %d: %d running, %d blocked, %d waiting", i, st.running, st.blocked, st.waiting)
		case st.limit > 0 && held > st.limit:
			return fmt.Errorf("stage %d: %d hold a place, the limit is %d (on a circle: %v)", i, held, st.limit, st.cyclic)
		}
	}
	ofRuns := 0
	for i, r := range runs {
		ofRuns += r.running
		if r.limit > 0 && r.running > r.limit {
			return fmt.Errorf("run %d: %d running, the limit is %d", i, r.running, r.limit)
		}
	}
	switch {
	case run != s.running || ofRuns != s.running || block != s.blocked || wait != s.waiting:
		return fmt.Errorf("the host counts %d running, %d blocked, %d waiting; its stages %d, %d, %d; its runs %d running",
			s.running, s.blocked, s.waiting, run, block, wait, ofRuns)
	case s.slots > 0 && s.running > s.slots:
		return fmt.Errorf("%d running, the host's limit is %d", s.running, s.slots)
	}
	if s.slots == 0 || s.running < s.slots {
		if w := s.nextResume(); w != nil {
			return fmt.Errorf("a task waits to resume and need not")
		}
		// Memory may have been freed a moment ago, and Freed not have been called.
		if w, _ := s.nextNew(); w != nil && s.memory == 0 {
			return fmt.Errorf("a task waits and could be admitted")
		}
	}
	return nil
}

// idle reports what is left when all tasks have left.
func (s *Scheduler) idle(stages []*Stage, runs []*Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != 0 || s.blocked != 0 || s.waiting != 0 || s.reserved != 0 || !s.buckets.empty() || s.urgent != nil {
		return fmt.Errorf("left: %d running, %d blocked, %d waiting, %d bytes reserved", s.running, s.blocked, s.waiting, s.reserved)
	}
	for i, st := range stages {
		if st.running != 0 || st.blocked != 0 || st.waiting != 0 || !st.queue.asking.empty() || !st.queue.resuming.empty() || st.meter.active || st.short.active {
			return fmt.Errorf("stage %d: left: %+v", i, st)
		}
	}
	for i, r := range runs {
		if r.running != 0 || len(r.groups) != 0 || len(r.parked) != 0 {
			return fmt.Errorf("run %d: left: %+v", i, r)
		}
	}
	return nil
}
