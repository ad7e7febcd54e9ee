package subject

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

const (
	roleFigure = "subject-figure"
	opMeasure  = "measure" // -> reading
)

func init() { child.Register(roleFigure, superviseFigure) }

// FigureCases returns what has no peer to be compared with.
func FigureCases() []bench.FigureCase {
	return []bench.FigureCase{
		figure{"handover", measureHandover}, figure{"throughput", measureThroughput}, figure{"arrow", measureArrow},
		figure{"supervisor-memory", measureMemory}, figure{"idle-pool", measureIdle},
	}
}

// figure is a measurement that a supervisor process of its own makes.
type figure struct {
	name string
	// measure runs in that process.
	measure func(ctx context.Context, eng *engine.Engine, quick bool) (reading, error)
}

// reading is what a measurement found.
type reading struct {
	Figures []bench.Figure `json:"figures"`
	Notes   []string       `json:"notes"`
}

type figureSpec struct {
	Name  string `json:"name"`
	Quick bool   `json:"quick"`
}

func (f figure) Name() string { return f.name }

func (f figure) Figures(ctx context.Context, quick bool) ([]bench.Figure, []string, error) {
	p, err := child.Start(roleFigure, figureSpec{f.name, quick})
	if err != nil {
		return nil, nil, err
	}
	var r reading
	err = p.Call(ctx, opMeasure, nil, &r)
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	return r.Figures, r.Notes, err
}

func superviseFigure(c *child.Control) error {
	var spec figureSpec
	if err := c.Spec(&spec); err != nil {
		return err
	}
	eng, err := engine.New(engine.Options{})
	if err != nil {
		return err
	}
	defer eng.Close()
	return c.Serve(map[string]child.Handler{opMeasure: func(json.RawMessage) (any, error) {
		for _, f := range FigureCases() {
			if f.Name() == spec.Name {
				return f.(figure).measure(context.Background(), eng, spec.Quick)
			}
		}
		return nil, fmt.Errorf("unknown figure %q", spec.Name)
	}})
}

// once runs a plan and lets its state go.
func once(ctx context.Context, eng *engine.Engine, p *plan.Plan, observe func(engine.Event)) error {
	run, _, err := submit(ctx, eng, p, observe)
	if err != nil {
		return err
	}
	return run.Close()
}

// pick returns quickly or thoroughly.
func pick(quick bool, quickly, thoroughly int) int {
	if quick {
		return quickly
	}
	return thoroughly
}

// measureHandover hands states of 1 KB and of 256 MB, untouched, through a long
// chain over three processes, in turns.
func measureHandover(ctx context.Context, eng *engine.Engine, quick bool) (r reading, err error) {
	const small, large = 1 << 10, 256 << 20
	rounds, steps := pick(quick, 6, 25), 300
	plans := make(map[int]*plan.Plan)
	samples := make(map[int][]float64)
	for _, size := range []int{small, large} {
		stages := []stage{{sourceID, fnBlank}}
		for i := range steps {
			stages = append(stages, stage{fmt.Sprint(i%workload.Steps + 1), fnEmpty})
		}
		// The blank source needs no file, only the size. The steps' processes
		// are the same for both sizes.
		if plans[size], err = chainPlan(&workload.Payload{}, stages...); err != nil {
			return r, err
		}
		plans[size].Steps[0].Worker.Argv, err = workerArgv(sourceID, &workload.Payload{DataLength: size})
		if err != nil {
			return r, err
		}
	}
	for round := range rounds + 1 {
		for _, size := range []int{small, large} {
			var t timeline
			if err := once(ctx, eng, plans[size], t.observe); err != nil {
				return r, err
			}
			if round == 0 { // to warm up
				continue
			}
			for _, h := range t.handovers[workload.Steps:] {
				samples[size] = append(samples[size], float64(h))
			}
		}
	}
	smallest, largest := measure.SpreadOf(samples[small]), measure.SpreadOf(samples[large])
	ratio := largest.Median / smallest.Median
	r.Figures = []bench.Figure{
		{Title: "hand-over of an untouched 1 KB key", Spread: smallest, Unit: bench.Nanoseconds},
		{Title: "hand-over of an untouched 256 MB key", Spread: largest, Unit: bench.Nanoseconds, Limit: 60e3},
		{Title: "256 MB against 1 KB", Spread: measure.Spread{Median: ratio}, Unit: bench.Times, Limit: 1.3},
	}
	return r, nil
}

