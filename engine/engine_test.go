package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm/shmtest"
	"github.com/millrace/millrace/worker"
)

// The test binary is its own worker.
const asWorker = "MILLRACE_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		if len(os.Args) > 1 && os.Args[1] == "rogue" {
			runRogue()
		}
		worker.Main(testFunctions)
	}
	if err := os.Setenv(asWorker, "1"); err != nil { // for the executors to inherit
		panic(err)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreTopFunction("github.com/millrace/millrace/engine/pool.forkThread")); err != nil {
			fmt.Println(err)
			code = 1
		}
		for _, leak := range leaks() {
			fmt.Println("left open:", leak)
			code = 1
		}
	}
	os.Exit(code)
}

// leaks returns the sockets, and the memfds and mappings of segments, that this
// process still has.
func leaks() []string {
	found := shmtest.Leftovers("")
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			found = append(found, target)
		}
	}
	return found
}

var testFunctions = worker.Functions{
	// add sets the key named by configuration.key to configuration.value.
	"add": func(_ context.Context, s *worker.State) error {
		c, err := worker.Get[struct {
			Key   string          `json:"key"`
			Value json.RawMessage `json:"value"`
		}](s, "configuration")
		if err != nil {
			return err
		}
		return s.Set(c.Key, c.Value)
	},
	"count": func(_ context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		return s.Set("n", n+1)
	},
	"nothing": func(context.Context, *worker.State) error { return nil },
	"private": func(_ context.Context, s *worker.State) error {
		return errors.Join(s.Set("_secret", 1), s.Set("response", 2), s.Set("kept", 3))
	},
	"fail": func(context.Context, *worker.State) error { return errors.New("no such patient") },
	"flaky": func(ctx context.Context, s *worker.State) error {
		if worker.Info(ctx).Attempt < 3 {
			return errors.New("not yet")
		}
		return s.Set("attempt", worker.Info(ctx).Attempt)
	},
	"exit":  func(context.Context, *worker.State) error { os.Exit(7); return nil },
	"panic": func(context.Context, *worker.State) error { panic("oops") },
	"sleep": func(ctx context.Context, _ *worker.State) error {
		select {
		case <-time.After(time.Minute):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	},
	// await waits until there is a file configuration.path.
	"await": func(ctx context.Context, s *worker.State) error {
		c, err := worker.Get[struct{ Path string }](s, "configuration")
		if err != nil {
			return err
		}
		return awaitFile(ctx, c.Path)
	},
	"nap": func(context.Context, *worker.State) error { time.Sleep(30 * time.Millisecond); return nil },
	"log": func(ctx context.Context, _ *worker.State) error {
		worker.Logger(ctx).Warn("look here", "n", 1)
		return nil
	},
	// grow sets data to an array of configuration.size bytes.
	"grow": func(_ context.Context, s *worker.State) error {
		c, err := worker.Get[struct{ Size int }](s, "configuration")
		if err != nil {
			return err
		}
		return s.Set("data", strings.Repeat("x", c.Size))
	},
	"rewrite": func(_ context.Context, s *worker.State) error {
		raw, err := s.Raw("data")
		if err != nil {
			return err
		}
		return s.SetRaw("data", worker.JSON, raw)
	},
	"reveal": func(_ context.Context, s *worker.State) error {
		c, err := worker.Get[json.RawMessage](s, "configuration")
		if err != nil {
			return err
		}
		return s.Set("revealed", c)
	},
	// whole makes the state a document that is no object.
	"whole": func(_ context.Context, s *worker.State) error { return s.SetValue([]int{1, 2, 3}) },
}

func awaitFile(ctx context.Context, path string) error {
	for {
		if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newEngine(t testing.TB, o Options) *Engine {
	t.Helper()
	if o.GracePeriod == 0 {
		o.GracePeriod = 200 * time.Millisecond
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if h := e.Host(); h.StateBytes != 0 || h.Segments != 0 || h.Executors != 0 {
			t.Errorf("left behind: %+v", h)
		}
	})
	return e
}

// flow parses a workflow in which "@name" stands for a function of this binary.
func flow(t testing.TB, text string) *plan.Plan {
	t.Helper()
	p, err := parseFlow(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parseFlow(text string) (*plan.Plan, error) {
	var lines []string
	for line := range strings.Lines(text) {
		if at := strings.Index(line, "@"); at >= 0 {
			name := strings.TrimSpace(line[at+1:])
			line = line[:at] + "worker: [/proc/self/exe]\n" + strings.Repeat(" ", at) + "function: " + name + "\n"
		}
		lines = append(lines, line)
	}
	return plan.Parse("test.yaml", []byte(strings.Join(lines, "")), "", PlanOptions())
}

type outcome struct {
	*Result
	document string
	stats    Stats
}

func run(t testing.TB, e *Engine, p *plan.Plan, input string, o RunOptions) outcome {
	t.Helper()
	r, err := e.Submit(t.Context(), p, FromBytes([]byte(input)), o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var doc bytes.Buffer
	if err := res.WriteDocument(&doc); err != nil {
		t.Fatal(err)
	}
	out := outcome{Result: res, document: strings.TrimSpace(doc.String()), stats: r.Stats()}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return out
}

func TestRuns(t *testing.T) {
	for _, c := range []struct {
		name, flow, input, want string
		status                  Status
	}{
		{"one step", `
steps:
  - id: a
    @add
    configuration: {key: x, value: 1}
`, `{"data":[1]}`, `{"data":[1],"x":1}`, StatusSuccess},
		{"a chain", `
steps:
  - id: a
    @add
    configuration: {key: x, value: 1}
    next: b
  - id: b
    @add
    configuration: {key: y, value: {z: [2]}}
`, `{}`, `{"x":1,"y":{"z":[2]}}`, StatusSuccess},
		{"private and dropped keys", `
steps:
  - id: a
    @private
`, `{"configuration":{"password":"p"}}`, `{"kept":3}`, StatusSuccess},
		{"a state that is no object", `
steps:
  - id: a
    @whole
    next: b
  - id: b
    @nothing
`, `{"x":1}`, `[1,2,3]`, StatusSuccess},
		{"conditions", `
steps:
  - id: a
    @nothing
    next:
      few: state.data.length < 3
      many: state.data.length >= 3
  - id: few
    @add
    configuration: {key: size, value: few}
  - id: many
    @add
    configuration: {key: size, value: many}
`, `{"data":[1,2,3,4]}`, `{"data":[1,2,3,4],"size":"many"}`, StatusSuccess},
		{"several leaves", `
steps:
  - id: a
    @nothing
    next: {b: true, c: true}
  - id: b
    @add
    configuration: {key: x, value: b}
  - id: c
    @add
    configuration: {key: x, value: c}
`, `{"k":0}`, `{"b":{"k":0,"x":"b"},"c":{"k":0,"x":"c"}}`, StatusSuccess},
		{"a step reached twice", `
steps:
  - id: a
    @nothing
    next: {b: true, c: true}
  - id: b
    @nothing
    next: d
  - id: c
    @nothing
    next: d
  - id: d
    @nothing
`, `{"k":0}`, `{"d":{"k":0},"d-1":{"k":0}}`, StatusSuccess},
		{"a step without work", `
steps:
  - id: trigger
    next: a
  - id: a
    @nothing
`, `{"k":0}`, `{"k":0}`, StatusSuccess},
		{"defaults below the state", `
steps:
  - id: a
    state: {data: {a: 1, b: 1}, extra: true}
    @nothing
`, `{"data":{"b":2,"c":2}}`, `{"data":{"a":1,"b":2,"c":2},"extra":true}`, StatusSuccess},
		{"a failure is recorded and its edge taken", `
steps:
  - id: a
    @fail
    next:
      b: on_job_success
      c: on_job_failure
  - id: b
    @add
    configuration: {key: path, value: b}
  - id: c
    @add
    configuration: {key: path, value: c}
`, `{"k":0}`, `{"k":0,"errors":{"a":{"source":"runtime","name":"JobError","severity":"fail","message":"no such patient"}},"path":"c"}`, StatusSuccess},
		{"a failure at a leaf", `
steps:
  - id: a
    @fail
`, `{"errors":{"z":{"message":"old"}}}`, `{"errors":{"z":{"message":"old"},"a":{"source":"runtime","name":"JobError","severity":"fail","message":"no such patient"}}}`, StatusFail},
		{"a retry that helps", `
steps:
  - id: a
    @flaky
    retry: {attempts: 3, backoff: 1ms}
`, `{}`, `{"attempt":3}`, StatusSuccess},
		{"a credential", `
credentials: {a: 1, b: 1}
steps:
  - id: a
    configuration: secret
    @reveal
`, `{"configuration":{"b":2}}`, `{"revealed":{"a":1,"b":2,"key":"K"}}`, StatusSuccess},
		{"an end before the leaf", `
options: {end: a}
steps:
  - id: a
    @nothing
    next: b
  - id: b
    @fail
`, `{"k":0}`, `{"k":0}`, StatusSuccess},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, Options{})
			got := run(t, e, flow(t, c.flow), c.input, RunOptions{Credential: func(id string) (json.RawMessage, error) {
				if id != "secret" {
					return nil, errors.New("unknown")
				}
				return json.RawMessage(`{"key":"K"}`), nil
			}})
			if got.Status != c.status {
				t.Errorf("status %s (%v), want %s", got.Status, got.Err, c.status)
			}
			if got.document != c.want {
				t.Errorf("final state\n  %s\nwant\n  %s", got.document, c.want)
			}
			if got.stats.SupervisorDecodes != 0 || got.stats.SupervisorEncodes != 0 {
				t.Errorf("the supervisor decoded %d and encoded %d values", got.stats.SupervisorDecodes, got.stats.SupervisorEncodes)
			}
		})
	}
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name, flow   string
		status       Status
		class, words string
	}{
		{"exit", "steps:\n  - id: a\n    @exit\n", StatusCrash, "ExitError", "exited with code: 7"},
		{"panic", "steps:\n  - id: a\n    @panic\n", StatusFail, "RuntimeError", "oops"},
		{"step timeout", "steps:\n  - id: a\n    timeout: 50ms\n    @sleep\n", StatusKill, "TimeoutError", "50ms"},
		{"run timeout", "options: {timeout: 50ms}\nsteps:\n  - id: a\n    @sleep\n", StatusKill, "TimeoutError", "50ms"},
		{"budget", "options: {memory: 1MB}\nsteps:\n  - id: a\n    configuration: {Size: 10000000}\n    @grow\n", StatusKill, "StateTooLargeError", "1000000"},
		{"unknown function", "steps:\n  - id: a\n    @nosuch\n", StatusCrash, "", "nosuch"},
		{"no credentials", "steps:\n  - id: a\n    configuration: id-1\n    @nothing\n", StatusException, "CredentialLoadError", "id-1"},
		{"unknown worker", "steps:\n  - id: a\n    worker: /no/such/worker\n    function: f\n", StatusException, "ExecutorStartError", "/no/such/worker"},
		{"condition that throws", "steps:\n  - id: a\n    next: {b: state.x.y.z}\n    @nothing\n  - id: b\n    @nothing\n", StatusCrash, "EdgeConditionError", "state.x.y.z"},
		{"condition that never ends", "steps:\n  - id: a\n    next: {b: '(() => { for (;;); })()'}\n    @nothing\n  - id: b\n    @nothing\n", StatusCrash, "EdgeConditionError", "for (;;)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, Options{ConditionTimeout: 100 * time.Millisecond})
			got := run(t, e, flow(t, c.flow), `{}`, RunOptions{})
			var step *StepError
			if got.Status != c.status || !errors.As(got.Err, &step) || !strings.Contains(step.Error(), c.words) || (c.class != "" && step.Name != c.class) {
				t.Fatalf("ended %s with %v; want %s, %s, %q", got.Status, got.Err, c.status, c.class, c.words)
			}
		})
	}
}

