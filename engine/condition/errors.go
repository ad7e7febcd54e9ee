package condition

import (
	"context"
	"fmt"
	"time"
)

// A SyntaxError is returned by Compile.
type SyntaxError struct {
	Condition string
	Line      int // from 1
	Column    int // from 1
	Message   string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("condition %q is not a JavaScript expression: line %d, column %d: %s",
		shorten(e.Condition), e.Line, e.Column, e.Message)
}

// An EvalError is returned for a condition that throws.
type EvalError struct {
	Condition string
	Message   string // what was thrown, as in "TypeError: ..."
}

func (e *EvalError) Error() string {
	return fmt.Sprintf("condition %q failed: %s", shorten(e.Condition), e.Message)
}

// A TimeoutError is returned for a condition that did not end in time. It is
// context.DeadlineExceeded.
type TimeoutError struct {
	Condition string
	Elapsed   time.Duration
	Limit     time.Duration // with what scanning the state has added; 0 for the context's deadline
}

func (e *TimeoutError) Error() string {
	if e.Limit == 0 {
		return fmt.Sprintf("condition %q had not ended after %v, when its deadline passed", shorten(e.Condition), e.Elapsed.Round(time.Millisecond))
	}
	return fmt.Sprintf("condition %q had not ended after %v: the limit is %v", shorten(e.Condition), e.Elapsed.Round(time.Millisecond), e.Limit)
}

// Is makes it context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// A LimitError is returned for a condition that needs more of the state, or of
// memory, than its [Limits] allow.
type LimitError struct {
	Condition string
	What      string // "bytes of text from the state", ...
	Size      int64  // at least so many were needed
	Limit     int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("condition %q needs %d %s: the limit is %d; compare a smaller part of the state",
		shorten(e.Condition), e.Size, e.What, e.Limit)
}

// A StateError is returned where the state cannot be read or is not JSON.
type StateError struct {
	Condition string
	Err       error
}

func (e *StateError) Error() string {
	return fmt.Sprintf("condition %q cannot read the state: %v", shorten(e.Condition), e.Err)
}

func (e *StateError) Unwrap() error { return e.Err }

// shorten keeps messages to a line's length.
func shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
