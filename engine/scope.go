package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/ipc"
)

// scope is the branches that come from one start, the run's own or a call's,
// and what became of them. What ends a call's scope ends nothing else: it is
// the caller's to handle.
type scope struct {
	run *Run
	// Of a call: the caller's place, its execution, and how many callers there
	// are above the scope. All zero in the run's own.
	caller    *demand.Slot
	execution int
	depth     int
	// until is UntilStep when the scope ends with its first step, or the one
	// that this is forwarded to.
	until     ipc.Until
	keepGoing bool                    // other branches finish when one is aborted
	stop      context.CancelCauseFunc // ends all branches
	branches  sync.WaitGroup

	mu     sync.Mutex
	leaves []Leaf
	abort  *StepError      // the first crash, kill, exception or cancel
	failed *StepError      // the first failure of a leaf
	passes map[passage]int // by edges of loops, and forwards
}

// passage is a way from one step to another.
type passage struct{ from, to int }

// end enters what ends the scope, if nothing has yet.
func (s *scope) end(err *StepError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abort == nil {
		s.abort = err
	}
}

// leaf enters the end of a branch, and takes over its state.
func (s *scope) leaf(l Leaf, failed *StepError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaves = append(s.leaves, l)
	if s.failed == nil {
		s.failed = failed
	}
}

// failedFeeding enters the failure of a step whose branch has gone on without
// it. It goes before what came of it there.
func (s *scope) failedFeeding(failed *StepError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = failed
}

// outcome returns how the scope ended.
func (s *scope) outcome() (Status, *StepError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.abort != nil:
		return s.abort.Status, s.abort
	case s.failed != nil:
		return StatusFail, s.failed
	}
	return StatusSuccess, nil
}

// sorted returns the leaves in the order of the plan's steps.
func (s *scope) sorted() []Leaf {
	s.mu.Lock()
	leaves := slices.Clone(s.leaves)
	s.mu.Unlock()
	slices.SortStableFunc(leaves, func(a, b Leaf) int { return cmp.Compare(a.order, b.order) })
	return leaves
}

// pass counts a way that may lead round in a loop against the plan's limit.
func (s *scope) pass(from, to *stage, what string) error {
	limit := s.run.program.plan.Options.MaxIterations
	way := passage{from.step.Index, to.step.Index}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.passes == nil {
		s.passes = make(map[passage]int)
	}
	if s.passes[way]++; s.passes[way] <= limit {
		return nil
	}
	return &StepError{Run: s.run.ID, Step: from.step.ID, Status: StatusKill, Name: "IterationLimitError",
		Message: fmt.Sprintf("%s from %q to %q was taken more than %d times: raise max_iterations, or end the loop", what, from.step.ID, to.step.ID, limit)}
}

// giveUp ends a branch and, unless the scope is to keep going, all others.
func (s *scope) giveUp(err *StepError) {
	// A branch that was stopped because another one ended the scope has nothing
	// to add.
	if !errors.Is(err, errAborted) {
		s.end(err)
	}
	if !s.keepGoing || err.Status == StatusCancel {
		s.stop(errAborted)
	}
}
