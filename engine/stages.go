package engine

import (
	"cmp"
	"slices"

	"github.com/millrace/millrace/engine/demand"
)

// StageStats are the figures of one step over all runs of its plan.
type StageStats struct {
	// Workflow is the plan's name, Step the step's id.
	Workflow, Step string
	demand.StageFigures
}

// Stages returns the figures of the steps of all plans that are in use or were
// lately, by workflow and place in the plan.
func (e *Engine) Stages() []StageStats {
	var all []StageStats
	for _, pr := range e.programs.all() {
		for _, st := range pr.stages {
			if st.spec != nil {
				all = append(all, StageStats{pr.plan.Name, st.step.ID, st.demand.Figures()})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b StageStats) int { return cmp.Compare(a.Workflow, b.Workflow) })
	return all
}

// all returns the programs at hand.
func (p *programs) all() []*program {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*program, 0, len(p.made))
	for _, e := range p.made {
		all = append(all, e.program)
	}
	return all
}
