package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
)

// RunOptions are the settings of one run.
type RunOptions struct {
	// ID names the run. Default: a random one.
	ID string
	// Tenant is whose run it is: executors are never shared between tenants.
	Tenant string
	// Start is the step to start at, instead of the plan's own.
	Start string
	// KeepGoing lets the other branches of a run finish when a step crashes or
	// is killed; without it they are cancelled.
	KeepGoing bool
	// Credential returns the configuration that a credential's id stands for, a
	// JSON object. Without it, a step that names a credential fails.
	Credential func(id string) (json.RawMessage, error)
	// Scrub returns a text without what must not be told, such as the values of
	// credentials. Messages and details of the steps' errors go through it before
	// they are recorded or reported. It is called from several goroutines.
	Scrub func(string) string
	// Observe is called for each event of the run, one at a time, in order. It
	// holds up the branch it is told about; but an executor may have begun the
	// step that follows, whose events then come later.
	Observe func(Event)
}

// Run is one execution of a plan.
type Run struct {
	// ID is the run's name.
	ID string

	engine  *Engine
	program *program
	options RunOptions
	account *ledger.Account
	store   document.Store
	streams streams
	// The values {} and "[stream]", held until the run is closed.
	empty, streamText func() (ipc.Row, error)
	demand            *demand.Run

	ctx     context.Context
	cancel  context.CancelCauseFunc
	detach  func() bool // from the engine's context
	done    chan struct{}
	observe sync.Mutex
	root    scope

	executions  atomic.Int64 // of steps, begun so far
	reports     reports
	decodes     atomic.Uint64
	scalars     atomic.Uint64
	inputBytes  uint64
	controlBase uint64
	startedAt   time.Time
	startedMono uint64
	duration    time.Duration
	closeOnce   sync.Once
	closeErr    error
}

// Leaf is a state at the end of a branch.
type Leaf struct {
	// Step is the id of the step that ended the branch.
	Step string
	// State is held by the run until it is closed.
	State ipc.Table
	// Execution is the number of the step's last execution in the branch, as in
	// Event; 0 when none ran, so that the state is the run's input.
	Execution int
	// Streams are the keys of State that show as "[stream]": they stood for
	// items that nobody kept, and with them the state is no input for a run.
	Streams []string
	order   int // the step's place in the plan
}

func (e *Engine) newRun(ctx context.Context, pr *program, options RunOptions) (*Run, error) {
	if options.ID == "" {
		options.ID = newRunID()
	}
	if options.Start != "" && pr.plan.Step(options.Start) == nil {
		return nil, fmt.Errorf("run %s: no step %q to start at", options.ID, options.Start)
	}
	budget := e.options.RunMemory
	if m := pr.plan.Options.Memory; m > 0 {
		budget = uint64(m)
	}
	r := &Run{
		ID: options.ID, engine: e, program: pr, options: options,
		account:   e.ledger.Open(options.ID, budget),
		done:      make(chan struct{}),
		startedAt: time.Now(), startedMono: monotonic(),
		controlBase: e.pool.ControlBytes(),
	}
	r.root = scope{run: r, until: ipc.UntilLeaf, keepGoing: options.KeepGoing}
	r.store = document.Store{Ledger: e.ledger, Account: r.account}
	r.empty = sync.OnceValues(func() (ipc.Row, error) { return r.store.WriteJSON([]byte("{}")) })
	r.streamText = sync.OnceValues(func() (ipc.Row, error) { return r.store.WriteJSON([]byte(ledger.StreamText)) })
	r.demand = e.demand.NewRun(pr.plan.Options.Concurrency)
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.detach = context.AfterFunc(e.ctx, func() { r.cancel(context.Cause(e.ctx)) })
	return r, nil
}

// Cancel ends the run soon. Its steps are asked to stop and then made to.
func (r *Run) Cancel() { r.cancel(ErrCancelled) }

// Done is closed when the run has ended.
func (r *Run) Done() <-chan struct{} { return r.done }

// run does all of it; it returns when every branch has ended.
func (r *Run) run(input Input) {
	ctx := r.ctx
	if limit := r.program.plan.Options.Timeout; limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, limit, &RunTimeoutError{Run: r.ID, Limit: limit})
		defer stop()
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.root.stop = stop
	r.emit(Event{Type: EventRunStart})
	if err := r.start(ctx, input); err != nil {
		r.root.end(&StepError{Run: r.ID, Status: StatusException, Name: "InputError", Message: err.Error(), Err: err})
	}
	r.root.branches.Wait()
	r.duration = time.Since(r.startedAt)
	r.detach()
	r.cancel(nil)
	e := Event{Type: EventRunComplete}
	if _, err := r.root.outcome(); err != nil {
		e.Err = err
	}
	r.emit(e)
}

func (r *Run) start(ctx context.Context, input Input) error {
	state, err := input(r.store)
	if err != nil {
		return err
	}
	if err := r.checkInput(state); err != nil {
		return err
	}
	r.inputBytes = state.Size()
	starts := r.program.plan.Start
	if r.options.Start != "" {
		starts = []string{r.options.Start}
	}
	for range len(starts) - 1 {
		if err := r.account.Retain(state); err != nil {
			return err
		}
	}
	for _, id := range starts {
		b := branch{run: r, scope: &r.root, state: state, lastEnd: r.startedMono}
		at := r.program.plan.Step(id).Index
		r.root.branches.Go(func() { b.walk(ctx, at) })
	}
	return nil
}

func (r *Run) emit(e Event) {
	if r.options.Observe == nil {
		return
	}
	e.Run, e.Time = r.ID, time.Now()
	r.observe.Lock()
	defer r.observe.Unlock()
	r.options.Observe(e)
}

// Wait waits for the run's end, or ctx's. The result is nil only with ctx's
// error; a run that failed has a result as well.
func (r *Run) Wait(ctx context.Context) (*Result, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	res := &Result{run: r, Leaves: r.root.sorted()}
	status, failure := r.root.outcome()
	if res.Status = status; failure != nil {
		res.Err = failure
	}
	return res, nil
}

// Stats returns the run's figures; they are whole once it has ended.
func (r *Run) Stats() Stats {
	_, peak, published := r.account.Bytes()
	host := r.engine.pool.Stats()
	status, _ := r.root.outcome()
	r.reports.mu.Lock()
	defer r.reports.mu.Unlock()
	return Stats{
		Run: r.ID, Status: status, DurationUS: microseconds(r.duration),
		PayloadBytes: published, InputBytes: r.inputBytes, PeakStateBytes: peak,
		ControlBytes:      host.ControlBytes - r.controlBase,
		SupervisorDecodes: r.decodes.Load(),
		ConditionScalars:  r.scalars.Load(),
		PeakRSSBytes:      PeakRSS{Supervisor: ownPeak(), Executors: host.PeakBytes},
		Steps:             slices.Clone(r.reports.steps), StepsOmitted: r.reports.omitted,
	}
}

// Close cancels the run if it has not ended, waits for it, and gives its memory
// back. Results of it must not be used any more.
func (r *Run) Close() error {
	r.closeOnce.Do(func() {
		r.Cancel()
		<-r.done
		r.closeErr = r.account.Close()
	})
	return r.closeErr
}

// errAborted is the cause with which other branches are stopped.
var errAborted = errors.Join(ErrCancelled, errors.New("another branch of the run ended it"))
