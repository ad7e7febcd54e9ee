package standin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Violation is something that a worker must not do.
type Violation struct {
	Conn  int    `json:"conn"`
	Topic string `json:"topic,omitempty"`
	Event string `json:"event,omitempty"`
	Text  string `json:"text"`
}

// String implements fmt.Stringer.
func (v Violation) String() string {
	return fmt.Sprintf("socket %d, %s %s: %s", v.Conn, v.Topic, v.Event, v.Text)
}

// The states of a run.
const (
	StateAvailable = "available"
	StateClaimed   = "claimed"
	StateStarted   = "started"
	StateFinished  = "finished"
)

// RunRecord is what is known of a run. It is a copy: the server does not change
// it any more.
type RunRecord struct {
	ID    string `json:"id"`
	State string `json:"state"`
	// Reason, ErrorType and ErrorMessage are those of run:complete.
	Reason       string `json:"reason,omitempty"`
	ErrorType    string `json:"error_type,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`

	Steps []Step `json:"steps"`
	// Logs are in the order of their arrival; none with CountOnly.
	Logs []Log `json:"logs"`
	// LogLines counts them.
	LogLines int `json:"log_lines"`
	// Events are in the order of their arrival, without duplicates; those of log
	// lines are left out with CountOnly.
	Events []Event `json:"events"`
	// Duplicates counts events that were dropped because they had come before.
	Duplicates int `json:"duplicates"`
	// Joins counts how often a worker joined the run's channel.
	Joins int `json:"joins"`
	// Left says that the worker left the channel.
	Left bool `json:"left"`
	// Dataclips by id: the initial one, and the steps' outputs.
	Dataclips map[string]Dataclip `json:"dataclips"`
	// Input is the initial dataclip's id, or empty.
	Input string `json:"input,omitempty"`
	// Final is the final state, if it was sent; FinalID the dataclip that
	// run:complete names.
	Final   *Dataclip `json:"final,omitempty"`
	FinalID string    `json:"final_id,omitempty"`
	// Bytes received for this run: the messages' texts, after inflation.
	Bytes int64 `json:"bytes"`

	Claimed  time.Time `json:"claimed,omitzero"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
}

// Event is a message that was acted on.
type Event struct {
	Event string    `json:"event"`
	Step  string    `json:"step,omitempty"` // the step's id
	Job   string    `json:"job,omitempty"`
	Time  time.Time `json:"time"`
	Bytes int64     `json:"bytes"`
}

// Step is one execution of a job.
type Step struct {
	ID    string `json:"id"`
	Job   string `json:"job"`
	Input string `json:"input,omitempty"`
	// Output is the id of its dataclip, OutputError why there is none.
	Output      string `json:"output,omitempty"`
	OutputError string `json:"output_error,omitempty"`

	Reason          string          `json:"reason,omitempty"`
	ErrorType       string          `json:"error_type,omitempty"`
	ErrorMessage    string          `json:"error_message,omitempty"`
	Duration        float64         `json:"duration"` // ms
	JobMemory       int64           `json:"job_memory"`
	SystemMemory    int64           `json:"system_memory"`
	WebhookResponse json.RawMessage `json:"webhook_response,omitempty"`
	// Started and Ended are the worker's own stamps.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Open reports whether the step's end has not come.
func (s *Step) Open() bool { return s.Reason == "" }

// Log is a line.
type Log struct {
	Step    string          `json:"step,omitempty"`
	Source  string          `json:"source"`
	Level   string          `json:"level"`
	Message json.RawMessage `json:"message"` // an array
	Time    time.Time       `json:"time"`
}

// Dataclip is a state that was received.
type Dataclip struct {
	// Form is string or object: how it lay in the message. The initial
	// dataclip has none.
	Form string `json:"form,omitempty"`
	// Wire is its size in the message, Size the size of its JSON text.
	Wire int64 `json:"wire"`
	Size int64 `json:"size"`
	// CRC is the IEEE checksum of its JSON text.
	CRC uint32 `json:"crc"`
	// Text is nil with CountOnly, and where the run's output_dataclips is false.
	Text json.RawMessage `json:"-"`
	// Withheld: only the id was sent.
	Withheld bool `json:"withheld,omitempty"`
}

func (r *RunRecord) clone() *RunRecord {
	c := *r
	c.Steps, c.Logs, c.Events = slices.Clone(r.Steps), slices.Clone(r.Logs), slices.Clone(r.Events)
	c.Dataclips = maps.Clone(r.Dataclips)
	return &c
}

// Step returns the record of the n-th execution of a job, from 0, or nil.
func (r *RunRecord) Step(job string, n int) *Step {
	for i := range r.Steps {
		if r.Steps[i].Job == job {
			if n == 0 {
				return &r.Steps[i]
			}
			n--
		}
	}
	return nil
}
