package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/ipc"
)

// Until says when a call returns.
type Until = ipc.Until

// The ends of a call.
const (
	// Step is when the called step has ended: its state is the result.
	Step = ipc.UntilStep
	// Leaf is when the branch that begins with the called step has reached its
	// leaves: their state is the result, as a run's final state would be.
	Leaf = ipc.UntilLeaf
)

// MaxCalls is how many calls a step may have under way.
const MaxCalls = 4096

var (
	// ErrNoCalls is returned where the supervisor does not let steps call steps.
	ErrNoCalls = errors.New("the supervisor does not offer calls: it is older than this library, or this executor is not for it")
	// ErrExpired is the error of reading the result of a call that was closed,
	// or whose step is over. It comes as an *ExpiredError.
	ErrExpired = errors.New("the result of the call is gone")
)

// ExpiredError says which result was read after its time.
type ExpiredError struct {
	Key  string
	Step string // that was called
	Call uint64 // its number among the step's requests
	// StepOver: not the result was closed, but the calling function has
	// returned.
	StepOver bool
}

// Error implements error.
func (e *ExpiredError) Error() string {
	why := "the result was closed; Keep it, or refer to what is needed with SetFrom or Extend before"
	if e.StepOver {
		why = "the function that called has returned"
	}
	return fmt.Sprintf("%v: key %q of call %d of %q: %s", ErrExpired, e.Key, e.Call, e.Step, why)
}

// Is reports whether target is ErrExpired.
func (e *ExpiredError) Is(target error) bool { return target == ErrExpired }

// CallError is the failure of a step that was called. A function that returns
// it fails with the same name and severity.
type CallError struct {
	Step string // that was called
	// Severity, Name and Message are the callee's; Details is a JSON object or
	// empty.
	Severity      ipc.Severity
	Name, Message string
	Details       string
}

// Error implements error.
func (e *CallError) Error() string {
	return fmt.Sprintf("the call of %q failed: %s: %s", e.Step, e.Name, e.Message)
}

// asError is what a function fails with that returns err, which wraps e.
func (e *CallError) asError(err error) *Error {
	details := map[string]any{}
	if e.Details != "" {
		_ = json.Unmarshal([]byte(e.Details), &details) // what is no object says nothing
	}
	if details == nil {
		details = map[string]any{}
	}
	details["called"] = e.Step
	return &Error{Name: e.Name, Severity: e.Severity, Message: err.Error(), Details: details, Err: err}
}

// TooManyCallsError says that a step has as many calls under way as it may.
type TooManyCallsError struct{ Limit int }

// Error implements error.
func (e *TooManyCallsError) Error() string {
	return fmt.Sprintf("%d calls are under way, and a step may not have more: wait for some of them, or use Each with a concurrency", e.Limit)
}

// CallOptions change a call; the zero value is fine.
type CallOptions struct {
	// Until is Step by default.
	Until Until
	// Timeout is the time that the call has; 0 is no limit but the step's own.
	Timeout time.Duration
}

// Call runs another step of the workflow and waits for what comes of it. name
// is the step's id. arg is the state it gets: nothing of it is copied or read,
// for it refers to what its rows refer to. The step's own state can be used for
// more than one call; a state made by New or Fork is used up by the call, and
// nil is an empty object.
//
// The reply is to be closed as soon as it is not read any more, for its memory
// is held until then.
//
// Errors: a *CallError when the callee failed, also by its timeout; ctx's error
// when that ends first (the call is cancelled then); a *TooManyCallsError;
// ErrNoCalls. Calls that are under way when the function returns are cancelled.
//
// Call may be called from several goroutines of the function at once.
func Call(ctx context.Context, name string, arg *State, options CallOptions) (*Reply, error) {
	st, err := stepOf(ctx, arg)
	if err != nil {
		return nil, err
	}
	c := newCall(st, name)
	if err := c.start(arg, options); err != nil {
		return nil, err
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	return c.reply()
}

func stepOf(ctx context.Context, arg *State) (*step, error) {
	if arg != nil {
		return arg.step, nil
	}
	if st, ok := ctx.Value(stepKey{}).(*step); ok {
		return st, nil
	}
	return nil, errors.New("a call needs the context of a step")
}

// Reply is what came of a call. It belongs to the function that called.
type Reply struct {
	call  *call
	state State
	step  string
	index int
	kept  bool
}

// State returns the callee's state, to be read until the reply is closed. It
// cannot be changed, but its rows can be passed on by reference (SetFrom,
// Extend, Fork), and then stay for as long as they are referred to. It may be
// the argument of a call.
func (r *Reply) State() *State { return &r.state }

// Step returns the id of the step that ended the call.
func (r *Reply) Step() string { return r.step }

// Index returns which item of an Each the reply is for, from 0.
func (r *Reply) Index() int { return r.index }

// Keep has an Each not close the reply when it goes on to the next one: that is
// the caller's to do then.
func (r *Reply) Keep() { r.kept = true }

// Close says that nothing of the reply is read any more. Slices of its bytes
// are not to be touched afterwards. What other states refer to stays. It never
// fails, and a second Close does nothing.
func (r *Reply) Close() error {
	if r.call != nil {
		r.call.close()
	}
	return nil
}

// Forward has the run go on with the step of that id instead of along the edges
// of this one, once the function has returned without an error. The step gets
// this step's state, whose untouched keys are passed on unread, and whoever
// called this step gets that one's answer. The last Forward counts.
func (s *State) Forward(name string) error {
	st := s.step
	if !st.executor.calls {
		return ErrNoCalls
	}
	st.sending.Lock()
	defer st.sending.Unlock()
	s.mu.Lock()
	err := s.writable("")
	s.mu.Unlock()
	if err != nil {
		return err
	}
	st.forwarded.Store(true)
	return st.executor.channel.Send(&ipc.Envelope{ID: st.id, Message: &ipc.Forward{Step: name}})
}
