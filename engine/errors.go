package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/pool"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// ErrClosed is returned once the engine is closed.
var ErrClosed = errors.New("engine: closed")

// ErrCancelled is the cause of a run that Cancel ended.
var ErrCancelled = errors.New("run cancelled")

// StepError is why a step failed. It is what state.errors holds under the
// step's id.
type StepError struct {
	Run, Step string
	// Status is the severity: fail, crash, kill, exception or cancel.
	Status Status
	// Name is the error's class in OpenFn's words: JobError, TimeoutError, …
	Name    string
	Message string
	// Details is a JSON object of what else is known, or nil.
	Details json.RawMessage
	Err     error
}

// Error implements error.
func (e *StepError) Error() string {
	return fmt.Sprintf("step %q: %s: %s", e.Step, e.Name, e.Message)
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// saying returns the error with more to its message.
func (e *StepError) saying(more string) *StepError {
	said := *e
	said.Message += more
	return &said
}

// RunTimeoutError is a run that took longer than it may.
type RunTimeoutError struct {
	Run   string
	Limit time.Duration
}

// Error implements error.
func (e *RunTimeoutError) Error() string {
	return fmt.Sprintf("run %s: workflow failed to return within %v: raise its timeout option", e.Run, e.Limit)
}

// EdgeConditionError is a condition that could not be evaluated.
type EdgeConditionError struct {
	From, To, Condition string
	Err                 error
}

// Error implements error.
func (e *EdgeConditionError) Error() string {
	return fmt.Sprintf("condition of the edge from %q to %q (%s): %v", e.From, e.To, e.Condition, e.Err)
}

// Unwrap returns the cause.
func (e *EdgeConditionError) Unwrap() error { return e.Err }

// stepError puts any error of a step into the words users know.
func stepError(run, step string, err error) *StepError {
	e := &StepError{Run: run, Step: step, Err: err, Message: err.Error()}
	var (
		own      *StepError
		failed   *pool.FailError
		timeout  *pool.TimeoutError
		memory   *pool.MemoryError
		exit     *pool.ExitError
		start    *pool.StartError
		budget   *ledger.BudgetError
		limit    *shm.LimitError
		frame    *ipc.FrameSizeError
		edge     *EdgeConditionError
		runLimit *RunTimeoutError
		expired  *CallTimeoutError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &failed):
		e.Status, e.Name, e.Message = severity(failed.Severity), failed.Name, failed.Message
		if json.Valid([]byte(failed.Details)) {
			e.Details = json.RawMessage(failed.Details)
		}
	case errors.As(err, &runLimit), errors.As(err, &timeout):
		e.Status, e.Name = StatusKill, "TimeoutError"
	case errors.As(err, &expired):
		e.Status, e.Name = StatusFail, "TimeoutError"
	case errors.As(err, &memory):
		e.Status, e.Name = StatusKill, "OOMError"
		e.Details = details(map[string]any{"used": memory.Used, "limit": memory.Limit})
	case errors.As(err, &budget):
		e.Status, e.Name = StatusKill, "StateTooLargeError"
		e.Details = details(map[string]any{"key": budget.Key, "key_size": budget.KeySize, "size": budget.Size, "limit": budget.Limit})
	case errors.As(err, &limit):
		e.Status, e.Name = StatusKill, "StateTooLargeError"
		e.Details = details(map[string]any{"size": limit.Size, "limit": limit.Limit})
	case errors.As(err, &frame):
		e.Status, e.Name = StatusKill, "StateTooLargeError"
	case errors.As(err, &edge):
		e.Status, e.Name = StatusCrash, "EdgeConditionError"
	case errors.Is(err, ErrCancelled), errors.Is(err, context.Canceled), errors.Is(err, pool.ErrClosed), errors.Is(err, ErrClosed):
		e.Status, e.Name = StatusCancel, "CancelError"
	case errors.As(err, &exit):
		e.Status, e.Name = StatusCrash, "ExitError"
		e.Details = details(map[string]any{"code": exit.Code, "status": exit.Status})
	case errors.As(err, &start):
		e.Status, e.Name = StatusException, "ExecutorStartError"
	default:
		e.Status, e.Name = StatusException, "ExecutionError"
	}
	return e
}

// stepError is stepError for the run, without what is not to be told.
func (r *Run) stepError(step string, err error) *StepError {
	e := stepError(r.ID, step, err)
	if r.options.Scrub == nil {
		return e
	}
	clean := *e
	clean.Message = r.scrub(e.Message)
	if clean.Details = json.RawMessage(r.options.Scrub(string(e.Details))); !json.Valid(clean.Details) {
		clean.Details = nil // none, or a number that was a secret
	}
	return &clean
}

// scrub returns a text without what is not to be told.
func (r *Run) scrub(text string) string {
	if r.options.Scrub == nil {
		return text
	}
	return r.options.Scrub(text)
}

// severity trusts an executor only with words that exist.
func severity(s ipc.Severity) Status {
	switch s {
	case ipc.SeverityFail, ipc.SeverityCrash, ipc.SeverityKill, ipc.SeverityException, ipc.SeverityCancel:
		return Status(s)
	}
	return StatusCrash
}

func details(m map[string]any) json.RawMessage {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // maps of numbers and strings always encode
	}
	return b
}

// record is the JSON that state.errors holds for the error. What the errors of
// OpenFn's jobs have as members of their own (subtype, pos, fix, details, …)
// stands where jobs look for it; other details stand under details.
func (e *StepError) record() []byte {
	r := struct {
		Source        string          `json:"source"`
		Name          string          `json:"name"`
		Severity      Status          `json:"severity"`
		Message       string          `json:"message"`
		Subtype       json.RawMessage `json:"subtype,omitempty"`
		Code          json.RawMessage `json:"code,omitempty"`
		Pos           json.RawMessage `json:"pos,omitempty"`
		OperationName json.RawMessage `json:"operationName,omitempty"`
		Line          json.RawMessage `json:"line,omitempty"`
		Fix           json.RawMessage `json:"fix,omitempty"`
		Stack         json.RawMessage `json:"stack,omitempty"`
		Details       json.RawMessage `json:"details,omitempty"`
	}{Source: "runtime", Name: e.Name, Severity: e.Status, Message: e.Message, Details: e.Details}
	var known map[string]json.RawMessage
	if json.Unmarshal(e.Details, &known) == nil && (known["subtype"] != nil || known["operation"] != nil) {
		var operation struct{ Name, Line json.RawMessage }
		if json.Unmarshal(known["operation"], &operation) == nil {
			r.OperationName, r.Line = operation.Name, operation.Line
		}
		r.Subtype, r.Code, r.Pos, r.Fix, r.Stack = known["subtype"], known["code"], known["pos"], known["fix"], known["stack"]
		if r.Details = known["details"]; r.Details == nil {
			for _, lifted := range []string{"operation", "subtype", "code", "pos", "fix", "stack"} {
				delete(known, lifted)
			}
			r.Details = rest(known)
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // Details was checked to be JSON
	}
	return b
}

// rest is an object of what is left of an error's details, or nil.
func rest(known map[string]json.RawMessage) json.RawMessage {
	if len(known) == 0 {
		return nil
	}
	b, err := json.Marshal(known)
	if err != nil {
		panic(err) // its values were parsed as JSON
	}
	return b
}
