package ipc

import (
	"time"

	"github.com/millrace/millrace/shm"
)

// Capabilities of executors whose steps use other steps.
const (
	// CapabilityCalls is call, forget and forward.
	CapabilityCalls = "calls"
	// CapabilityStreams is stream, consume, wake and stream-end.
	CapabilityStreams = "streams"
)

// Until says when a call returns.
type Until string

// The ends of a call.
const (
	// UntilStep is when the called step has ended: its state is the result.
	UntilStep Until = "step"
	// UntilLeaf is when the branch that begins with the called step has reached
	// its leaves: their state is the result, as a run's final state would be.
	UntilLeaf Until = "leaf"
)

// Call runs another step of the plan, for the step that this executor runs, on
// the state in the frame's table. The id is the executor's; the answer is a
// Result or a Fail, and Cancel ends it early. Many may be under way.
type Call struct {
	Step  string
	Until Until
	// Timeout is the time the call has from now; 0 is none. The argument stays
	// readable until the answer or this moment, whichever is first.
	Timeout time.Duration
	// Blocks are published by this message, as Done's are.
	Blocks []shm.Block
}

// Result answers a Call: the frame's table is what came of it. The caller may
// read it, and use its references in what it publishes, until its step ends or
// it sends a Forget.
type Result struct {
	// Step is the id of the step that ended the call.
	Step string
}

// Forget says that the results of the caller's answered calls are not read any
// more. Unknown ids are ignored.
type Forget struct {
	Calls []uint64
}

// Forward has the branch go on to a step of the caller's choice instead of
// along its edges, once the step has ended well. The frame's id is that of the
// execute. The last one before the answer counts.
type Forward struct {
	Step string
}

// Stream hands the state in the frame's table over to the next steps now, while
// this step goes on to feed the stream which the supervisor puts under Key. The
// id is the executor's; the answer is a StreamRing or a Fail. A step hands over
// once; its Done then carries no table.
type Stream struct {
	Key string
	// Encoding of the items.
	Encoding shm.Encoding
	// Capacity of the ring that the producer wants, in bytes; 0 is the default.
	Capacity uint64
	// Blocks are published by this message, as Done's are.
	Blocks []shm.Block
}

// Consume asks for the ring of a stream in the step's input. The id is the
// executor's; the answer is a StreamRing or a Fail. A stream has one consumer.
type Consume struct {
	Stream shm.SegmentID
}

// StreamRing hands over a stream's memory: the frame brings its descriptor.
type StreamRing struct {
	Stream shm.SegmentID
	// Capacity is the ring's, in bytes; the descriptor's size is 4096 more.
	Capacity uint64
	// MaxDemand and MinDemand are how many items a consumer asks for ahead, and
	// at how many left it asks again. Manual: only when its step says so.
	MaxDemand, MinDemand uint32
	Manual               bool
}

// Wake says that the other end of a stream sleeps no more without cause: look
// at its ring. The supervisor passes it on. One for a stream that has ended is
// ignored.
type Wake struct {
	Stream shm.SegmentID
}

// StreamEnd says that one end of a stream is finished: from an executor, its
// own; from the supervisor, the other one. Without a Name all is well: the
// producer has written all its items, or the consumer wants no more.
type StreamEnd struct {
	Stream   shm.SegmentID
	Severity Severity
	// Name and Message are the error of the step that fed or read it.
	Name, Message string
}
