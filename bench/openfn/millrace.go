package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

func monotonic() float64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it cannot fail
	return float64(t.Nano())
}

func (p *peers) engine() (*engine.Engine, error) {
	return engine.New(engine.Options{NodeExecutor: []string{p.worker}})
}

// settle is how long warm executors get to finish their preparations.
const settle = 500 * time.Millisecond

// millrace runs a task through the engine, with this process as the host. What
// takes milliseconds is run in several rounds, each with a fresh pool of warm
// executors; times are of all rounds, memory of the worst.
func (p *peers) millrace(t task, rounds int) (*figures, error) {
	if t.big {
		rounds = 1
	}
	var sum *figures
	for range rounds {
		f, err := p.round(t)
		if err != nil {
			return nil, err
		}
		if sum == nil {
			sum = f
		}
		sum.waits = append(sum.waits, f.handovers()...)
		sum.walls = append(sum.walls, f.wall())
		sum.Peak, sum.Supervisor = max(sum.Peak, f.Peak), max(sum.Supervisor, f.Supervisor)
	}
	return sum, nil
}

func (p *peers) round(t task) (*figures, error) {
	eng, err := p.engine()
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	pl, err := plan.Load(t.plan, engine.PlanOptions())
	if err != nil {
		return nil, err
	}
	if err := eng.Warm(context.Background(), pl, 1); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	debug.FreeOSMemory()
	idle := ownRSS()
	s := watch(func() []int { return append(eng.ExecutorPIDs(), os.Getpid()) })
	own := watchOwn()
	f, err := once(eng, pl, engine.FromFile(t.state), io.Discard)
	supervisor := own.end() - idle
	peak := s.end()
	if err != nil {
		return nil, err
	}
	f.Peak, f.Supervisor = peak, supervisor
	return f, nil
}

// once runs a plan to its end and writes its final document to w.
func once(eng *engine.Engine, pl *plan.Plan, input engine.Input, w io.Writer) (*figures, error) {
	f := &figures{Begin: monotonic()}
	f.Submitted = f.Begin
	run, err := eng.Submit(context.Background(), pl, input, engine.RunOptions{})
	if err != nil {
		return nil, err
	}
	defer run.Close()
	result, err := run.Wait(context.Background())
	if err != nil {
		return nil, err
	}
	if result.Err != nil {
		return nil, result.Err
	}
	size := &counter{w: w}
	if err := result.WriteDocument(size); err != nil {
		return nil, err
	}
	f.End, f.Bytes = monotonic(), size.n
	var stamps bytes.Buffer
	if err := result.WriteKey(&stamps, "stamps"); err != nil {
		return nil, err
	}
	return f, json.Unmarshal(stamps.Bytes(), &f.Stamps)
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// small runs n steps with next to no work, in lines of the length given, and
// returns the times between the end of a step's code and the next one's begin,
// as the executor stamps them. Each step of a line has code of its own, which
// an executor that may serve several runs knows after the first line.
func (p *peers) small(dir string, n, length int) ([]float64, error) {
	doc := planOf("", length, p.folder+"/stamp")
	doc["options"] = map[string]any{"reuse": true}
	for _, step := range doc["workflow"].(map[string]any)["steps"].([]any) {
		step := step.(map[string]any)
		step["expression"] = `export default [(state) => ({ ...state, n: state.n + 1 })];`
		delete(step, "adaptors")
		delete(step, "linker")
	}
	path, err := writePlan(dir, fmt.Sprintf("small-%d", length), doc)
	if err != nil {
		return nil, err
	}
	eng, err := p.engine()
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	pl, err := plan.Load(path, engine.PlanOptions())
	if err != nil {
		return nil, err
	}
	var all []float64
	for len(all) < n-n/length {
		steps, err := smallRun(eng, pl)
		if err != nil {
			return nil, err
		}
		for _, s := range steps[1:] {
			all = append(all, s.HandoverUS*1e3)
		}
	}
	return all, nil
}

func smallRun(eng *engine.Engine, pl *plan.Plan) ([]engine.StepReport, error) {
	run, err := eng.Submit(context.Background(), pl, engine.FromBytes([]byte(`{"n":0}`)), engine.RunOptions{})
	if err != nil {
		return nil, err
	}
	defer run.Close()
	result, err := run.Wait(context.Background())
	if err != nil {
		return nil, err
	}
	return run.Stats().Steps, result.Err
}

// first measures, in rounds, the time from submission to the begin of the first
// step's code, its executor warm.
func (p *peers) first(dir string, rounds int) ([]float64, error) {
	path, err := writePlan(dir, "first", planOf(touch, 1, p.folder+"/stamp"))
	if err != nil {
		return nil, err
	}
	eng, err := p.engine()
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	var all []float64
	for range rounds {
		pl, err := plan.Load(path, engine.PlanOptions())
		if err != nil {
			return nil, err
		}
		if err := eng.Warm(context.Background(), pl, 1); err != nil {
			return nil, err
		}
		time.Sleep(settle)
		f, err := once(eng, pl, engine.FromBytes([]byte(`{"small":{"n":0},"stamps":[]}`)), io.Discard)
		if err != nil {
			return nil, err
		}
		if len(f.Stamps) != 1 {
			return nil, errors.New("the step left no stamp")
		}
		all = append(all, f.Stamps[0][0]-f.Submitted)
	}
	return all, nil
}
