package condition

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// Eval answers the condition for a state, with the default limits. Errors:
// *EvalError, *TimeoutError, *LimitError, *StateError, and the cause of a
// context that is cancelled.
func (c *Condition) Eval(ctx context.Context, state State, upstream Upstream) (bool, error) {
	return c.EvalWith(ctx, state, upstream, Limits{}, nil)
}

// EvalWith is [Condition.Eval] with limits, and says in stats, unless nil,
// what it cost; it is left alone where the evaluation was abandoned.
func (c *Condition) EvalWith(ctx context.Context, state State, upstream Upstream, limits Limits, stats *Stats) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, context.Cause(ctx)
	}
	if always, ok := c.simple.(constant); ok {
		if stats != nil {
			*stats = Stats{}
		}
		return always.value.truthy(), nil
	}
	r := &run{condition: c, start: time.Now(), limits: limits.withDefaults()}
	r.view = &view{state: state, limits: r.limits, stop: r.check}
	defer func() {
		if stats != nil && !r.abandoned {
			*stats = Stats{Values: r.view.values, Scanned: r.view.stats.Scanned, Read: r.view.stats.Read, Runtime: r.view.rt != nil}
		}
	}()
	if c.simple != nil {
		r.ctx = ctx
		e := simpleEval{view: r.view, upstream: upstream.StepID}
		result := c.simple.eval(&e)
		switch {
		case e.err != nil:
			return false, r.explain(e.err)
		case result.kind != isBail:
			return result.truthy(), nil
		}
		r.ctx = nil
	}
	return r.javascript(ctx, upstream)
}

// run is one evaluation.
type run struct {
	condition *Condition
	view      *view
	limits    Limits
	start     time.Time
	scanned   atomic.Int64 // view.stats.Scanned, for the watching goroutine
	stateSize int64
	abandoned bool
	// ctx is set where no goroutine watches.
	ctx     context.Context
	stopped atomic.Pointer[error]
}

// check is called before each window is scanned.
func (r *run) check() error {
	r.scanned.Store(r.view.stats.Scanned)
	if err := r.stopped.Load(); err != nil {
		return *err
	}
	if r.ctx == nil {
		return nil
	}
	if r.ctx.Err() != nil {
		return r.ended(r.ctx)
	}
	return r.late()
}

// ended is the error for a context that is done.
func (r *run) ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &TimeoutError{Condition: r.condition.source, Elapsed: time.Since(r.start)}
	}
	return context.Cause(ctx)
}

// late returns an error when the time is up.
func (r *run) late() error {
	if time.Since(r.start) < r.limits.Time {
		return nil
	}
	if r.stateSize == 0 {
		r.stateSize = 1 + sizeOf(r.view.state)
	}
	scanned := min(r.scanned.Load(), scanPasses*r.stateSize)
	limit := r.limits.Time + time.Duration(float64(scanned)/scanRate*float64(time.Second))
	if elapsed := time.Since(r.start); elapsed >= limit {
		return &TimeoutError{Condition: r.condition.source, Elapsed: elapsed, Limit: limit}
	}
	return nil
}

func sizeOf(state State) int64 {
	keys := state.Keys()
	if state.Kind() == Value {
		keys = []string{""}
	}
	var size int64
	for _, key := range keys {
		row, _ := state.Row(key)
		size += row.Size
	}
	return size
}

// outcome is what the goroutine that runs JavaScript ends with.
type outcome struct {
	result bool
	err    error
}

// javascript runs the condition in a runtime of its own, in a goroutine of its
// own, because a built-in function cannot be interrupted.
func (r *run) javascript(ctx context.Context, upstream Upstream) (bool, error) {
	r.stateSize = 1 + sizeOf(r.view.state)
	r.view.rt = goja.New()
	done := make(chan outcome, 1)
	go func() {
		var out outcome
		defer func() {
			if p := recover(); p != nil {
				out.err = &EvalError{Condition: r.condition.source, Message: fmt.Sprint("internal error: ", p)}
			}
			done <- out
		}()
		out.result, out.err = r.call(upstream)
	}()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	var heap int64
	for {
		var err error
		select {
		case out := <-done:
			return out.result, out.err
		case <-ctx.Done():
			err = r.ended(ctx)
		case <-ticker.C:
			if err = r.late(); err == nil {
				err = r.large(&heap)
			}
		}
		if err != nil {
			return r.abort(err, done)
		}
	}
}

// abort stops the goroutine, and abandons it if it does not stop.
func (r *run) abort(err error, done <-chan outcome) (bool, error) {
	r.stopped.Store(&err)
	r.view.rt.Interrupt(err)
	select {
	case <-done:
	case <-time.After(grace):
		r.abandoned = true
		r.view.mu.Lock()
		r.view.gone = true
		r.view.mu.Unlock()
	}
	return false, err
}

// large returns an error when the live heap has grown too much. base is its
// size when first asked.
func (r *run) large(base *int64) error {
	now := heapSize()
	if *base == 0 {
		*base = now
	}
	if now-*base <= r.limits.Memory {
		return nil
	}
	runtime.GC() // what has grown may be garbage
	if grown := heapSize() - *base; grown > r.limits.Memory {
		return &LimitError{Condition: r.condition.source, What: "bytes of memory", Size: grown, Limit: r.limits.Memory}
	}
	return nil
}

func heapSize() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// call runs the condition's function.
func (r *run) call(upstream Upstream) (bool, error) {
	rt := r.view.rt
	rt.SetMaxCallStackSize(maxCallStack)
	if r.condition.guarded || guardedNames.MatchString(upstream.StepID) {
		if err := guard(rt); err != nil {
			return false, r.explain(err)
		}
	}
	value, err := rt.RunProgram(r.condition.program)
	if err != nil {
		return false, r.explain(err)
	}
	function, _ := goja.AssertFunction(value)
	var root goja.Value
	if err := rt.Try(func() {
		r.view.enter()
		defer r.view.leave()
		root = r.view.root()
	}); err != nil {
		return false, r.explain(err)
	}
	value, err = function(goja.Undefined(), root, rt.ToValue(upstream.StepID))
	if err == nil && r.view.err == nil {
		return value.ToBoolean(), nil
	}
	return false, r.explain(err)
}

// explain turns what ended an evaluation into an error for the caller.
func (r *run) explain(err error) error {
	if r.view.err != nil {
		err = r.view.err
	} else if stopped := r.stopped.Load(); stopped != nil {
		return *stopped
	}
	var (
		limit     *limitError
		text      *jsonscan.SizeError
		late      *TimeoutError
		exception *goja.Exception
		overflow  *goja.StackOverflowError
	)
	switch {
	case errors.As(err, &late), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &limit):
		return &LimitError{Condition: r.condition.source, What: limit.what, Size: limit.size, Limit: limit.limit}
	case errors.As(err, &text):
		return &LimitError{Condition: r.condition.source, What: "bytes of text from the state", Size: text.Size, Limit: text.Limit}
	case errors.As(err, &overflow):
		return &EvalError{Condition: r.condition.source, Message: "RangeError: Maximum call stack size exceeded"}
	case errors.As(err, &exception):
		return &EvalError{Condition: r.condition.source, Message: thrown(exception)}
	}
	return &StateError{Condition: r.condition.source, Err: err}
}

// thrown is the text of what was thrown, without where.
func thrown(exception *goja.Exception) (message string) {
	defer func() {
		if recover() != nil { // its toString throws, too
			message = "an exception"
		}
	}()
	return exception.Value().String()
}
