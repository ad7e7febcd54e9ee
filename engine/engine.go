package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/engine/condition"
	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/engine/pool"
)

// Engine runs workflows. Its methods are safe for concurrent use.
type Engine struct {
	options  Options
	ledger   *ledger.Ledger
	pool     *pool.Pool
	demand   *demand.Scheduler
	programs programs

	ctx  context.Context
	stop context.CancelCauseFunc

	mu     sync.Mutex
	closed bool
	runs   map[*Run]bool
	active sync.WaitGroup
}

// New returns an engine. Close it.
func New(options Options) (*Engine, error) {
	options.setDefaults()
	var l *ledger.Ledger
	d := demand.New(demand.Options{
		Slots: options.MaxExecutors, Memory: options.Memory, Used: func() uint64 { return l.Held() },
	})
	l = ledger.NewWatched(d.Freed)
	e := &Engine{
		options: options,
		ledger:  l,
		demand:  d,
		pool: pool.New(pool.Options{
			Ledger: l, Logger: options.Logger,
			StartTimeout: options.StartTimeout, GracePeriod: options.GracePeriod, IdleTimeout: options.IdleTimeout,
			RetainBytes: options.RetainBytes, PrefaultBytes: options.PrefaultBytes,
		}),
		runs: make(map[*Run]bool),
	}
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	return e, nil
}

// PlanOptions are for plan.Load: with them a plan's conditions are checked
// where its file can be named.
func PlanOptions() plan.Options {
	return plan.Options{CheckCondition: func(expr string) error {
		_, err := condition.Compile(expr)
		return err
	}}
}

// Check reports whether the programs that the plan's steps need can be found,
// before any step runs.
func (e *Engine) Check(p *plan.Plan) error {
	pr, err := e.programs.get(p, e.compile)
	if err != nil {
		return err
	}
	defer e.programs.done(pr)
	var errs []error
	seen := make(map[string]bool)
	for _, st := range pr.stages {
		if st.spec == nil || seen[st.spec.Argv[0]] {
			continue
		}
		seen[st.spec.Argv[0]] = true
		if i := e.interpreter(p, st.step); i != nil {
			if err := i.check(st.step.ID); err != nil {
				errs = append(errs, err)
			}
			continue
		}
		err := st.spec.Check()
		switch {
		case err != nil && st.step.Files != nil:
			errs = append(errs, fmt.Errorf("step %q reads files, which takes the program %s, neither beside this one nor in PATH; install it with millrace: %w", st.step.ID, sourceProgram, err))
		case err != nil:
			errs = append(errs, fmt.Errorf("step %q: %w", st.step.ID, err))
		}
	}
	return errors.Join(errs...)
}

// Warm starts n executors for each kind that the plan needs, tells them their
// code, and keeps as many ready from then on: a step that may not use another
// run's executor finds a fresh one. n = 0 ends that.
func (e *Engine) Warm(ctx context.Context, p *plan.Plan, n int) error {
	pr, err := e.programs.get(p, e.compile)
	if err != nil {
		return err
	}
	defer e.programs.done(pr)
	for i, st := range pr.stages {
		if st.spec == nil || slices.ContainsFunc(pr.stages[:i], st.sameSpec) {
			continue
		}
		var codes []pool.Code
		for _, other := range pr.stages[i:] {
			if st.sameSpec(other) {
				codes = append(codes, other.code)
			}
		}
		if err := e.pool.Warm(ctx, st.spec, n, codes); err != nil {
			return err
		}
	}
	return nil
}

// Submit starts a run of the plan and returns at once. The run ends by itself,
// by its Cancel, by ctx, or by the engine's Close; its memory is held until its
// Close. The plan must not be changed any more.
func (e *Engine) Submit(ctx context.Context, p *plan.Plan, input Input, options RunOptions) (*Run, error) {
	pr, err := e.programs.get(p, e.compile)
	if err != nil {
		return nil, err
	}
	r, err := e.newRun(ctx, pr, options)
	if err != nil {
		e.programs.done(pr)
		return nil, err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		e.programs.done(pr)
		r.detach()
		r.cancel(ErrClosed)
		return nil, errors.Join(ErrClosed, r.account.Close())
	}
	e.runs[r] = true
	e.active.Add(1)
	e.mu.Unlock()
	go func() {
		defer e.active.Done()
		r.run(input)
		e.pool.EndRun(r.ID)
		e.programs.done(pr)
		e.mu.Lock()
		delete(e.runs, r)
		e.mu.Unlock()
		close(r.done)
	}()
	return r, nil
}

// Host are figures of the engine as a whole.
type Host struct {
	Runs         int
	Executors    int
	Idle         int
	StateBytes   uint64
	Segments     int
	ControlBytes uint64
	// Demand is what runs, waits and is reserved for.
	Demand demand.HostFigures
}

// Host returns the engine's figures.
func (e *Engine) Host() Host {
	s := e.pool.Stats()
	e.mu.Lock()
	defer e.mu.Unlock()
	return Host{Runs: len(e.runs), Executors: s.Executors, Idle: s.Idle,
		StateBytes: e.ledger.Bytes(), Segments: e.ledger.Segments(), ControlBytes: s.ControlBytes,
		Demand: e.demand.Figures()}
}

// ExecutorPIDs returns the process ids of the executors alive, for those who
// measure them.
func (e *Engine) ExecutorPIDs() []int { return e.pool.PIDs() }

// Close cancels all runs, waits for their ends, and ends the executors. Runs
// that are not closed yet keep their results readable.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.stop(ErrClosed)
	e.active.Wait()
	err := e.pool.Close()
	e.ledger.Wait()
	return err
}

func newRunID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand's own guarantee
	return hex.EncodeToString(b[:])
}
