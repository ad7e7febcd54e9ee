package lightning

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/pool"
	"github.com/millrace/millrace/shm"
)

// Reason is how a step or run ended, in Lightning's words. Type and Message are
// null for success.
type Reason struct {
	Reason  string  `json:"reason"`
	Type    *string `json:"error_type"`
	Message *string `json:"error_message"`
}

var success = Reason{Reason: string(engine.StatusSuccess)}

func reason(status engine.Status, errorType, message string) Reason {
	return Reason{Reason: string(status), Type: &errorType, Message: &message}
}

// reasonOf puts an error of the engine into the words that Lightning's users
// know. nil is success.
func reasonOf(err error) Reason {
	if err == nil {
		return success
	}
	var step *engine.StepError
	if !errors.As(err, &step) {
		return reason(engine.StatusException, "ExecutionError", err.Error())
	}
	var (
		runTimeout *engine.RunTimeoutError
		memory     *pool.MemoryError
		budget     *ledger.BudgetError
		size       *shm.LimitError
		exit       *pool.ExitError
	)
	message := step.Message
	switch {
	case errors.As(err, &runTimeout):
		message = fmt.Sprintf("Workflow failed to return within %dms", runTimeout.Limit.Milliseconds())
	case errors.As(err, &memory), step.Name == "OOMError":
		message = "Run exceeded maximum memory usage"
	case errors.As(err, &budget):
		message = fmt.Sprintf("State exceeds the limit of %dmb", budget.Limit/megabyte)
	case errors.As(err, &size):
		message = fmt.Sprintf("State exceeds the limit of %dmb", size.Limit/megabyte)
	case errors.As(err, &exit) && exit.Code >= 0:
		message = fmt.Sprintf("Process exited with code: %d", exit.Code)
	}
	return reason(step.Status, step.Name, message)
}
