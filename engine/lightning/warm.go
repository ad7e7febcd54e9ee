package lightning

import (
	"slices"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// WarmPlan returns a plan whose executor serves the jobs of runs that set no
// memory limit of their own, for engine.Warm.
func WarmPlan(o *Options) (*plan.Plan, error) {
	p := &plan.Plan{Name: "warm", Steps: []*plan.Step{{
		ID: "warm", Memory: o.Limits.RunMemory, Expression: &plan.Expression{Source: plan.Source{Text: "// nothing"}},
	}}}
	p.Options.DropKeys = slices.Clone(o.StatePropsToRemove)
	return p, p.Validate(engine.PlanOptions())
}
