package lightning

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// wirePlan is a run's plan as Lightning sends it. Unknown keys are ignored:
// newer servers add some.
type wirePlan struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	ProjectID  string          `json:"project_id"`
	DataclipID string          `json:"dataclip_id"`
	StartingID string          `json:"starting_node_id"`
	Triggers   []wireTrigger   `json:"triggers"`
	Jobs       []wireJob       `json:"jobs"`
	Edges      []wireEdge      `json:"edges"`
	Globals    json.RawMessage `json:"globals"`
	Options    wireOptions     `json:"options"`
}

type wireTrigger struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

type wireJob struct {
	ID           string          `json:"id"`
	Name         string          `json:"name"`
	Body         string          `json:"body"`
	Adaptor      string          `json:"adaptor"`
	Credential   json.RawMessage `json:"credential"`
	CredentialID string          `json:"credential_id"`
	State        json.RawMessage `json:"state"`
}

type wireEdge struct {
	ID            string `json:"id"`
	SourceJob     string `json:"source_job_id"`
	SourceTrigger string `json:"source_trigger_id"`
	Target        string `json:"target_job_id"`
	Condition     string `json:"condition"`
	Enabled       *bool  `json:"enabled"`
}

type wireOptions struct {
	RunTimeoutMS      *float64        `json:"run_timeout_ms"`
	PayloadLimitMB    *float64        `json:"payload_limit_mb"`
	LogPayloadLimitMB *float64        `json:"log_payload_limit_mb"`
	RunMemoryLimitMB  *float64        `json:"run_memory_limit_mb"`
	Sanitize          string          `json:"sanitize"`
	OutputDataclips   *bool           `json:"output_dataclips"`
	JobLogLevel       string          `json:"job_log_level"`
	Start             json.RawMessage `json:"start"`
}

// PlanError is a plan of Lightning's that cannot be run.
type PlanError struct {
	Run string
	Err error
}

// Error implements error.
func (e *PlanError) Error() string {
	return fmt.Sprintf("the plan of run %s is not valid: %v", e.Run, e.Err)
}

// Unwrap returns the cause.
func (e *PlanError) Unwrap() error { return e.Err }

// converted is a run made ready.
type converted struct {
	plan       *plan.Plan
	project    string
	dataclipID string
	limits     Limits
	sanitize   string
	withheld   bool // output_dataclips is false
	logLevel   string
}

// convert makes an engine's plan of Lightning's. token is the run's, for the
// collections. Limits that the plan does not set are the worker's.
func convert(text []byte, token string, o *Options) (*converted, error) {
	var w wirePlan
	fail := func(err error) (*converted, error) { return nil, &PlanError{Run: w.ID, Err: err} }
	if err := json.Unmarshal(text, &w); err != nil {
		return fail(err)
	}
	c := &converted{
		project: w.ProjectID, dataclipID: w.DataclipID, limits: o.Limits,
		sanitize: w.Options.Sanitize, logLevel: w.Options.JobLogLevel,
		withheld: w.Options.OutputDataclips != nil && !*w.Options.OutputDataclips,
	}
	c.limits.override(w.Options)
	p := &plan.Plan{ID: w.ID, Name: w.Name}
	c.plan = p
	p.Options.Timeout = c.limits.RunTimeout
	p.Options.Memory = int64(o.RunState)
	p.Options.Sanitize = w.Options.Sanitize
	p.Options.DropKeys = slices.Clone(o.StatePropsToRemove)
	var globals string
	if json.Unmarshal(w.Globals, &globals) == nil && globals != "" { // as the reference: only a text
		p.Globals = &plan.Source{Text: globals}
	}
	steps := make(map[string]*plan.Step)
	add := func(s *plan.Step) error {
		if steps[s.ID] != nil {
			return fmt.Errorf("there are two steps with the id %q", s.ID)
		}
		steps[s.ID] = s
		p.Steps = append(p.Steps, s)
		return nil
	}
	for _, t := range w.Triggers {
		if t.ID == "" {
			t.ID = "trigger"
		}
		if err := add(&plan.Step{ID: t.ID}); err != nil {
			return fail(err)
		}
	}
	collections := false
	for _, job := range w.Jobs {
		s, err := job.step(o, c.limits.RunMemory)
		if err != nil {
			return fail(err)
		}
		if s.Expression != nil && o.CollectionsURL != "" && strings.Contains(job.Body, "collections.") {
			collections = true
			addCollections(s.Expression, o.CollectionsVersion)
		}
		if err := add(s); err != nil {
			return fail(err)
		}
	}
	if collections {
		credentials := map[string]string{"collections_token": token, "collections_endpoint": o.CollectionsURL}
		if w.ProjectID != "" {
			credentials["project_id"] = w.ProjectID
		}
		p.Credentials, _ = json.Marshal(credentials) // texts always encode
	}
	if err := connect(p, steps, w.Edges); err != nil {
		return fail(err)
	}
	if p.Start = w.start(); p.Start == nil && len(p.Steps) > 0 {
		p.Start = []string{p.Steps[0].ID}
	}
	if err := p.Validate(engine.PlanOptions()); err != nil {
		return fail(err)
	}
	return c, nil
}

// start returns where the plan says that the run starts.
func (w *wirePlan) start() []string {
	if w.StartingID != "" {
		return []string{w.StartingID}
	}
	var one string
	if json.Unmarshal(w.Options.Start, &one) == nil && one != "" {
		return []string{one}
	}
	var several []string
	if json.Unmarshal(w.Options.Start, &several) == nil && len(several) > 0 {
		return several
	}
	return nil
}

