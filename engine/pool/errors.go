package pool

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrClosed is returned once the pool is closed.
var ErrClosed = errors.New("pool: closed")

// StartError is an executor that could not be started, or did not shake hands.
type StartError struct {
	// Argv is what was to be started.
	Argv []string
	// Stderr is the end of what it printed.
	Stderr string
	Err    error
}

// Error implements error.
func (e *StartError) Error() string {
	return fmt.Sprintf("cannot start executor %s: %v%s", strings.Join(e.Argv, " "), e.Err, tail(e.Stderr))
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

// ExitError is an executor that ended while it ran a step.
type ExitError struct {
	Argv []string
	// Status says how: "exit status 3", "signal: killed".
	Status string
	// Code is the exit code, -1 when a signal ended it.
	Code int
	// Stderr is the end of what it printed.
	Stderr string
	// Cause is what was seen on the control channel, if that came first.
	Cause error
}

// Error implements error.
func (e *ExitError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("executor %s was stopped: %v%s", strings.Join(e.Argv, " "), e.Cause, tail(e.Stderr))
	}
	if e.Code >= 0 {
		return fmt.Sprintf("Process exited with code: %d%s", e.Code, tail(e.Stderr))
	}
	return fmt.Sprintf("executor %s died: %s%s", strings.Join(e.Argv, " "), e.Status, tail(e.Stderr))
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Cause }

// TimeoutError is a step that ran longer than it may.
type TimeoutError struct {
	Step  string
	Limit time.Duration
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("step %q failed to return within %v: raise its timeout option, or give it less to do", e.Step, e.Limit)
}

// MemoryError is a step whose processes used more memory than it may.
type MemoryError struct {
	Step string
	// Used is what was seen when it was stopped, Limit what it may, in bytes.
	// Used is 0 when the executor's own runtime gave up; Limit is 0 when that
	// was its default.
	Used, Limit uint64
}

// Error implements error.
func (e *MemoryError) Error() string {
	switch {
	case e.Limit == 0:
		return fmt.Sprintf("step %q ran out of memory: its runtime's own limit was reached; give the step a memory option, or have it handle its data in pieces", e.Step)
	case e.Used == 0:
		return fmt.Sprintf("step %q exceeded its memory limit: its runtime needs more than the %d bytes allowed: raise its memory option, or have it handle its data in pieces", e.Step, e.Limit)
	}
	return fmt.Sprintf("step %q exceeded its memory limit: %d bytes in use, %d allowed: raise its memory option, or have it handle its data in pieces", e.Step, e.Used, e.Limit)
}

func tail(stderr string) string {
	s := strings.TrimSpace(stderr)
	if s == "" {
		return ""
	}
	return "\n  its last output:\n    " + strings.ReplaceAll(s, "\n", "\n    ")
}
