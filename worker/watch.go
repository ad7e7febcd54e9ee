package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tick is how long a step runs before another goroutine takes over
	// receiving: cancellation is seen that late at most.
	tick = time.Millisecond
	// idleTicks is how many ticks without a step stop the watch.
	idleTicks = 16
)

// watch looks after the running step: it has another goroutine take over
// receiving when the step takes long, and ends the step's context at its
// deadline. One timer ticks while steps come and stops when they do not, so
// that a short step costs two atomic loads, and an idle executor nothing.
type watch struct {
	x      *executor
	timer  *time.Timer
	active atomic.Bool // the timer is set, or tick is about to set it

	mu   sync.Mutex
	seen uint64 // the request that was running at the last tick
	idle int
}

func (w *watch) init(x *executor) {
	w.x = x
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Stop()
}

// started says that a step has begun.
func (w *watch) started() {
	if !w.active.Load() && w.active.CompareAndSwap(false, true) {
		w.timer.Reset(tick)
	}
}

// endedTaken says that a step which was taken over has ended.
func (w *watch) endedTaken() {
	if w.active.Load() { // maybe set to that step's deadline
		w.timer.Reset(tick)
	}
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.x.current.Load()
	if s == nil {
		if w.idle++; w.idle >= idleTicks {
			w.stop(nil)
			return
		}
		w.timer.Reset(tick)
		return
	}
	w.idle = 0
	if s.id != w.seen {
		w.seen = s.id
		w.timer.Reset(tick)
		return
	}
	if s.phase.CompareAndSwap(phaseInline, phaseTaken) {
		go w.x.lead()
	}
	deadline, ok := s.ctx.Deadline()
	if ok {
		if left := time.Until(deadline); left > 0 {
			w.timer.Reset(max(left, tick))
			return
		}
		s.ctx.cancel(context.DeadlineExceeded)
	}
	w.stop(s)
}

// stop stops ticking, unless a step other than s has begun meanwhile.
func (w *watch) stop(s *step) {
	w.idle, w.seen = 0, 0
	w.active.Store(false)
	if now := w.x.current.Load(); now != nil && now != s {
		w.started()
	}
}
