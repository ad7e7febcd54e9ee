package ipc

import (
	"time"

	"github.com/millrace/millrace/shm"
)

// Message is the head of a frame. The types of this file implement it; their
// fields stand in the order in which PROTOCOL.md lists them.
type Message interface {
	// Type returns the frame type that carries the message.
	Type() Type
	appendHead(*encoder)
	parseHead(*decoder)
}

// Capabilities that an executor may announce and a supervisor grant.
const (
	// CapabilityRing is the shared ring in place of the socket.
	CapabilityRing = "ring"
	// CapabilityConditions is the evaluation of edge conditions by the
	// executor, where the state is live.
	CapabilityConditions = "conditions"
	// CapabilityAhead is an execute that is sent before the one it follows has
	// been answered: see Execute.After.
	CapabilityAhead = "ahead"
)

// Hello is an executor's first message.
type Hello struct {
	MinVersion, MaxVersion uint16
	PID                    uint32
	// Language names the library: "go", "node", "python", "command", …
	Language string
	// Release is the library's own version, for logs.
	Release string
	// Capabilities it can use; unknown ones are ignored.
	Capabilities []string
	// Functions it has registered; empty for one that gets its code by prepare.
	Functions []string
}

// Welcome is the supervisor's answer to Hello. With CapabilityRing granted the
// frame brings the ring's descriptor.
type Welcome struct {
	Version uint16
	// Executor is the prefix of the ids of the segments that this executor
	// makes: id = Executor<<32 | n, n counting from 1.
	Executor uint32
	// Capabilities granted: those announced that are to be used.
	Capabilities []string
	// RingSize is the capacity in bytes of each direction's ring.
	RingSize uint32
	// RetainBytes is how much resident memory of freed large segments the
	// executor may keep for reuse.
	RetainBytes uint64
	// PrefaultBytes is how much of it to have ready before the first step.
	PrefaultBytes uint64
	// DropKeys are the top-level keys never to be passed on.
	DropKeys []string
}

// Attach hands over a segment: the frame brings its descriptor.
type Attach struct {
	Segment shm.SegmentID
	Size    uint64
}

// Detach says that segments are gone: from the supervisor, unmap and close
// them; from an executor, I closed mine.
type Detach struct {
	Segments []shm.SegmentID
}

// Release gives blocks back to the executor that wrote them.
type Release struct {
	Blocks []shm.Block
}

// Prepare hands over the code of a step, once, before the first execute that
// names it.
type Prepare struct {
	Code uint64
	// Kind says what Spec is: "function", "command", "javascript", "python".
	Kind string
	// Spec is a JSON object whose members the kind defines.
	Spec string
}

// Execute asks for one execution of a step on the state in the frame's table.
// The reply, with the same id, is Done or Fail.
type Execute struct {
	Code uint64
	Run  string
	Step string
	// Attempt counts from 1.
	Attempt uint32
	// Timeout is the time the step has from now; 0 is none. The supervisor
	// enforces it; the executor may use it to fail with a better error.
	Timeout time.Duration
	// MemoryLimit is what the executor's process may use, in bytes; 0 is none.
	MemoryLimit uint64
	// Budget is the payload in bytes that the step may still publish; 0 is no
	// limit.
	Budget uint64
	// Upstream is the id of the step the state comes from.
	Upstream string
	// Conditions are the step's outgoing edge conditions, when the executor has
	// CapabilityConditions.
	Conditions []string
	// After, with CapabilityAhead, is the id of the execute that this one follows:
	// the last one before it, answered or not. The step's input is then what that
	// one is answered with, with the rows of this frame's table set in it. It is
	// answered with a Fail that has no Started, and not begun, unless that one was
	// answered with a Done that leaves nothing open: PROTOCOL.md says what.
	After uint64
	// Needs are keys that the state must have then, each with a value that is not
	// null, false, 0 or "": what is to be done without is not the executor's to
	// know. Only with After.
	Needs []string
}

// LongestNone is the length in bytes of the longest JSON text that is taken for
// one of null, false, 0 and "".
const LongestNone = 8

// Verdict is the outcome of one condition.
type Verdict struct {
	Taken bool
	// Error is why the condition could not be evaluated, or "".
	Error string
}

// Done is a step's result: its new state is the frame's table.
type Done struct {
	// Started and Finished are CLOCK_MONOTONIC in nanoseconds, just before and
	// just after the step's own code.
	Started, Finished uint64
	// Blocks published by this message: every reference of the table into a
	// segment of this executor's lies in one of them, or in one published
	// before and still referred to.
	Blocks []shm.Block
	// Decoded and Encoded are the bytes of values the step decoded and encoded.
	Decoded, Encoded uint64
	// Verdicts answer Execute.Conditions, in order.
	Verdicts []Verdict
}

// Severity says what a failure ends.
type Severity string

// Severities, in OpenFn's words.
const (
	SeverityFail      Severity = "fail"      // the step; the run goes on along the edges that allow it
	SeverityCrash     Severity = "crash"     // the run; the user's code is at fault
	SeverityKill      Severity = "kill"      // the run; a limit was passed
	SeverityException Severity = "exception" // the run; the platform is at fault
	SeverityCancel    Severity = "cancel"    // the run; somebody asked for it
)

// Fail is a request's failure.
type Fail struct {
	Started, Finished uint64
	Severity          Severity
	// Name is the error's class, in OpenFn's words: JobError, RuntimeError, …
	Name string
	// Message is for people, one line if it can be.
	Message string
	// Details is a JSON object of what else is known (stack, path, key, size,
	// limit, exit code, the tail of stderr), or "".
	Details string
}

// Cancel asks the peer to stop working on the request of the frame's id. The
// request is still answered.
type Cancel struct {
	Reason string
}

// Log is a line of a step's log; the frame's id is that of its execute.
type Log struct {
	// Time is Unix time in microseconds.
	Time  uint64
	Level string
	// Source is where it comes from: "job", "stderr", "runtime", …
	Source string
	// Message is text, or JSON where Structured says so.
	Message    string
	Structured bool
}

// Ping asks for a Pong with the same id.
type Ping struct{}

// Pong answers a Ping.
type Pong struct{}

// Shutdown asks the executor to finish what it runs and exit.
type Shutdown struct{}

// doorbell and fromSocket are the channel's own.
type doorbell struct{}
type fromSocket struct{}
