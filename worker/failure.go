package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Bounds of what a failure says, bytes.
const (
	maxFailMessage = 64 << 10
	maxFailDetails = 256 << 10
	maxStack       = 32 << 10
)

// errStepOver is what the context of a step that has ended says.
var errStepOver = fmt.Errorf("the step is over: %w", context.Canceled)

// Error is an error with the words that the run's log and the edges of the
// workflow see. Any other error a function returns fails its step with the
// name JobError.
type Error struct {
	// Name is the error's class; "" is JobError.
	Name string
	// Severity says what ends: "" is ipc.SeverityFail, the step alone.
	Severity ipc.Severity
	// Message is for people; "" is that of Err.
	Message string
	// Details is whatever else is known, encoded as JSON; nil is nothing.
	Details map[string]any
	// Err is the cause, or nil.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	switch {
	case e.Message == "" && e.Err != nil:
		return e.Err.Error()
	case e.Message == "":
		return e.name()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) name() string {
	if e.Name == "" {
		return "JobError"
	}
	return e.Name
}

// ErrNoKey is returned, in a *KeyError, where a key is asked for that the
// state has not.
var ErrNoKey = errors.New("the state has no such key")

// KeyError is an error about one key of the state.
type KeyError struct {
	Key string
	Err error
}

// Error implements error.
func (e *KeyError) Error() string { return fmt.Sprintf("key %q: %v", e.Key, e.Err) }

// Unwrap returns what is wrong with the key.
func (e *KeyError) Unwrap() error { return e.Err }

// keyed is a *KeyError of err, which may be one already.
func keyed(key string, err error) error {
	if already := (*KeyError)(nil); errors.As(err, &already) {
		return err
	}
	return &KeyError{Key: key, Err: err}
}

// fail turns an error into the message. ended is how the step's context ended.
func (s *step) fail(err, ended error, reason string) *ipc.Fail {
	e := s.classify(err, ended, reason)
	f := &ipc.Fail{
		Started: s.started, Finished: s.finished,
		Severity: e.Severity,
		Name:     text(e.name(), maxFailMessage),
		Message:  text(e.Error(), maxFailMessage),
	}
	if f.Severity == "" {
		f.Severity = ipc.SeverityFail
	}
	if len(e.Details) > 0 {
		details, err := json.Marshal(e.Details)
		if err == nil && len(details) > maxFailDetails {
			err = fmt.Errorf("%d bytes of details are over the limit of %d", len(details), maxFailDetails)
		}
		if err != nil {
			details, _ = json.Marshal(map[string]string{"details_error": text(err.Error(), maxFailMessage)})
		}
		f.Details = text(string(details), maxFailDetails)
	}
	return f
}

// classify gives an error its name and severity.
func (s *step) classify(err, ended error, reason string) *Error {
	var named *Error
	var call *CallError
	var stream *StreamError
	var item *ItemSizeError
	var limit *shm.LimitError
	var frame *ipc.FrameSizeError
	switch {
	case errors.As(err, &named):
		if err == error(named) {
			return named
		}
		e := *named
		e.Message = err.Error() // what was wrapped around it
		return &e
	case errors.As(err, &call):
		return call.asError(err)
	case errors.As(err, &stream):
		return &Error{Name: stream.Name, Severity: stream.Severity, Message: err.Error(), Details: map[string]any{"key": stream.Key}, Err: err}
	case errors.As(err, &item):
		return &Error{Name: "StreamItemTooLargeError", Message: err.Error(), Details: map[string]any{
			"key": item.Key, "item": item.Item, "size": item.Size, "limit": item.Limit,
		}, Err: err}
	case errors.As(err, &limit):
		return s.tooLarge(err, limit)
	case errors.As(err, &frame):
		return &Error{
			Name: "StateTooLargeError", Severity: ipc.SeverityKill, Message: frame.Error(),
			Details: map[string]any{"size": frame.Size, "limit": frame.Limit}, Err: err,
		}
	case ended == nil || !errors.Is(err, ended) && !errors.Is(err, context.Canceled):
		e := &Error{Err: err}
		if key := (*KeyError)(nil); errors.As(err, &key) {
			e.Details = map[string]any{"key": key.Key}
		}
		return e
	case errors.Is(ended, context.DeadlineExceeded):
		return &Error{
			Name: "TimeoutError", Severity: ipc.SeverityKill, Err: err,
			Message: fmt.Sprintf("the step took longer than its timeout of %v", s.message.Timeout),
			Details: map[string]any{"timeout_ms": s.message.Timeout.Milliseconds()},
		}
	default:
		message := "the step was cancelled"
		if reason != "" {
			message += ": " + reason
		}
		return &Error{Name: "CancelError", Severity: ipc.SeverityCancel, Message: message, Err: err}
	}
}

// tooLarge says which key outgrew the budget, and by how much. The arena
// counts what the executor holds of earlier steps too; the step's own numbers
// are without that.
func (s *step) tooLarge(err error, limit *shm.LimitError) *Error {
	used, most := max(limit.Used-s.heldOnce, 0), max(limit.Limit-s.heldOnce, 0)
	name := ""
	if key := (*KeyError)(nil); errors.As(err, &key) {
		name = key.Key
	}
	return budgetError(name, limit.Size, used, most, err)
}

// BudgetError is the error of a step that would write size bytes for a key, or
// with "" for the whole state, and may not: for runners that watch a size
// themselves.
func (s *State) BudgetError(key string, size int64) error {
	return budgetError(key, size, 0, int64(min(s.step.message.Budget, math.MaxInt64)), nil)
}

func budgetError(key string, size, used, most int64, err error) *Error {
	details := map[string]any{"size": size, "used": used, "limit": most}
	what := "the state"
	if key != "" {
		details["key"] = key
		what = fmt.Sprintf("key %q", key)
	}
	message := fmt.Sprintf("state too large: %s has at least %d bytes", what, size)
	if used > 0 {
		message += fmt.Sprintf(" beside %d bytes of other values", used)
	}
	message += fmt.Sprintf(", and the step may write %d: raise the run's memory option, or write less", most)
	return &Error{Name: "StateTooLargeError", Severity: ipc.SeverityKill, Message: message, Details: details, Err: err}
}

// panicError describes a panic in a function.
func panicError(p any, stack []byte) error {
	message := fmt.Sprintf("panic: %v", p)
	if err, ok := p.(runtime.Error); ok {
		if _, fault := err.(interface{ Addr() uintptr }); fault {
			message += " (state memory is read-only, and gone when the function has returned: copy what is to be changed or kept)"
		}
	}
	return &Error{
		Name: "RuntimeError", Message: message,
		Details: map[string]any{"stack": text(string(stack), maxStack)},
	}
}

// text makes s fit for the wire: valid UTF-8, at most limit bytes.
func text(s string, limit int) string {
	if len(s) > limit {
		const mark = " [cut]"
		end := limit - len(mark)
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end] + mark
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
