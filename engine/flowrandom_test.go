package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/worker"
)

// stuckAfter is when a run that does not end is taken to be stuck. Nothing
// depends on it but how soon that is told.
const stuckAfter = 2 * time.Minute

// soak reports whether the long tests were asked for.
func soak() bool { return os.Getenv("MILLRACE_SOAK") != "" }

// Whatever steps call, fan out to, forward to, loop through and fail with, on
// real executors: what comes of each run is what the model says, no item is
// lost or doubled, no limit is passed, none waits for ever, cancelled or not, and
// nothing is held in the end.
func TestRandomFlows(t *testing.T) {
	checks := "40"
	if soak() {
		checks = "3000"
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(checks); err != nil {
			t.Fatal(err)
		}
		defer f.Value.Set(f.DefValue)
	}
	path := filepath.Join(t.TempDir(), "tally")
	t.Setenv(tallyVariable, path)
	counts, mapping, err := openTally(path)
	if err != nil {
		t.Fatal(err)
	}
	defer mapping.Unmap()
	// Executors are kept from one world to the next. A step that is cancelled
	// must have time to say that it works no longer.
	engines := make(map[int]*Engine)
	for slots, memory := range map[int]uint64{1: 0, 2: 200_000, 3: 0} {
		engines[slots] = newEngine(t, Options{MaxExecutors: slots, Memory: memory, GracePeriod: time.Minute})
	}
	number := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := drawFlowWorld(rt, []int{1, 2, 3})
		number++
		name := fmt.Sprintf("world-%d", number)
		text, err := w.text(name)
		if err != nil {
			rt.Fatal(err)
		}
		e := engines[w.Slots]
		if err := w.play(t.Context(), e, flow(t, text), counts); err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if err := w.checkFigures(e, name, counts); err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
	})
}

// play runs the world's runs at once and compares each with the model.
func (w *flowWorld) play(ctx context.Context, e *Engine, p *plan.Plan, counts *tally) error {
	*counts = tally{}
	errs := make([]error, len(w.Runs))
	var expected [maxFlowSteps]int64
	exact := true
	var runs sync.WaitGroup
	for i, r := range w.Runs {
		m := &flowModel{steps: w.Steps, exact: r.cancelAt == 0}
		leaves, status := m.branch(r.start, flowToken{Fuel: r.fuel}, worker.Leaf)
		exact = exact && m.exact
		for step, n := range m.counts {
			expected[step] += n
		}
		runs.Go(func() {
			if err := playRun(ctx, e, p, i, r, leaves, status); err != nil {
				errs[i] = fmt.Errorf("run %d of %+v: %w", i, r, err)
			}
		})
	}
	runs.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for step := range w.Steps {
		if n := counts.started[step].Load(); n > expected[step] || exact && n < expected[step] {
			return fmt.Errorf("step %s was executed %d times, want %d (exactly: %v)", stepID(step), n, expected[step], exact)
		}
	}
	return nil
}

// playRun runs one run and compares it with what the model says.
func playRun(ctx context.Context, e *Engine, p *plan.Plan, index int, fr flowRun, leaves []flowToken, status Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var started atomic.Int64
	input := fmt.Sprintf(`{"run":%d,"fuel":%d,"acc":0}`, index, fr.fuel)
	r, err := e.Submit(ctx, p, FromBytes([]byte(input)), RunOptions{Start: stepID(fr.start), Observe: func(ev Event) {
		if ev.Type == EventStepStart && started.Add(1) == int64(fr.cancelAt) {
			cancel()
		}
	}})
	if err != nil {
		return err
	}
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), stuckAfter)
	defer stop()
	res, err := r.Wait(patience)
	if err != nil {
		return fmt.Errorf("it does not end: %+v, %+v", e.Host(), e.Stages())
	}
	var document bytes.Buffer
	err = res.WriteDocument(&document)
	left := r.heldBesides(res)
	switch err := errors.Join(err, r.Close()); {
	case err != nil:
		return err
	case left > 0:
		return fmt.Errorf("%d bytes are held beside the leaves' states", left)
	case res.Status == StatusCancel && fr.cancelAt > 0:
		return nil
	case res.Status != status:
		return fmt.Errorf("it ended %s (%v), want %s", res.Status, res.Err, status)
	case status == StatusCrash:
		return nil // other branches were stopped somewhere
	}
	got, err := valueOf(document.Bytes())
	var want uint32
	for _, l := range leaves {
		want = (want + l.value()) & accMask
	}
	if err != nil || got != want || len(res.Leaves) != len(leaves) {
		return fmt.Errorf("it ended at %d leaves with the value %d (%v), want %d and %d", len(res.Leaves), got, err, len(leaves), want)
	}
	return nil
}

// heldBesides returns how many bytes a run that has ended holds for anything but
// its leaves. It gives these up: the result can only be closed afterwards.
func (r *Run) heldBesides(res *Result) uint64 {
	for _, l := range res.Leaves {
		r.account.Release(l.State)
	}
	left, _, _ := r.account.Bytes()
	if left == uint64(len("{}")) { // of steps without a state or a configuration, see Run.empty
		return 0
	}
	return left
}

// valueOf is actor.value for a run's final document.
func valueOf(document []byte) (uint32, error) {
	type leaf struct {
		Acc  *uint32
		Blob string
	}
	var one leaf
	if err := json.Unmarshal(document, &one); err != nil {
		return 0, err
	}
	all := map[string]leaf{"": one}
	if one.Acc == nil {
		all = nil
		if err := json.Unmarshal(document, &all); err != nil {
			return 0, err
		}
	}
	var sum uint32
	for _, l := range all {
		if l.Acc == nil || l.Blob != blob(len(l.Blob)) {
			return 0, errors.New("a leaf is not a step's state")
		}
		sum = (sum + flowToken{Acc: *l.Acc, Blob: len(l.Blob)}.value()) & accMask
	}
	return sum, nil
}

// checkFigures checks that nobody is at work, nothing is held, and no limit was
// passed, by what the steps counted and by what the engine says.
func (w *flowWorld) checkFigures(e *Engine, name string, counts *tally) error {
	working := counts.host.Load()
	for i := range counts.steps {
		working += counts.steps[i].Load()
	}
	switch h := e.Host(); {
	case counts.exceeded.Load() > 0:
		return fmt.Errorf("steps found a limit exceeded %d times", counts.exceeded.Load())
	case counts.corrupted.Load() > 0:
		return fmt.Errorf("steps found %d values wrong, lost or doubled", counts.corrupted.Load())
	case working != 0:
		return fmt.Errorf("%d executions never ended", working)
	case h.StateBytes != 0 || h.Runs != 0 || h.Demand.Running+h.Demand.Blocked+h.Demand.Waiting != 0 || h.Demand.Reserved != 0:
		return fmt.Errorf("left: %+v", h)
	case h.Demand.Peak > w.Slots:
		return fmt.Errorf("%d steps were at work at once, the limit is %d", h.Demand.Peak, w.Slots)
	}
	for _, s := range e.Stages() {
		if s.Workflow != name {
			continue
		}
		over := s.Limit > 0 && (s.Peak > s.Limit || !s.Lends && s.PeakHeld > s.Limit)
		if over || s.Running+s.Blocked+s.Waiting != 0 {
			return fmt.Errorf("stage %s: %+v", s.Step, s.StageFigures)
		}
	}
	return nil
}
