package standin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// Load makes a run of a file: a Lightning plan (JSON with jobs), or a workflow
// file of millrace's or OpenFn's, whose steps become jobs and triggers.
// credentials are configurations by id, for steps that name one.
func Load(path string, credentials map[string]json.RawMessage) (Run, error) {
	if filepath.Ext(path) == ".json" {
		text, err := os.ReadFile(path)
		if err != nil {
			return Run{}, fmt.Errorf("the workflow: %w", err)
		}
		var p struct{ Jobs json.RawMessage }
		if json.Unmarshal(text, &p) == nil && p.Jobs != nil {
			return Run{Plan: text, Credentials: credentials}, nil
		}
	}
	p, err := plan.Load(path, engine.PlanOptions())
	if err != nil {
		return Run{}, err
	}
	return Convert(p, credentials)
}

// lightningPlan is a plan as Lightning writes it.
type lightningPlan struct {
	Name string `json:"name,omitempty"`
	planFile
	Globals string `json:"globals,omitempty"`
}

// Convert makes a run of a workflow. Lightning's jobs are JavaScript, so every
// step is an expression with one adaptor at most, or has no work.
func Convert(p *plan.Plan, credentials map[string]json.RawMessage) (Run, error) {
	out := lightningPlan{Name: p.Name}
	out.Triggers, out.Edges = []planTrigger{}, []planEdge{}
	given := make(map[string]json.RawMessage)
	for _, s := range p.Steps {
		if s.Kind() == plan.KindNone {
			if slices.ContainsFunc(p.Edges, func(e *plan.Edge) bool { return e.To == s }) {
				return Run{}, fmt.Errorf("step %q has no work and does not begin the workflow: Lightning has no such node", s.ID)
			}
			out.Triggers = append(out.Triggers, planTrigger{ID: s.ID, Type: "webhook"})
			continue
		}
		job, err := convertStep(s, credentials, given)
		if err != nil {
			return Run{}, fmt.Errorf("step %q: %w", s.ID, err)
		}
		out.Jobs = append(out.Jobs, job)
	}
	for i, e := range p.Edges {
		out.Edges = append(out.Edges, convertEdge(i, e))
	}
	out.start(p.Start)
	out.Options = planOptions{RunTimeoutMS: float64(p.Options.Timeout.Milliseconds()), Sanitize: p.Options.Sanitize,
		RunMemoryLimit: float64(p.Options.Memory) / megabyte}
	if p.Globals != nil {
		out.Globals = p.Globals.Text
	}
	text, err := json.Marshal(out)
	if err != nil {
		return Run{}, err
	}
	return Run{Plan: text, Credentials: given}, nil
}

// start makes the plan begin at the steps named; several get a trigger.
func (p *lightningPlan) start(steps []string) {
	if len(steps) == 1 {
		p.Start = steps[0]
		return
	}
	taken := func(id string) bool {
		return slices.ContainsFunc(p.Jobs, func(j planJob) bool { return j.ID == id }) ||
			slices.ContainsFunc(p.Triggers, func(t planTrigger) bool { return t.ID == id })
	}
	p.Start = "trigger"
	for taken(p.Start) {
		p.Start += "-"
	}
	p.Triggers = append(p.Triggers, planTrigger{ID: p.Start, Type: "webhook"})
	for _, s := range steps {
		p.Edges = append(p.Edges, planEdge{ID: p.Start + "->" + s, SourceTrigger: p.Start, Target: s, Condition: "always"})
	}
}

func convertStep(s *plan.Step, credentials, given map[string]json.RawMessage) (planJob, error) {
	job := planJob{ID: s.ID, Name: s.Name, State: s.State}
	if s.Expression == nil {
		return job, fmt.Errorf("it is a %s: Lightning's jobs are JavaScript expressions; run the workflow with `millrace run`", s.Kind())
	}
	job.Body = s.Expression.Text
	switch a := s.Expression.Adaptors; {
	case len(a) > 1:
		return job, fmt.Errorf("it has %d adaptors: a job of Lightning's has one", len(a))
	case len(a) == 1:
		job.Adaptor = a[0]
	}
	if s.StateID != "" {
		return job, fmt.Errorf("its state is the id %q: give the state itself", s.StateID)
	}
	switch {
	case s.Credential != "":
		c, found := credentials[s.Credential]
		if !found {
			return job, fmt.Errorf("its credential %q is not among those given (%d)", s.Credential, len(credentials))
		}
		job.CredentialID = s.Credential
		given[s.Credential] = c
	case s.Configuration != nil:
		job.CredentialID = newUUID()
		given[job.CredentialID] = s.Configuration
	}
	return job, nil
}

func convertEdge(i int, e *plan.Edge) planEdge {
	enabled := !e.Disabled
	out := planEdge{ID: fmt.Sprintf("%s->%s-%d", e.From.ID, e.To.ID, i), Target: e.To.ID, Condition: e.Condition, Enabled: &enabled}
	if e.Always() {
		out.Condition = "always"
	}
	if e.From.Kind() == plan.KindNone {
		out.SourceTrigger = e.From.ID
	} else {
		out.SourceJob = e.From.ID
	}
	return out
}
