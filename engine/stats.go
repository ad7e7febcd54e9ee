package engine

import (
	"sync"
	"time"
)

// maxReports bounds the step reports that a run keeps; the sums go on.
const maxReports = 100_000

// StepReport is what is known of one execution of a step.
type StepReport struct {
	ID       string `json:"id"`
	Status   Status `json:"status"`
	Attempts int    `json:"attempts"`
	// DurationUS is the time in the step's own code, in microseconds.
	DurationUS float64 `json:"duration_us"`
	// HandoverUS is the time from the end of the former step's code (for a
	// first step: from the run's start) to the begin of this one's.
	HandoverUS float64 `json:"handover_us"`
	// InputBytes and OutputBytes are the sizes of its states, ReusedBytes the
	// part of the output that was there before and was passed on.
	InputBytes  uint64 `json:"input_bytes"`
	OutputBytes uint64 `json:"output_bytes"`
	ReusedBytes uint64 `json:"reused_bytes"`
	// DecodedBytes and EncodedBytes are what the step says it decoded and
	// encoded.
	DecodedBytes uint64 `json:"decoded_bytes"`
	EncodedBytes uint64 `json:"encoded_bytes"`
	// MemoryBytes is the largest resident size its executor ever had; 0 when
	// the step was too short to look.
	MemoryBytes uint64 `json:"memory_bytes,omitempty"`
	// Error is "Name: message" of a failure.
	Error string `json:"error,omitempty"`
}

// PeakRSS are largest resident sizes in bytes. Executors is the sum of each
// one's own, an upper bound of what they had at any one time; pages of state
// that several map are in each.
type PeakRSS struct {
	Supervisor uint64 `json:"supervisor"`
	Executors  uint64 `json:"executors"`
}

// Stats are the figures of a run.
type Stats struct {
	Run    string `json:"run"`
	Status Status `json:"status"`
	// DurationUS is the time from Submit to the run's end.
	DurationUS float64 `json:"duration_us"`
	// PayloadBytes were written into shared memory by steps.
	PayloadBytes uint64 `json:"payload_bytes"`
	// InputBytes were read into shared memory as the run's input.
	InputBytes uint64 `json:"input_bytes"`
	// PeakStateBytes is the most that the run's states took at any one time.
	PeakStateBytes uint64 `json:"peak_state_bytes"`
	// ControlBytes crossed the control channels of the engine's executors, in
	// both directions, since the run began.
	ControlBytes uint64 `json:"control_bytes"`
	// SupervisorDecodes and SupervisorEncodes count the state values that this
	// process turned from JSON into values and back. Scalars that a condition
	// asks for are counted apart, as ConditionScalars.
	SupervisorDecodes uint64  `json:"supervisor_decodes"`
	SupervisorEncodes uint64  `json:"supervisor_encodes"`
	ConditionScalars  uint64  `json:"condition_scalars"`
	PeakRSSBytes      PeakRSS `json:"peak_rss_bytes"`
	// Steps in the order in which they ended; StepsOmitted more ended after
	// those.
	Steps        []StepReport `json:"steps"`
	StepsOmitted int          `json:"steps_omitted,omitempty"`
}

// reports collects a run's step reports.
type reports struct {
	mu      sync.Mutex
	steps   []StepReport
	omitted int
}

func (r *reports) add(s StepReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.steps) == maxReports {
		r.omitted++
		return
	}
	r.steps = append(r.steps, s)
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