// measureThroughput runs chains of empty steps through one executor.
func measureThroughput(ctx context.Context, eng *engine.Engine, quick bool) (r reading, err error) {
	const length = 100
	stages := make([]stage, length)
	for i := range stages {
		stages[i] = stage{"1", fnEmpty}
	}
	long, err := chainPlan(&workload.Payload{}, stages...)
	if err != nil {
		return r, err
	}
	short, err := chainPlan(&workload.Payload{}, stages[:1]...)
	if err != nil {
		return r, err
	}
	for _, c := range []struct {
		title string
		plan  *plan.Plan
		limit float64
	}{
		{"small steps through one executor, in runs of 100", long, 5000},
		{"small steps through one executor, each a run", short, 5000},
	} {
		var rates []float64
		for range pick(quick, 8, 40) {
			begin, steps := time.Now(), 0
			for time.Since(begin) < 100*time.Millisecond {
				if err := once(ctx, eng, c.plan, nil); err != nil {
					return r, err
				}
				steps += len(c.plan.Steps)
			}
			rates = append(rates, float64(steps)/time.Since(begin).Seconds())
		}
		r.Figures = append(r.Figures, bench.Figure{
			Title: c.title, Spread: measure.SpreadOf(rates), Unit: bench.PerSecond, Limit: c.limit, AtLeast: true,
		})
	}
	return r, nil
}

// measureArrow attaches a key that another process wrote.
func measureArrow(ctx context.Context, eng *engine.Engine, _ bool) (r reading, err error) {
	p, err := chainPlan(&workload.Payload{}, stage{sourceID, fnArrow}, stage{"1", fnAttach})
	if err != nil {
		return r, err
	}
	run, result, err := submit(ctx, eng, p, nil)
	if err != nil {
		return r, err
	}
	defer run.Close()
	var report attachReport
	if err := readKey(result, "report", &report); err != nil {
		return r, err
	}
	times := make([]float64, len(report.Times))
	for i, t := range report.Times {
		times[i] = float64(t)
	}
	r.Figures = []bench.Figure{
		{Title: "attaching a 100 MB Arrow key, warm", Spread: measure.SpreadOf(times), Unit: bench.Nanoseconds, Limit: 50e3},
		{Title: "the first attach, mapping included", Spread: measure.Spread{Median: float64(report.First)}, Unit: bench.Nanoseconds},
		{Title: "heap that an attach takes", Spread: measure.Spread{Median: float64(report.Heap)}, Unit: bench.Bytes, Limit: 64 << 10},
	}
	return r, nil
}

// measureIdle leaves a pool of warm executors alone.
func measureIdle(ctx context.Context, eng *engine.Engine, quick bool) (r reading, err error) {
	p, err := casePlan(&workload.Payload{}, fnEmpty, fnEmpty)
	if err != nil {
		return r, err
	}
	for range 50 {
		if err := once(ctx, eng, p, nil); err != nil {
			return r, err
		}
	}
	pids := append(eng.ExecutorPIDs(), ownPID())
	time.Sleep(200 * time.Millisecond) // until the last of the work is done
	before, err := measure.CPU(pids)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	time.Sleep(time.Duration(pick(quick, 3, 20)) * time.Second)
	after, err := measure.CPU(pids)
	used := float64(after-before) / float64(time.Since(begin))
	r.Figures = []bench.Figure{{
		Title: "CPU of an idle pool of 4 and its supervisor", Spread: measure.Spread{Median: used}, Unit: bench.Cores, Limit: 0.005,
	}}
	return r, err
}
