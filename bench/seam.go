package bench

import (
	"context"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/bench/workload"
)

// Role says what a case is compared as.
type Role string

// The roles. Ratios are taken against the one baseline, and against the best
// of the peers.
const (
	Baseline Role = "baseline" // what hosts do today
	Peer     Role = "peer"     // another way to move raw bytes
	Subject  Role = "subject"  // what this project offers
)

// Work says what each step does to the state, and so which outcome is right.
type Work string

// The kinds of work.
const (
	Rewrite Work = "rewrite" // read every byte of the large key, write a new value of its size: workload.Rewrite
	Forward Work = "forward" // leave the large key alone, raise "count" by one
)

// Info describes a case; it must not change.
type Info struct {
	Name  string `json:"name"`  // short and unique: for flags and file keys
	Title string `json:"title"` // for people, at most 24 characters, or plots cut it
	Role  Role   `json:"role"`
	Work  Work   `json:"work"`
}

// Case is one way of passing a state through the chain.
type Case interface {
	Info() Info

	// Start brings up the supervisor process and the step processes, warm and
	// holding the payload, ready to run. The supervisor is a process of its
	// own, never the caller: the harness does not belong to the measurement.
	// The payload's file stays valid until Close. Start must be ready to be
	// called for several sizes, one session at a time.
	Start(ctx context.Context, payload *workload.Payload) (Session, error)
}

// Session is a running chain. Its methods are called one at a time, except
// for PIDs, which the memory sampler calls while a run is under way.
type Session interface {
	// Run passes the payload through the three steps n times, one run straight
	// after the other, and returns one sample a run. Nothing but the runs may
	// happen in between: no logging, no forced collection.
	Run(ctx context.Context, n int) ([]RunSample, error)

	// Outcome identifies the final state of the latest run. It may be slow.
	Outcome(ctx context.Context) (workload.Outcome, error)

	// Counters returns the allocations of all the session's Go processes since
	// they started (runtime.MemStats: Mallocs, TotalAlloc), summed.
	Counters(ctx context.Context) (Counters, error)

	// PIDs returns the live processes of the session, supervisor included.
	PIDs() []int

	// Close ends every process of the session and waits for them.
	Close() error
}

// RunSample is what one run reports. Stamps are taken with workload.Now.
type RunSample struct {
	// Wall is the time from the supervisor's holding the input state, ready to
	// be handed to the first step, to its holding the final state, ready to be
	// sent on.
	Wall time.Duration `json:"wall"`

	// Handovers are the times from one step's code having produced its result
	// to the next step's code having its input: one less than there are steps.
	Handovers [workload.Steps - 1]time.Duration `json:"handovers"`
}

// Counters are sums over processes, monotonic within a session.
type Counters struct {
	Mallocs uint64 `json:"mallocs"` // heap objects allocated
	Bytes   uint64 `json:"bytes"`   // heap bytes allocated
}

// Add returns the sum of c and d.
func (c Counters) Add(d Counters) Counters {
	return Counters{Mallocs: c.Mallocs + d.Mallocs, Bytes: c.Bytes + d.Bytes}
}

// PingCase is a way of asking another process to do nothing, and waiting for
// its answer: for millrace, an empty step through the control channel.
type PingCase interface {
	Info() Info
	StartPing(ctx context.Context) (PingSession, error)
}

// PingSession is a warm pair of processes.
type PingSession interface {
	// Ping makes n round trips one after the other and returns how long each
	// took. Before each it sleeps for idle, untimed; with idle zero both sides
	// stay busy.
	Ping(ctx context.Context, n int, idle time.Duration) ([]time.Duration, error)

	// PIDs returns the live processes of the session.
	PIDs() []int

	// Close ends every process of the session and waits for them.
	Close() error
}

// CPUCounter is a [Session] whose processes come and go, so that their CPU
// cannot be read from outside.
type CPUCounter interface {
	// CPU returns the user and system time of all the session's processes so
	// far, those that are gone included.
	CPU(ctx context.Context) (time.Duration, error)
}

// FigureCase measures figures that have no peer to be compared with, each
// against a limit of its own.
type FigureCase interface {
	Name() string // short and unique among cases and round trips too

	// Figures takes the measurements. With quick it is to take a few seconds.
	// A figure that this machine has no room for is left out, with a note.
	Figures(ctx context.Context, quick bool) (figures []Figure, notes []string, err error)
}

// Figure is one measured number and what it is to be.
type Figure struct {
	Title   string         `json:"title"`
	Spread  measure.Spread `json:"value"`
	Unit    Unit           `json:"unit"`
	Limit   float64        `json:"limit"`    // in the same unit; 0: none
	AtLeast bool           `json:"at_least"` // the limit is a floor
}

// Met tells whether the figure's median keeps the limit.
func (f *Figure) Met() bool {
	if f.AtLeast {
		return f.Spread.Median >= f.Limit
	}
	return f.Limit == 0 || f.Spread.Median <= f.Limit
}

// Unit says how a figure is written.
type Unit string

// The units.
const (
	Nanoseconds Unit = "ns"
	Bytes       Unit = "bytes"
	Times       Unit = "times" // a ratio
	PerSecond   Unit = "1/s"
	Cores       Unit = "cores" // share of a core, 1 is all of one
)
