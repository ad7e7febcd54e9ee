package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/worker"
)

func init() {
	maps.Copy(testFunctions, worker.Functions{
		// gather calls configuration.step for each of items until all of them have
		// come back, however often one's executor dies, and sums.
		"gather": func(ctx context.Context, s *worker.State) error {
			c, err := configOf(s)
			if err != nil {
				return err
			}
			items, err := worker.Get[[]json.RawMessage](s, "items")
			if err != nil {
				return err
			}
			sum := 0
			for len(items) > 0 {
				var again []json.RawMessage
				for reply, err := range worker.Each(ctx, s, c.Step, slices.Values(items), worker.EachOptions{Key: "items", Concurrency: 3, Collect: true}) {
					var failed *worker.CallError
					switch {
					case errors.As(err, &failed) && failed.Severity == "crash" && reply != nil:
						again = append(again, items[reply.Index()])
						continue
					case err != nil:
						return err
					}
					n, err := worker.Get[int](reply.State(), "sum")
					if err != nil {
						return err
					}
					sum += n
				}
				items = again
			}
			return s.Set("sum", sum)
		},
		// weigh makes items, one number, its sum.
		"weigh": func(_ context.Context, s *worker.State) error {
			n, err := worker.Get[int](s, "items")
			if err != nil {
				return err
			}
			time.Sleep(time.Duration(n%4) * time.Millisecond) // for kills to come during it
			return s.Set("sum", n)
		},
		// callAs logs its process' id and calls as call does.
		"callAs": func(ctx context.Context, s *worker.State) error {
			c, err := configOf(s)
			if err != nil {
				return err
			}
			worker.Logger(ctx).Info("here", "pid", os.Getpid())
			return callOnce(ctx, s, c)
		},
		"sleepAs": func(ctx context.Context, s *worker.State) error {
			worker.Logger(ctx).Info("here", "pid", os.Getpid())
			return testFunctions["sleep"](ctx, s)
		},
	})
}

const gatherFlow = `
steps:
  - id: outer
    concurrency: 2
    retry: {attempts: 50, backoff: 1ms}
    configuration: {step: inner}
    @gather
  - id: inner
    concurrency: 3
    configuration: {step: leaf}
    @gather
  - id: leaf
    @weigh
`

// gatherInput returns items for gatherFlow, and their sum.
func gatherInput() (string, int) {
	items, sum := make([][]int, 6), 0
	for i := range items {
		for j := range 5 {
			items[i] = append(items[i], 10*i+j)
			sum += 10*i + j
		}
	}
	b, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		panic(err) // numbers always encode
	}
	return string(b), sum
}

// Callers and callees are killed in the middle of calls. Those who call again
// get every item once; no run is stuck, and nothing is left.
func TestKillInCalls(t *testing.T) {
	runs := 2
	if soak() {
		runs = 150
	}
	e := newEngine(t, Options{MaxExecutors: 4})
	p := flow(t, gatherFlow)
	input, want := gatherInput()
	// Kills are paced by the steps that start, so that there is progress between
	// them however slow the machine is.
	var starts, killed atomic.Int64
	kill := make(chan struct{}, 1)
	var killer sync.WaitGroup
	killer.Go(func() {
		for range kill {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			if pids := e.ExecutorPIDs(); len(pids) > 0 && unix.Kill(pids[rand.IntN(len(pids))], unix.SIGKILL) == nil {
				killed.Add(1)
			}
		}
	})
	observe := func(ev Event) {
		if ev.Type == EventStepStart && starts.Add(1)%12 == 0 {
			select {
			case kill <- struct{}{}:
			default:
			}
		}
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for range runs {
				got := run(t, e, p, input, RunOptions{Observe: observe})
				if got.Status != StatusSuccess || !strings.HasSuffix(got.document, fmt.Sprintf(`"sum":%d}`, want)) {
					t.Errorf("it ended %s (%v) with %s, want a sum of %d", got.Status, got.Err, got.document, want)
				}
			}
		})
	}
	group.Wait()
	close(kill)
	killer.Wait()
	t.Logf("%d runs, %d steps started, %d executors killed", 3*runs, starts.Load(), killed.Load())
	if killed.Load() == 0 {
		t.Error("none was killed")
	}
	if h := e.Host(); h.StateBytes != 0 || h.Demand.Running+h.Demand.Blocked+h.Demand.Waiting != 0 {
		t.Errorf("left: %+v", h)
	}
}

// What a kill of one end of a call does to the other.
func TestKillOneEndOfACall(t *testing.T) {
	for _, c := range []struct {
		victim, key string
		status      Status
		words       string // of the run's error, or its document
	}{
		{"caller", "", StatusCrash, `step "caller": ExitError`},
		{"callee", "", StatusCrash, `step "caller": ExitError`}, // the callee's error is the caller's
		{"callee", "why", StatusSuccess, `crash/ExitError`},
	} {
		t.Run(c.victim+" "+c.key, func(t *testing.T) {
			e := newEngine(t, Options{MaxExecutors: 1})
			p := flow(t, fmt.Sprintf(`
steps:
  - id: caller
    configuration: {step: callee, key: %q}
    @callAs
  - id: callee
    @sleepAs
`, c.key))
			pids := make(map[string]int) // observers are called one at a time
			got := run(t, e, p, `{"payload":"here"}`, RunOptions{Observe: func(ev Event) {
				if ev.Log == nil || ev.Log.Source == "stderr" {
					return
				}
				var line struct{ PID int }
				if err := json.Unmarshal([]byte(ev.Log.Message), &line); err != nil || line.PID == 0 {
					t.Errorf("log line %s: %v", ev.Log.Message, err)
					return
				}
				pids[ev.Step] = line.PID
				if ev.Step == "callee" {
					if err := unix.Kill(pids[c.victim], unix.SIGKILL); err != nil {
						t.Error(err)
					}
				}
			}})
			if got.Status != c.status || !strings.Contains(fmt.Sprint(got.Err)+got.document, c.words) {
				t.Errorf("it ended %s with %s: %v; want %s, %s", got.Status, got.document, got.Err, c.status, c.words)
			}
			if h := e.Host(); h.StateBytes != 0 || h.Demand.Running+h.Demand.Blocked != 0 {
				t.Errorf("left: %+v", h)
			}
		})
	}
}