// step makes a step of a job. One without a body passes its state on, as a
// trigger does.
func (j *wireJob) step(o *Options, memory int64) (*plan.Step, error) {
	s := &plan.Step{ID: j.ID, Name: j.Name, Credential: j.CredentialID}
	if s.ID == "" {
		return nil, errors.New("there is a job without an id")
	}
	var err error
	if object, id, cerr := objectOrID(j.Credential); cerr != nil {
		err = fmt.Errorf("job %q: its credential %w", j.ID, cerr)
	} else if object != nil {
		s.Configuration, s.Credential = object, ""
	} else if id != "" {
		s.Credential = id
	}
	if object, id, serr := objectOrID(j.State); serr != nil {
		err = errors.Join(err, fmt.Errorf("job %q: its state %w", j.ID, serr))
	} else {
		s.State, s.StateID = object, id
	}
	if err != nil {
		return nil, err
	}
	if j.Body == "" {
		return s, nil
	}
	s.Memory = memory
	s.Expression = &plan.Expression{Source: plan.Source{Text: j.Body}}
	if j.Adaptor == "" {
		return s, nil
	}
	s.Expression.Adaptors = []string{j.Adaptor}
	if name, version := splitAdaptor(j.Adaptor); version == "local" && o.MonorepoDir != "" {
		s.Expression.Linker = map[string]plan.Module{name: {
			Path:    filepath.Join(o.MonorepoDir, "packages", strings.TrimPrefix(name, "@openfn/language-")),
			Version: version,
		}}
	}
	return s, nil
}

// objectOrID reads what is either a JSON object or the id of one.
func objectOrID(text json.RawMessage) (object json.RawMessage, id string, err error) {
	text = bytes.TrimSpace(text)
	switch {
	case len(text) == 0 || string(text) == "null" || string(text) == "false":
		return nil, "", nil
	case text[0] == '{':
		return text, "", nil
	case json.Unmarshal(text, &id) == nil:
		return nil, id, nil
	}
	return nil, "", errors.New("is neither an object nor an id")
}

// splitAdaptor splits "@openfn/language-http@6.5.0".
func splitAdaptor(s string) (name, version string) {
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

const collectionsAdaptor = "@openfn/language-collections"

func addCollections(e *plan.Expression, version string) {
	if slices.ContainsFunc(e.Adaptors, func(a string) bool { return strings.HasPrefix(a, collectionsAdaptor) }) {
		return
	}
	if version == "" {
		version = "latest"
	}
	e.Adaptors = append(e.Adaptors, collectionsAdaptor+"@"+version)
}

// connect enters the edges. A trigger's edge that is not enabled is left out; of
// several between the same two steps the last counts, as in the reference.
func connect(p *plan.Plan, steps map[string]*plan.Step, edges []wireEdge) error {
	type ends struct{ from, to *plan.Step }
	at := make(map[ends]int)
	for _, e := range edges {
		source := e.SourceJob
		fromTrigger := e.SourceTrigger != ""
		if fromTrigger {
			source = e.SourceTrigger
		}
		from, to := steps[source], steps[e.Target]
		switch {
		case from == nil:
			continue // an edge of a job that is not part of this run
		case fromTrigger && e.Enabled != nil && !*e.Enabled:
			continue
		case to == nil:
			return fmt.Errorf("the edge %s leads from %q to %q, and there is no such job", e.ID, source, e.Target)
		}
		edge := &plan.Edge{From: from, To: to, Condition: e.Condition, Disabled: e.Enabled != nil && !*e.Enabled}
		if i, ok := at[ends{from, to}]; ok {
			p.Edges[i] = edge
			continue
		}
		at[ends{from, to}] = len(p.Edges)
		p.Edges = append(p.Edges, edge)
	}
	return nil
}

// Limits bound a run. A plan of Lightning's may set its own.
type Limits struct {
	// RunTimeout bounds a run's time; 0: none.
	RunTimeout time.Duration
	// RunMemory bounds one executor of a run, in bytes; 0: none.
	RunMemory int64
	// Payload bounds a dataclip, in bytes as they go over the wire, and
	// LogPayload the message of a log line; 0: none.
	Payload, LogPayload int64
}

const megabyte = 1 << 20

func (l *Limits) override(o wireOptions) {
	bytesOf := func(to *int64, mb *float64) {
		if mb != nil {
			*to = int64(min(max(*mb, 0), 1<<30) * megabyte)
		}
	}
	if ms := o.RunTimeoutMS; ms != nil {
		l.RunTimeout = time.Duration(min(max(*ms, 0), 1e12) * float64(time.Millisecond))
	}
	bytesOf(&l.RunMemory, o.RunMemoryLimitMB)
	bytesOf(&l.Payload, o.PayloadLimitMB)
	bytesOf(&l.LogPayload, o.LogPayloadLimitMB)
}

// adaptorsOf returns the adaptors that are to be installed for a plan.
func adaptorsOf(p *plan.Plan) []string {
	var list []string
	for _, s := range p.Steps {
		if s.Expression == nil {
			continue
		}
		for _, a := range s.Expression.Adaptors {
			name, _ := splitAdaptor(a)
			if s.Expression.Linker[name].Path == "" && !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}
