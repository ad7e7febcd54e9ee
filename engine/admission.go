package engine

import (
	"context"
	"sync"
)

// admission holds steps back while the host's states are over their budget. At
// least one step is always let through: it may be the one that frees memory.
type admission struct {
	limit uint64 // 0: none
	used  func() uint64

	mu      sync.Mutex
	running int
	changed chan struct{} // closed and replaced when something ended
}

func newAdmission(limit uint64, used func() uint64) *admission {
	return &admission{limit: limit, used: used, changed: make(chan struct{})}
}

// enter waits until a step may start.
func (a *admission) enter(ctx context.Context) error {
	if a.limit == 0 {
		return nil
	}
	for {
		a.mu.Lock()
		if a.running == 0 || a.used() < a.limit {
			a.running++
			a.mu.Unlock()
			return nil
		}
		changed := a.changed
		a.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leave ends a step.
func (a *admission) leave() {
	if a.limit == 0 {
		return
	}
	a.mu.Lock()
	a.running--
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
}
