package subject

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// The supervisor process, and the requests that it answers.
const (
	roleSupervisor = "subject-supervisor"

	opRun      = "run"      // n -> []bench.RunSample
	opOutcome  = "outcome"  // -> workload.Outcome
	opCounters = "counters" // -> bench.Counters
	opPIDs     = "pids"     // -> []int, the executors
)

func init() { child.Register(roleSupervisor, supervise) }

type supervisorSpec struct {
	Source   string            `json:"source"`   // the source's function
	Function string            `json:"function"` // the steps' function
	Payload  *workload.Payload `json:"payload"`
}

// supervisor is the host: an engine and the plan that it runs.
type supervisor struct {
	engine   *engine.Engine
	plan     *plan.Plan
	counters *plan.Plan

	// The latest run, whose final state is still held.
	run    *engine.Run
	result *engine.Result
}

func supervise(c *child.Control) error {
	var spec supervisorSpec
	if err := c.Spec(&spec); err != nil {
		return err
	}
	s, err := newSupervisor(&spec)
	if err != nil {
		return err
	}
	defer s.engine.Close()
	return c.Serve(map[string]child.Handler{
		opRun: func(arg json.RawMessage) (any, error) {
			var n int
			if err := json.Unmarshal(arg, &n); err != nil {
				return nil, err
			}
			return s.runMany(n)
		},
		opOutcome: func(json.RawMessage) (any, error) {
			if s.result == nil {
				return nil, fmt.Errorf("there was no run")
			}
			return outcome(s.result)
		},
		opCounters: func(json.RawMessage) (any, error) { return s.count() },
		opPIDs:     func(json.RawMessage) (any, error) { return s.engine.ExecutorPIDs(), nil },
	})
}

// newSupervisor brings up the engine and makes one run, so that the processes
// are up and warm.
func newSupervisor(spec *supervisorSpec) (*supervisor, error) {
	p, err := casePlan(spec.Payload, spec.Source, spec.Function)
	if err != nil {
		return nil, err
	}
	counting, err := casePlan(spec.Payload, fnCounters, fnCounters)
	if err != nil {
		return nil, err
	}
	eng, err := engine.New(engine.Options{})
	if err != nil {
		return nil, err
	}
	s := &supervisor{engine: eng, plan: p, counters: counting}
	if _, err := s.runMany(1); err != nil {
		eng.Close()
		return nil, err
	}
	return s, nil
}

// runMany makes n runs. Each one's state is let go before the next begins, but
// for the last one's, which Outcome may ask for.
func (s *supervisor) runMany(n int) ([]bench.RunSample, error) {
	samples := make([]bench.RunSample, n)
	for i := range samples {
		if err := s.letGo(); err != nil {
			return nil, err
		}
		var err error
		if samples[i], s.run, s.result, err = runOnce(context.Background(), s.engine, s.plan); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

func (s *supervisor) letGo() error {
	if s.run == nil {
		return nil
	}
	err := s.run.Close()
	s.run, s.result = nil, nil
	return err
}

// count sums the allocations of this process and, by a run through all of
// them, the workers'.
func (s *supervisor) count() (bench.Counters, error) {
	sum := ownCounters()
	run, result, err := submit(context.Background(), s.engine, s.counters, nil)
	if err != nil {
		return sum, err
	}
	defer run.Close()
	var c bench.Counters
	err = readKey(result, keyCounters, &c)
	return sum.Add(c), err
}
