package lightning

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/pool"
)

func TestReasons(t *testing.T) {
	step := func(status engine.Status, name, message string, cause error) error {
		return &engine.StepError{Step: "a", Status: status, Name: name, Message: message, Err: cause}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "success <nil> <nil>"},
		{step(engine.StatusFail, "JobError", "no such patient", nil), "fail JobError no such patient"},
		{step(engine.StatusCrash, "ReferenceError", "x is not defined", nil), "crash ReferenceError x is not defined"},
		{step(engine.StatusKill, "TimeoutError", "…", &engine.RunTimeoutError{Limit: 1500 * time.Millisecond}), "kill TimeoutError Workflow failed to return within 1500ms"},
		{step(engine.StatusKill, "OOMError", "…", &pool.MemoryError{Limit: 1}), "kill OOMError Run exceeded maximum memory usage"},
		{step(engine.StatusKill, "StateTooLargeError", "…", &ledger.BudgetError{Limit: 25 << 20}), "kill StateTooLargeError State exceeds the limit of 25mb"},
		{step(engine.StatusCrash, "ExitError", "…", &pool.ExitError{Code: 7}), "crash ExitError Process exited with code: 7"},
		{step(engine.StatusCrash, "ExitError", "executor node died: signal: killed", &pool.ExitError{Code: -1}), "crash ExitError executor node died: signal: killed"},
		{step(engine.StatusException, "CredentialLoadError", "credential x: not found", nil), "exception CredentialLoadError credential x: not found"},
		{step(engine.StatusCancel, "CancelError", "run cancelled", engine.ErrCancelled), "cancel CancelError run cancelled"},
		{errors.New("other"), "exception ExecutionError other"},
	} {
		r := reasonOf(c.err)
		text := func(s *string) any {
			if s == nil {
				return nil
			}
			return *s
		}
		if got := fmt.Sprintf("%s %v %v", r.Reason, text(r.Type), text(r.Message)); got != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
	}
}