func TestInputErrors(t *testing.T) {
	e := newEngine(t, Options{})
	p := flow(t, "steps:\n  - id: a\n    @nothing\n")
	for input, words := range map[string]string{
		"":                 "empty",
		"{":                "",
		`{"a":1} x`:        "",
		"{\"a\":\"\xff\"}": "UTF-8",
	} {
		r, err := e.Submit(t.Context(), p, FromBytes([]byte(input)), RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if res.Status != StatusException || !strings.Contains(strings.ToLower(res.Err.Error()), strings.ToLower(words)) {
			t.Errorf("%q: %s, %v", input, res.Status, res.Err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHandoverIsByReference(t *testing.T) {
	e := newEngine(t, Options{})
	p := flow(t, `
steps:
  - id: a
    @grow
    configuration: {Size: 5000000}
    next: b
  - id: b
    @add
    configuration: {key: small, value: 1}
`)
	got := run(t, e, p, `{}`, RunOptions{})
	if got.Status != StatusSuccess {
		t.Fatal(got.Err)
	}
	b := got.stats.Steps[1]
	if b.ReusedBytes != 5000002 || b.DecodedBytes > 100 {
		t.Errorf("step b passed on %d bytes and decoded %d, want 5000002 and next to nothing", b.ReusedBytes, b.DecodedBytes)
	}
	if got.stats.ControlBytes > 20_000 {
		t.Errorf("%d bytes crossed the control channel for a state of 5 MB", got.stats.ControlBytes)
	}
}

func TestEventsAreInOrder(t *testing.T) {
	e := newEngine(t, Options{})
	var got []string
	run(t, e, flow(t, "steps:\n  - id: a\n    @log\n    next: b\n  - id: b\n    @nothing\n"), `{}`, RunOptions{Observe: func(ev Event) {
		name := string(ev.Type) + " " + ev.Step
		if ev.Log != nil {
			name += " " + ev.Log.Level + " " + ev.Log.Message
		}
		got = append(got, name)
	}})
	want := []string{"run:start ", "step:start a", `log a warn {"msg":"look here","n":1}`, "step:complete a", "edge a", "step:start b", "step:complete b", "run:complete "}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCancel(t *testing.T) {
	e := newEngine(t, Options{})
	started := make(chan struct{})
	var once sync.Once
	r, err := e.Submit(t.Context(), flow(t, "steps:\n  - id: a\n    @sleep\n"), EmptyInput(), RunOptions{Observe: func(ev Event) {
		if ev.Type == EventStepStart {
			once.Do(func() { close(started) })
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-started
	r.Cancel()
	res, err := r.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != StatusCancel || !errors.Is(res.Err, ErrCancelled) {
		t.Errorf("ended %s with %v", res.Status, res.Err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A crash stops the other branches, unless the run is to keep going: then they
// come to their end after it.
func TestKeepGoing(t *testing.T) {
	for keep, leaves := range map[bool]int{false: 0, true: 1} {
		crashed := filepath.Join(t.TempDir(), "crashed")
		p := flow(t, `
steps:
  - id: a
    next: {bad: true, slow: true}
  - id: bad
    @exit
  - id: slow
    configuration: {path: `+crashed+`}
    @await
`)
		got := run(t, newEngine(t, Options{}), p, `{}`, RunOptions{KeepGoing: keep, Observe: func(ev Event) {
			if keep && ev.Type == EventStepComplete && ev.Step == "bad" {
				if err := os.WriteFile(crashed, nil, 0o600); err != nil {
					t.Error(err)
				}
			}
		}})
		if got.Status != StatusCrash || len(got.Leaves) != leaves {
			t.Errorf("keep going %v: %s with %d leaves, want %d", keep, got.Status, len(got.Leaves), leaves)
		}
	}
}

// A step's concurrency holds across runs.
func TestConcurrencyLimit(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 8})
	p := flow(t, "steps:\n  - id: a\n    concurrency: 2\n    @nap\n")
	var mu sync.Mutex
	now, most := 0, 0
	observe := func(ev Event) {
		mu.Lock()
		defer mu.Unlock()
		switch ev.Type {
		case EventStepStart:
			now++
			most = max(most, now)
		case EventStepComplete:
			now--
		}
	}
	var runs []*Run
	for range 8 {
		r, err := e.Submit(t.Context(), p, EmptyInput(), RunOptions{Observe: observe})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	for _, r := range runs {
		if _, err := r.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if most > 3 { // a slot is free a moment before its completion is told
		t.Errorf("%d at once, the limit is 2", most)
	}
	stages := e.Stages()
	if len(stages) != 1 {
		t.Fatalf("%+v", stages)
	}
	if s := stages[0]; s.Step != "a" || s.Limit != 2 || s.Peak != 2 || s.Admitted != 8 || s.Running+s.Waiting != 0 || s.Saturated*2 < s.Busy {
		t.Errorf("%+v", s)
	}
}

// A host over its memory budget holds steps back and still finishes.
func TestHostMemoryIsBackPressure(t *testing.T) {
	e := newEngine(t, Options{Memory: 1 << 20, MaxExecutors: 4})
	p := flow(t, "steps:\n  - id: a\n    @grow\n    configuration: {Size: 2000000}\n    next: b\n  - id: b\n    @nothing\n")
	var runs sync.WaitGroup
	for range 6 {
		runs.Go(func() {
			if got := run(t, e, p, `{}`, RunOptions{}); got.Status != StatusSuccess {
				t.Error(got.Err)
			}
		})
	}
	runs.Wait()
}

// Steps that say what they publish never take the host over its budget, but for
// those that are let in because nothing has gone on for a while.
func TestReservedMemoryIsKeptFree(t *testing.T) {
	const budget = 5 << 20
	e := newEngine(t, Options{Memory: budget, MaxExecutors: 6})
	p := flow(t, "steps:\n  - id: a\n    reserve: 2MB\n    @grow\n    configuration: {Size: 1900000}\n    next: b\n  - id: b\n    @nap\n")
	var most atomic.Uint64
	var runs sync.WaitGroup
	for range 12 {
		runs.Go(func() {
			got := run(t, e, p, `{}`, RunOptions{Observe: func(Event) {
				for now, before := e.Host().StateBytes, most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
				}
			}})
			if got.Status != StatusSuccess {
				t.Error(got.Err)
			}
		})
	}
	runs.Wait()
	h := e.Host()
	if forced := h.Demand.Forced * 2_000_000; most.Load() > budget+forced || forced == 0 && most.Load() < budget/2 {
		t.Errorf("at most %d bytes were held, the budget is %d: %+v", most.Load(), budget, h.Demand)
	}
}

func TestSubmitAfterClose(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Submit(t.Context(), flow(t, "steps:\n  - id: a\n    @nothing\n"), EmptyInput(), RunOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// Executors are killed at random instants while runs go on: each run ends, with
// success or a clear error, the others are not harmed, and nothing is left.
func TestKillAtRandom(t *testing.T) {
	runs := 500
	switch {
	case os.Getenv("MILLRACE_SOAK") != "":
		runs = 5000
	case testing.Short():
		runs = 50
	}
	e := newEngine(t, Options{MaxExecutors: 4})
	p := flow(t, `
steps:
  - id: a
    @grow
    configuration: {Size: 400000}
    next: b
  - id: b
    @rewrite
    next: c
  - id: c
    @nap
    next: d
  - id: d
    @rewrite
`)
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killed := 0
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(40)) * time.Millisecond):
			}
			if pids := e.ExecutorPIDs(); len(pids) > 0 {
				if unix.Kill(pids[rand.IntN(len(pids))], unix.SIGKILL) == nil {
					killed++
				}
			}
		}
	})
	counts := make(map[Status]int)
	var mu sync.Mutex
	var active sync.WaitGroup
	next := make(chan int)
	for range 4 {
		active.Go(func() {
			for range next {
				r, err := e.Submit(t.Context(), p, EmptyInput(), RunOptions{})
				if err != nil {
					t.Error(err)
					continue
				}
				res, err := r.Wait(t.Context())
				if err != nil {
					t.Error(err)
					continue
				}
				var step *StepError
				switch {
				case res.Status == StatusSuccess:
					if len(res.Leaves) != 1 || res.Leaves[0].State.Size() != 400002 {
						t.Errorf("a run succeeded with a state of %d bytes", res.Leaves[0].State.Size())
					}
				case !errors.As(res.Err, &step) || step.Step == "" || !(strings.Contains(step.Message, "died") || strings.Contains(step.Message, "ended") || strings.Contains(step.Message, "killed")):
					t.Errorf("unclear: %s, %v", res.Status, res.Err)
				}
				mu.Lock()
				counts[res.Status]++
				mu.Unlock()
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range runs {
		next <- i
	}
	close(next)
	active.Wait()
	close(stop)
	killer.Wait()
	t.Logf("%d runs: %v; %d executors killed", runs, counts, killed)
	if counts[StatusSuccess] == 0 || killed == 0 {
		t.Errorf("nothing was tested: %v, %d killed", counts, killed)
	}
}

// What leaves the host is checked: a step that publishes bytes which are not
// one JSON value cannot forge what is around them.
func TestForgedValueDoesNotLeave(t *testing.T) {
	e := newEngine(t, Options{})
	r, err := e.Submit(t.Context(), flow(t, "steps:\n  - id: a\n"), func(s document.Store) (ipc.Table, error) {
		row, err := s.WriteJSON([]byte(`1},"forged":{"x":1`))
		row.Key = "k"
		return ipc.Table{Kind: 1, Rows: []ipc.Row{row}}, err
	}, RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	res, err := r.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = res.WriteDocument(&out)
	var bad *document.ValueError
	if !errors.As(err, &bad) || bad.Key != "k" {
		t.Fatalf("got %v, wrote %s", err, out.String())
	}
}

func BenchmarkSmallSteps(b *testing.B) {
	const steps = 100
	var text strings.Builder
	text.WriteString("steps:\n")
	for i := range steps {
		fmt.Fprintf(&text, "  - id: s%d\n    @nothing\n", i)
		if i+1 < steps {
			text.WriteString("    next: s" + strconv.Itoa(i+1) + "\n")
		}
	}
	e := newEngine(b, Options{})
	p := flow(b, text.String())
	run(b, e, p, `{"x":1}`, RunOptions{})
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		run(b, e, p, `{"x":1}`, RunOptions{})
	}
	b.ReportMetric(float64(b.N*steps)/b.Elapsed().Seconds(), "steps/s")
}
