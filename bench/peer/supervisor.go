package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

// Roles of the processes, and the requests that they answer.
const (
	roleSupervisor = "peer-supervisor"
	roleStep       = "peer-step"

	opRun      = "run"      // n -> []bench.RunSample
	opOutcome  = "outcome"  // -> workload.Outcome
	opCounters = "counters" // -> bench.Counters
	opPIDs     = "pids"     // -> []int, the step processes
)

func init() {
	child.Register(roleSupervisor, supervise)
	child.Register(roleStep, runStep)
}

// supervisorSpec tells a supervisor process what to be.
type supervisorSpec struct {
	Peer    string            `json:"peer"`
	Payload *workload.Payload `json:"payload"`
}

// supervise is the supervisor process.
func supervise(c *child.Control) error {
	var spec supervisorSpec
	if err := c.Spec(&spec); err != nil {
		return err
	}
	t, err := transportNamed(spec.Peer)
	if err != nil {
		return err
	}
	d, err := t.supervise(spec.Payload)
	if err != nil {
		return fmt.Errorf("start %s: %w", spec.Peer, err)
	}
	defer closeAll(d.steps())
	return c.Serve(map[string]child.Handler{
		opRun: func(arg json.RawMessage) (any, error) {
			var n int
			if err := json.Unmarshal(arg, &n); err != nil {
				return nil, err
			}
			return runMany(d, n)
		},
		opOutcome:  func(json.RawMessage) (any, error) { return d.outcome() },
		opCounters: func(json.RawMessage) (any, error) { return countAll(d.steps()) },
		opPIDs: func(json.RawMessage) (any, error) {
			var pids []int
			for _, p := range d.steps() {
				pids = append(pids, p.PID())
			}
			return pids, nil
		},
	})
}

func runMany(d driver, n int) ([]bench.RunSample, error) {
	samples := make([]bench.RunSample, n)
	for i := range samples {
		s, err := d.run()
		if err != nil {
			return nil, err
		}
		samples[i] = s
	}
	return samples, nil
}

// countAll sums the allocations of the supervisor and its steps.
func countAll(steps []*child.Process) (bench.Counters, error) {
	sum := ownCounters()
	for _, p := range steps {
		var c bench.Counters
		if err := p.Call(context.Background(), opCounters, nil, &c); err != nil {
			return bench.Counters{}, err
		}
		sum = sum.Add(c)
	}
	return sum, nil
}

func ownCounters() bench.Counters {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return bench.Counters{Mallocs: m.Mallocs, Bytes: m.TotalAlloc}
}

func closeAll(steps []*child.Process) {
	for _, p := range steps {
		// The benchmark is over; a step that fails now has nothing to spoil.
		_ = p.Close()
	}
}
