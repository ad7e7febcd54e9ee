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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/engine/ledger"
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
	checkWorlds(t, 40, 3000, func(rt *rapid.T) {
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

// checkWorlds checks a property of so many random worlds, or of more where the
// long tests were asked for.
func checkWorlds(t *testing.T, checks, long int, property func(*rapid.T)) {
	t.Helper()
	if soak() {
		checks = long
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(checks)); err != nil {
			t.Fatal(err)
		}
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, property)
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
	end, err := endOf(ctx, e, r)
	switch {
	case err != nil:
		return err
	case end.Status == StatusCancel && fr.cancelAt > 0:
		return nil
	case end.Status != status:
		return fmt.Errorf("it ended %s (%v), want %s", end.Status, end.Err, status)
	case status == StatusCrash:
		return nil // other branches were stopped somewhere
	}
	got, err := valueOf([]byte(end.document))
	var want uint32
	for _, l := range leaves {
		want = (want + l.value()) & accMask
	}
	if err != nil || got != want || len(end.Leaves) != len(leaves) {
		return fmt.Errorf("it ended at %d leaves with the value %d (%v), want %d and %d", len(end.Leaves), got, err, len(leaves), want)
	}
	return nil
}

// endOf waits for a run's end and closes it. It fails if the run is stuck, or
// still holds more than its leaves.
func endOf(ctx context.Context, e *Engine, r *Run) (outcome, error) {
	patience, stop := context.WithTimeout(context.WithoutCancel(ctx), stuckAfter)
	defer stop()
	res, err := r.Wait(patience)
	if err != nil {
		return outcome{}, fmt.Errorf("it does not end: %+v, %+v", e.Host(), e.Stages())
	}
	var document bytes.Buffer
	err = res.WriteDocument(&document)
	left := r.heldBesides(res)
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("%d bytes are held beside the leaves' states", left))
	}
	return outcome{Result: res, document: strings.TrimSpace(document.String())}, errors.Join(err, r.Close())
}

// heldBesides returns how many bytes a run that has ended holds for anything but
// its leaves. It gives these up: the result can only be closed afterwards.
func (r *Run) heldBesides(res *Result) uint64 {
	for _, l := range res.Leaves {
		r.account.Release(l.State)
	}
	none, text := uint64(len("{}")), uint64(len(ledger.StreamText)) // see Run.empty and Run.streamText
	for wait := time.Millisecond; ; wait *= 2 {
		left, _, _ := r.account.Bytes()
		switch {
		case left == none || left == text || left == none+text:
			return 0
		case left == 0 || wait > stuckAfter:
			return left
		}
		time.Sleep(wait) // a stream's memory is given back by a goroutine
	}
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
