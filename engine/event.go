package engine

import "time"

// EventType says what an Event tells.
type EventType string

// The types of event, in the order in which a run has them.
const (
	EventRunStart     EventType = "run:start"
	EventStepStart    EventType = "step:start"
	EventLog          EventType = "log"
	EventStepRetry    EventType = "step:retry"
	EventStepComplete EventType = "step:complete"
	EventEdge         EventType = "edge" // decided: taken or not
	EventRunComplete  EventType = "run:complete"
)

// Event is something that happened in a run.
type Event struct {
	Type EventType
	Time time.Time
	Run  string
	// Step and Attempt are set on the events of a step. Attempt counts from 1.
	Step    string
	Attempt int
	// Execution numbers the executions of steps in the run, from 1, and is set
	// on the events of one, except edges. An execution that is retried has one
	// EventStepStart for each attempt that started, and one EventStepComplete.
	// From is the execution whose output it was given, 0 for the run's input;
	// for the first step of a call it is the caller's, which gave the argument.
	Execution, From int
	// Depth is how many steps wait for the call that this step is of, one
	// below the other; 0 for steps that nobody called. Caller is the execution
	// of the last of them.
	Depth, Caller int
	// State is set on the EventStepComplete of an execution after which the
	// branch goes on: its output, or after a failure its input with the failure
	// recorded. It is valid until Observe returns, unless Hold is called. A step
	// that fed a stream completes after the steps that read it have started; its
	// output is what it handed over to them.
	State *State
	// Log is set on EventLog.
	Log *LogLine
	// Report is set on EventStepComplete.
	Report *StepReport
	// To and Taken are set on EventEdge.
	To    string
	Taken bool
	// Err is why a step or the run failed, or an attempt is repeated.
	Err error
	// Delay is how long an EventStepRetry waits.
	Delay time.Duration
}

// LogLine is a line that a step logged.
type LogLine struct {
	// Time is the executor's own stamp.
	Time  time.Time
	Level string
	// Source is where it comes from: "job", "stderr", "stdout", "runtime", …
	Source  string
	Message string
	// Structured says that Message is JSON.
	Structured bool
}

// Status is how a step or a run ended.
type Status string

// The statuses, in OpenFn's words.
const (
	StatusSuccess   Status = "success"
	StatusFail      Status = "fail"
	StatusCrash     Status = "crash"
	StatusKill      Status = "kill"
	StatusException Status = "exception"
	StatusCancel    Status = "cancel"
)
