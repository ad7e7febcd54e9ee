package pool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/millrace/ipc"
)

// Execution is a task that an executor was sent, until Wait has returned.
type Execution struct {
	executor *Executor
	task     *Task
	sink     *sink
	request  *ipc.Request
	sent     uint64 // CLOCK_MONOTONIC in nanoseconds
	follows  bool   // it was sent ahead
}

// Start sends a task, whose end is to be waited for. Its errors are Wait's, and
// *ipc.FrameSizeError and *ipc.MessageError, after which nothing was sent.
func (x *Executor) Start(ctx context.Context, t *Task) (*Execution, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e := &Execution{executor: x, task: t, sink: newSink(x, t)}
	err := e.send(0, func() { x.task.Store(e.sink) })
	var size *ipc.FrameSizeError
	var malformed *ipc.MessageError
	switch {
	case err == nil:
		return e, nil
	case errors.As(err, &size), errors.As(err, &malformed):
		return nil, err
	}
	return nil, outOfMemory(t, x.death(err))
}

// Ahead sends the task that follows this one on the same executor, whether this
// one has ended or not. The executor begins it by itself when this one has ended
// well and nothing is left to be decided: on the state that this one is answered
// with, and the rows of t's input, which are set in it. The executor must have
// TakesAhead.
//
// t's functions are not used before Begin, and may be set until then. The caller
// then waits for t's end, or withdraws it.
func (e *Execution) Ahead(t *Task) (*Execution, error) {
	next := &Execution{executor: e.executor, task: t, sink: newSink(e.executor, nil), follows: true}
	if err := next.send(e.request.ID, func() { e.sink.follow(next.sink) }); err != nil {
		return nil, err
	}
	return next, nil
}

// Begin has the task's functions called, for what came before as well.
func (e *Execution) Begin() {
	if err := e.sink.open(e.task); err != nil {
		e.executor.fail(err)
	}
}

// ErrNotBegun is returned by Wait for a task that was sent ahead and that the
// executor left alone.
var ErrNotBegun = errors.New("the executor has not begun the step")

var errWithdrawn = errors.New("the step before it does not lead here")

// Withdraw ends a task that was sent ahead and is not to be executed. It returns
// when the executor does nothing for it any more.
func (e *Execution) Withdraw() {
	x := e.executor
	if err := e.sink.open(new(Task)); err != nil {
		x.fail(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errWithdrawn)
	_ = e.request.Cancel(ctx) // a channel that is broken is stop's to find out
	_ = x.stop(ctx, e.task, e.request)
	x.task.CompareAndSwap(e.sink, nil)
}

// send hands over the segments and the code that the task needs, then the task.
// register is called once it has an id and before it is sent.
func (e *Execution) send(after uint64, register func()) error {
	x, t := e.executor, e.task
	x.outbound.Lock()
	defer x.outbound.Unlock()
	defer x.tell()
	if err := x.sendBefore(t.Input); err != nil {
		return err
	}
	if err := x.prepareLocked(&t.Code); err != nil {
		return err
	}
	x.runs[t.Execute.Run] = true
	execute := t.Execute
	execute.Code, execute.After = t.Code.ID, after
	e.sent = monotonic()
	var err error
	e.request, err = x.peer.StartObserved(&ipc.Envelope{Message: &execute, State: t.Input}, func(id uint64) {
		e.sink.id = id
		register()
	}, e.sink.answer)
	return err
}

// Wait waits for the task's end. When ctx ends the executor is asked to stop, and
// after the pool's grace period made to.
//
// Errors: *FailError, the step's own failure; *TimeoutError, *MemoryError,
// ctx's error; *ExitError, the executor died or broke the protocol;
// *ledger.BudgetError; ErrNotBegun. After all but *FailError, *ledger.BudgetError
// and ErrNotBegun the executor may be of no further use; Release finds out.
func (e *Execution) Wait(ctx context.Context) (*Result, error) {
	t := e.task
	if t.Execute.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.Execute.Timeout, &TimeoutError{Step: t.Execute.Step, Limit: t.Execute.Timeout})
		defer cancel()
	}
	result, err := e.wait(ctx)
	return result, outOfMemory(t, err)
}

// heapExhausted is what Node.js prints when it ends for want of memory.
const heapExhausted = "JavaScript heap out of memory"

func outOfMemory(t *Task, err error) error {
	var exit *ExitError
	if errors.As(err, &exit) && strings.Contains(exit.Stderr, heapExhausted) {
		return &MemoryError{Step: t.Execute.Step, Limit: t.Execute.MemoryLimit}
	}
	return err
}

func (e *Execution) wait(ctx context.Context) (*Result, error) {
	x, t := e.executor, e.task
	defer x.pool.watch.add(x, t)()
	defer x.task.CompareAndSwap(e.sink, nil)

	answer, err := await(ctx, t, e.request)
	if err != nil && ctx.Err() != nil {
		return nil, x.stop(ctx, t, e.request)
	}
	if err != nil {
		return nil, x.death(err)
	}
	received := monotonic()
	if ctx.Err() != nil { // both at once: the limit counts
		return nil, x.discard(t, answer, context.Cause(ctx))
	}
	switch m := answer.Message.(type) {
	case *ipc.Fail:
		if e.follows && m.Started == 0 {
			return nil, ErrNotBegun
		}
		return nil, &FailError{*m}
	case *ipc.Done:
		if len(m.Verdicts) != 0 && len(m.Verdicts) != len(t.Execute.Conditions) {
			return nil, x.breach(fmt.Errorf("%d verdicts for %d conditions", len(m.Verdicts), len(t.Execute.Conditions)))
		}
		reused, err := t.Account.Publish(x.owner, m.Blocks, answer.State)
		if err != nil {
			return nil, x.breach(err)
		}
		return &Result{Done: m, State: answer.State, Reused: reused, Sent: e.sent, Received: received}, nil
	}
	return nil, x.breach(fmt.Errorf("answered execute with %s", answer.Message.Type()))
}

// await waits for the task's end, and does its work meanwhile.
func await(ctx context.Context, t *Task, request *ipc.Request) (*ipc.Envelope, error) {
	e, work, err := request.WaitOr(ctx, t.Work)
	if work == nil {
		return e, err
	}
	// The executor hears of the end at once, and not after the work has ended.
	// A channel that is broken is the wait's to find out.
	defer context.AfterFunc(ctx, func() { _ = request.Cancel(ctx) })()
	for ; work != nil; e, work, err = request.WaitOr(ctx, t.Work) {
		work()
	}
	return e, err
}

// stop waits for a cancelled request to be answered, and kills the executor
// when it is not.
func (x *Executor) stop(ctx context.Context, t *Task, request *ipc.Request) error {
	cause := context.Cause(ctx)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.pool.options.GracePeriod)
	defer cancel()
	e, err := await(grace, t, request)
	if err != nil {
		x.fail(cause)
		<-x.lost
		var memory *MemoryError
		if errors.As(*x.failure.Load(), &memory) {
			return memory
		}
		return cause
	}
	return x.discard(t, e, cause)
}

// discard gives the blocks of an answer that came too late back to its writer.
func (x *Executor) discard(t *Task, e *ipc.Envelope, cause error) error {
	if done, ok := e.Message.(*ipc.Done); ok {
		if _, err := t.Account.Publish(x.owner, done.Blocks, ipc.Table{}); err != nil {
			return x.breach(err)
		}
	}
	return cause
}
