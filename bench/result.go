package bench

import (
	"time"

	"github.com/millrace/millrace/bench/measure"
)

// Result is everything that a benchmark found; it is what the JSON file holds.
type Result struct {
	Started    time.Time     `json:"started"`
	Elapsed    time.Duration `json:"elapsed_ns"`
	Quick      bool          `json:"quick"`
	Machine    Machine       `json:"machine"`
	Data       string        `json:"data"` // where the records come from
	Sizes      []int         `json:"sizes"`
	Cases      []Info        `json:"cases"`
	Points     []Point       `json:"points"`
	RoundTrips []RoundTrip   `json:"round_trips"`
	Figures    []Figure      `json:"figures,omitempty"`
	Notes      []string      `json:"notes,omitempty"` // what was left out, and why
}

// Point is one case at one size. Times are nanoseconds, memory bytes.
type Point struct {
	Case         string         `json:"case"`
	Size         int            `json:"size"`          // asked for
	PayloadBytes int            `json:"payload_bytes"` // as built
	Runs         int            `json:"runs"`          // timed
	Wall         measure.Spread `json:"wall_ns"`
	Handover     measure.Spread `json:"handover_ns"`
	CPU          measure.Spread `json:"cpu_ns"` // user and system, all processes, one run
	Peak         measure.Memory `json:"peak"`
	PeakBytes    int64          `json:"peak_bytes"` // Peak.Total
	Mallocs      float64        `json:"mallocs"`    // heap objects, one run
	AllocBytes   float64        `json:"alloc_bytes"`
}

// RoundTrip is one way of asking for nothing.
type RoundTrip struct {
	Info    Info           `json:"case"`
	Busy    measure.Spread `json:"busy_ns"`       // straight after another
	Idle    measure.Spread `json:"idle_ns"`       // after a pause
	Pause   time.Duration  `json:"pause_ns"`      // that pause
	Resting float64        `json:"resting_cores"` // CPU used while nothing is asked, in cores
}

// Point returns the point of a case at a size, or nil.
func (r *Result) Point(name string, size int) *Point {
	for i := range r.Points {
		if p := &r.Points[i]; p.Case == name && p.Size == size {
			return p
		}
	}
	return nil
}

// BaselineName returns the name of the case that ratios are taken against, or
// "" when it did not run.
func (r *Result) BaselineName() string {
	for _, c := range r.Cases {
		if c.Role == Baseline {
			return c.Name
		}
	}
	return ""
}

// BestPeer returns the fastest peer's point at a size, or nil when there is
// none.
func (r *Result) BestPeer(size int) *Point {
	var best *Point
	for _, c := range r.Cases {
		if c.Role != Peer {
			continue
		}
		if p := r.Point(c.Name, size); p != nil && (best == nil || p.Wall.Median < best.Wall.Median) {
			best = p
		}
	}
	return best
}
