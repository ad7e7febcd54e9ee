package engine

import (
	"fmt"
	"sync"

	"github.com/millrace/millrace/engine/plan"
)

// loops counts how often the edges that lead back were taken: in a run, or in
// one call.
type loops struct {
	mu    sync.Mutex
	taken map[*plan.Edge]int
}

// take counts an edge against the plan's limit.
func (l *loops) take(r *Run, e *plan.Edge) error {
	limit := r.program.plan.Options.MaxIterations
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken == nil {
		l.taken = make(map[*plan.Edge]int)
	}
	l.taken[e]++
	if l.taken[e] > limit {
		return &StepError{Run: r.ID, Step: e.From.ID, Status: StatusKill, Name: "IterationLimitError",
			Message: fmt.Sprintf("the edge from %q to %q was taken more than %d times: raise max_iterations, or end the loop", e.From.ID, e.To.ID, limit)}
	}
	return nil
}
