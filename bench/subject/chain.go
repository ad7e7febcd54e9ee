package subject

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// sourceID is the step before the measured ones, which are named by number.
const sourceID = "source"

// workerArgv is the command line of one of the chain's processes.
func workerArgv(name string, p *workload.Payload) ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return []string{exe, subcommand, name, string(spec)}, nil
}

// stage is one step of a chain: which process runs which function.
type stage struct{ process, function string }

// chainPlan makes a plan of stages one after the other, named "0", "1", ….
func chainPlan(p *workload.Payload, stages ...stage) (*plan.Plan, error) {
	pl := &plan.Plan{Name: "bench"}
	for i, s := range stages {
		argv, err := workerArgv(s.process, p)
		if err != nil {
			return nil, err
		}
		step := &plan.Step{ID: strconv.Itoa(i), Worker: &plan.Worker{Argv: argv, Function: s.function}}
		if i > 0 {
			pl.Edges = append(pl.Edges, &plan.Edge{From: pl.Steps[i-1], To: step})
		}
		pl.Steps = append(pl.Steps, step)
	}
	return pl, pl.Validate()
}

// casePlan is the chain that a case measures: the source and three steps, each
// in a process of its own.
func casePlan(p *workload.Payload, source, function string) (*plan.Plan, error) {
	return chainPlan(p, stage{sourceID, source}, stage{"1", function}, stage{"2", function}, stage{"3", function})
}

// timeline is what a chain's events say.
type timeline struct {
	begin     int64 // when the supervisor held the source's state
	handovers []time.Duration
}

// observe takes the times of a chain's run; step "0" is the source.
func (t *timeline) observe(e engine.Event) {
	if e.Type != engine.EventStepComplete {
		return
	}
	if e.Step == "0" {
		t.begin = workload.Now()
		return
	}
	t.handovers = append(t.handovers, time.Duration(e.Report.HandoverUS*1e3))
}

// submit runs a plan to its end. The run is the caller's to close.
func submit(ctx context.Context, eng *engine.Engine, p *plan.Plan, observe func(engine.Event)) (*engine.Run, *engine.Result, error) {
	run, err := eng.Submit(ctx, p, engine.EmptyInput(), engine.RunOptions{Observe: observe})
	if err != nil {
		return nil, nil, err
	}
	result, err := run.Wait(ctx)
	if err == nil {
		err = result.Err
	}
	if err != nil {
		_ = run.Close() // the error above says more
		return nil, nil, err
	}
	return run, result, nil
}

// runOnce is one measured run of a case's plan.
func runOnce(ctx context.Context, eng *engine.Engine, p *plan.Plan) (bench.RunSample, *engine.Run, *engine.Result, error) {
	var t timeline
	run, result, err := submit(ctx, eng, p, t.observe)
	end := workload.Now()
	if err != nil {
		return bench.RunSample{}, nil, nil, err
	}
	sample := bench.RunSample{Wall: time.Duration(end - t.begin)}
	// The first measured step's hand-over is from the source, which no peer has.
	if n := copy(sample.Handovers[:], t.handovers[1:]); n != len(sample.Handovers) {
		return bench.RunSample{}, nil, nil, fmt.Errorf("%d hand-overs in a run", len(t.handovers))
	}
	return sample, run, result, nil
}

// outcome identifies a final state by reading it as a host would send it on.
func outcome(result *engine.Result) (o workload.Outcome, err error) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	if err := result.WriteKey(sum, keyData); err != nil {
		return o, err
	}
	o.DataCRC = sum.Sum32()
	return o, readKey(result, keyCount, &o.Count)
}

// readKey decodes a small key of a final state.
func readKey(result *engine.Result, key string, v any) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(result.WriteKey(w, key)) }()
	return json.NewDecoder(r).Decode(v)
}
