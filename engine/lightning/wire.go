package lightning

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// The API version that this worker speaks.
const APIVersion = "1.2"

// Topics and events of the protocol.
const (
	queueTopic     = "worker:queue"
	runTopicPrefix = "run:"

	eventClaim         = "claim"
	eventWorkAvailable = "work-available"

	eventFetchPlan       = "fetch:plan"
	eventFetchDataclip   = "fetch:dataclip"
	eventFetchCredential = "fetch:credential"
	eventRunStart        = "run:start"
	eventRunLog          = "run:log"
	eventRunBatchLogs    = "run:batch_logs"
	eventRunComplete     = "run:complete"
	eventStepStart       = "step:start"
	eventStepComplete    = "step:complete"
)

// The sources of log lines, as users see them.
const (
	sourceJob     = "JOB"
	sourceAdaptor = "ADA"
	sourceRuntime = "R/T"
	sourceVersion = "VER"
	sourceEngine  = "RTE"
)

// claimRequest asks for runs.
type claimRequest struct {
	Demand     int      `json:"demand"`
	WorkerName *string  `json:"worker_name"`
	Queues     []string `json:"queues"`
}

// claimReply holds the runs that the worker now has to run.
type claimReply struct {
	Runs []claimedRun `json:"runs"`
}

type claimedRun struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

type byID struct {
	ID string `json:"id"`
}

type runStart struct {
	Versions  map[string]any `json:"versions"`
	Timestamp string         `json:"timestamp"`
}

type logLine struct {
	Message   json.RawMessage `json:"message"`
	Source    string          `json:"source"`
	Level     string          `json:"level"`
	Timestamp string          `json:"timestamp"`
	StepID    string          `json:"step_id,omitempty"`
}

type runLog struct {
	RunID string `json:"run_id"`
	logLine
}

type runBatchLogs struct {
	RunID string    `json:"run_id"`
	Logs  []logLine `json:"logs"`
}

type stepStart struct {
	StepID    string `json:"step_id"`
	JobID     string `json:"job_id"`
	Timestamp string `json:"timestamp"`
	Input     string `json:"input_dataclip_id,omitempty"`
}

type memory struct {
	Job    uint64 `json:"job"`
	System uint64 `json:"system"`
}

// stepComplete is all of a step:complete but the dataclip's content, which is
// written behind it.
type stepComplete struct {
	StepID    string `json:"step_id"`
	JobID     string `json:"job_id"`
	Memory    memory `json:"mem"`
	Duration  int64  `json:"duration"`
	Thread    int    `json:"thread_id"`
	Timestamp string `json:"timestamp"`
	Reason
	OutputID        string          `json:"output_dataclip_id,omitempty"`
	OutputError     string          `json:"output_dataclip_error,omitempty"`
	WebhookResponse json.RawMessage `json:"webhook_response,omitempty"`
}

// runComplete is all of a run:complete but the final state.
type runComplete struct {
	Timestamp string `json:"timestamp"`
	FinalID   string `json:"final_dataclip_id,omitempty"`
	Reason
}

// dataclipTooLarge is the one value of output_dataclip_error.
const dataclipTooLarge = "DATACLIP_TOO_LARGE"

// micros is a time as the protocol has it: microseconds in a text.
func micros(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }

// newID mints the id of a step or dataclip: a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand's own guarantee
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
