package plan

import (
	"encoding/json"
	"time"
)

// DefaultMaxIterations ends a loop that a plan did not mean to have.
const DefaultMaxIterations = 10_000

// DefaultMaxCallDepth ends a recursion that a plan did not mean to have.
const DefaultMaxCallDepth = 64

// DefaultDropKeys are the keys removed from the state after every step when a
// plan does not say otherwise. They are OpenFn's.
var DefaultDropKeys = []string{"configuration", "response"}

// Plan is a workflow ready to run.
//
// It is made by Load or Parse, or in Go followed by Validate:
//
//	a, b := &plan.Step{ID: "a"}, &plan.Step{ID: "b"}
//	p := &plan.Plan{Steps: []*plan.Step{a, b}, Edges: []*plan.Edge{{From: a, To: b}}}
//	err := p.Validate()
//
// After that it is read-only and safe for concurrent use.
type Plan struct {
	// ID is the file's id, or empty. It is not interpreted.
	ID string
	// Name is the workflow's name; by default the file's name without its ending.
	Name string
	// File is the name given to Load or Parse, for messages. Empty for a plan
	// made in Go.
	File string
	// Dir is the absolute folder that relative paths were resolved against.
	// Empty when the plan came without one.
	Dir string
	// Start holds the ids of the steps which receive the run's input. Validate
	// makes it the first step when it is empty.
	Start []string
	// Steps in file order. A step's Index is its place here.
	Steps []*Step
	// Edges in file order, disabled ones too.
	Edges []*Edge
	// Globals is source text shared by all expression steps, or nil.
	Globals *Source
	// Credentials is a JSON object, or nil: configuration that every step gets
	// below its own.
	Credentials json.RawMessage
	// Options of the whole run.
	Options RunOptions
	// Warnings are doubts that do not stop a run, such as a step that nothing
	// leads to. Validate replaces those it found itself.
	Warnings []*Problem

	// readWarnings were found while reading the file; Validate keeps them.
	readWarnings []*Problem
	startAt      path
	byID         map[string]*Step
}

// Step returns the step with that id, or nil. It is fast after Validate.
func (p *Plan) Step(id string) *Step {
	if p.byID != nil {
		return p.byID[id]
	}
	for _, s := range p.Steps {
		if s != nil && s.ID == id {
			return s
		}
	}
	return nil
}

// RunOptions are the settings of a run. A zero value means the engine's default.
type RunOptions struct {
	// End holds the ids of steps after which the run ends, as OpenFn's end.
	End []string
	// Timeout of the whole run.
	Timeout time.Duration
	// StepTimeout is the timeout of each step that has none of its own.
	// Validate copies it to those steps.
	StepTimeout time.Duration
	// Memory is the run's budget of published state, in bytes.
	Memory int64
	// Concurrency is how many steps of one run may work at once.
	Concurrency int
	// Sanitize is OpenFn's policy for logging state: none, remove, obfuscate,
	// summarize, or empty.
	Sanitize string
	// DropKeys are removed from the state after each step. Validate makes nil
	// DefaultDropKeys; an empty slice that is not nil drops nothing.
	DropKeys []string
	// Node and Python are the commands that start the interpreters, as
	// Command.Argv. Nil: node and python3, looked up in PATH.
	Node, Python []string
	// Reuse is the default of the steps' Reuse. Validate copies it.
	Reuse *bool
	// MaxIterations bounds how often one edge of a loop is taken, or forwarded
	// along, in one run or in one call. Validate makes 0 DefaultMaxIterations.
	MaxIterations int
	// MaxCallDepth bounds how many calls may wait one below the other. Validate
	// makes 0 DefaultMaxCallDepth.
	MaxCallDepth int
}

// Step is one stage of a workflow. At most one of Expression, Command, Worker,
// Python and Files is set; a step with none of them passes its input on, as an OpenFn
// trigger does.
type Step struct {
	// ID is unique in its plan, at most MaxIDBytes long.
	ID string
	// Name is for people; it may be empty.
	Name string

	Expression *Expression
	Command    *Command
	Worker     *Worker
	Python     *Python
	Files      *Files

	// Configuration is a JSON object, or nil.
	Configuration json.RawMessage
	// Credential is the id of a credential which the host resolves to a
	// configuration, or empty. Only one of the two is set.
	Credential string
	// State is the step's default state, a JSON object, or nil.
	State json.RawMessage
	// StateID is the id of a stored state which the host resolves, or empty.
	// Only one of the two is set.
	StateID string

	// Concurrency is how many of this step may work at once, across all runs.
	Concurrency int
	// Timeout of one attempt.
	Timeout time.Duration
	// Memory limits one executor of this step, in bytes.
	Memory int64
	// Retry says what happens when an attempt fails.
	Retry Retry
	// Reuse says whether an executor may go on to serve other runs. Nil: the
	// engine's default.
	Reuse *bool
	// PerTask gives each task a process of its own, whose exit frees all its
	// memory. It goes before Reuse.
	PerTask bool
	// Reserve is how many bytes a task of this step is expected to publish: the
	// host's memory must have room for them before it starts. 0: the largest
	// output seen so far.
	Reserve int64
	// MaxDemand is how many items of a stream the step asks for ahead, and
	// MinDemand how few of them are left when it asks again. Validate makes 0
	// DefaultMaxDemand and half of MaxDemand.
	MaxDemand, MinDemand int
	// ManualDemand: the step asks for items itself, and none come unasked.
	ManualDemand bool

	// Index is the step's place in Plan.Steps; Validate sets it.
	Index int
	// Next holds the edges that can be taken, in file order; Validate sets it
	// from Plan.Edges.
	Next []*Edge

	at path
}

// DefaultMaxDemand is how many items of a stream a step asks for ahead.
const DefaultMaxDemand = 1000

// Edge leads from one step to another.
type Edge struct {
	From, To *Step
	// Condition is a JavaScript expression over state, or one of OpenFn's words
	// (always, on_job_success, on_job_failure, on_upstream_success,
	// on_upstream_fail). Empty: the edge is always taken.
	Condition string
	// Label is for people; it may be empty.
	Label string
	// Disabled edges are never taken: the file says disabled, false, or gives
	// an edge object without a condition.
	Disabled bool
	// Loop: the edge lies on a circle. Validate sets it.
	Loop bool

	at path
	// inObject: the condition stands under a key of its own.
	inObject bool
}

// Always reports whether the edge is taken whatever the state is, so that no
// condition need be evaluated.
func (e *Edge) Always() bool {
	return !e.Disabled && (e.Condition == "" || e.Condition == "always" || e.Condition == "true")
}

// Retry says how a failed step is tried again. The zero value means never.
type Retry struct {
	// Attempts is how many times the step is tried again after its first
	// failure.
	Attempts int
	// Backoff is the pause before the first retry; it doubles at each further
	// one, up to MaxBackoff.
	Backoff, MaxBackoff time.Duration
	// Jitter is the share of each pause, 0 to 1, that is chosen at random.
	Jitter float64
}

// Defaults of a file's retry that gives only a number of attempts.
const (
	DefaultBackoff    = time.Second
	DefaultMaxBackoff = 30 * time.Second
	DefaultJitter     = 0.2
)
