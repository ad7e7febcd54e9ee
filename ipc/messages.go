package ipc

import (
	"math"
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
}

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

func newMessage(t Type) (Message, error) {
	switch t {
	case TypeHello:
		return new(Hello), nil
	case TypeWelcome:
		return new(Welcome), nil
	case TypeAttach:
		return new(Attach), nil
	case TypeDetach:
		return new(Detach), nil
	case TypeRelease:
		return new(Release), nil
	case TypePrepare:
		return new(Prepare), nil
	case TypeExecute:
		return new(Execute), nil
	case TypeDone:
		return new(Done), nil
	case TypeFail:
		return new(Fail), nil
	case TypeCancel:
		return new(Cancel), nil
	case TypeLog:
		return new(Log), nil
	case TypePing:
		return new(Ping), nil
	case TypePong:
		return new(Pong), nil
	case TypeShutdown:
		return new(Shutdown), nil
	case TypeDoorbell:
		return new(doorbell), nil
	case TypeFromSocket:
		return new(fromSocket), nil
	}
	return nil, protocolErrorf("unknown frame type %d", uint8(t))
}

func (*Hello) Type() Type { return TypeHello }
func (m *Hello) appendHead(e *encoder) {
	e.u16(m.MinVersion)
	e.u16(m.MaxVersion)
	e.u32(m.PID)
	e.str(m.Language)
	e.str(m.Release)
	e.strs(m.Capabilities)
	e.strs(m.Functions)
}
func (m *Hello) parseHead(d *decoder) {
	m.MinVersion, m.MaxVersion, m.PID = d.u16(), d.u16(), d.u32()
	m.Language, m.Release = d.str(), d.str()
	m.Capabilities, m.Functions = d.strs(), d.strs()
}

func (*Welcome) Type() Type { return TypeWelcome }
func (m *Welcome) appendHead(e *encoder) {
	e.u16(m.Version)
	e.u32(m.Executor)
	e.strs(m.Capabilities)
	e.u32(m.RingSize)
	e.u64(m.RetainBytes)
	e.u64(m.PrefaultBytes)
	e.strs(m.DropKeys)
}
func (m *Welcome) parseHead(d *decoder) {
	m.Version, m.Executor, m.Capabilities = d.u16(), d.u32(), d.strs()
	m.RingSize, m.RetainBytes, m.PrefaultBytes = d.u32(), d.u64(), d.u64()
	m.DropKeys = d.strs()
}

func (*Attach) Type() Type { return TypeAttach }
func (m *Attach) appendHead(e *encoder) {
	e.u64(uint64(m.Segment))
	e.u64(m.Size)
}
func (m *Attach) parseHead(d *decoder) { m.Segment, m.Size = shm.SegmentID(d.u64()), d.u64() }

func (*Detach) Type() Type { return TypeDetach }
func (m *Detach) appendHead(e *encoder) {
	e.u32(uint32(len(m.Segments)))
	for _, s := range m.Segments {
		e.u64(uint64(s))
	}
}
func (m *Detach) parseHead(d *decoder) {
	if n := d.count(8); n > 0 {
		m.Segments = make([]shm.SegmentID, n)
		for i := range m.Segments {
			m.Segments[i] = shm.SegmentID(d.u64())
		}
	}
}

func (*Release) Type() Type              { return TypeRelease }
func (m *Release) appendHead(e *encoder) { e.blocks(m.Blocks) }
func (m *Release) parseHead(d *decoder)  { m.Blocks = d.blocks() }

func (*Prepare) Type() Type { return TypePrepare }
func (m *Prepare) appendHead(e *encoder) {
	e.u64(m.Code)
	e.str(m.Kind)
	e.str(m.Spec)
}
func (m *Prepare) parseHead(d *decoder) { m.Code, m.Kind, m.Spec = d.u64(), d.str(), d.str() }

func (*Execute) Type() Type { return TypeExecute }
func (m *Execute) appendHead(e *encoder) {
	e.u64(m.Code)
	e.str(m.Run)
	e.str(m.Step)
	e.u32(m.Attempt)
	e.u64(uint64(max(m.Timeout, 0)))
	e.u64(m.MemoryLimit)
	e.u64(m.Budget)
	e.str(m.Upstream)
	e.strs(m.Conditions)
}
func (m *Execute) parseHead(d *decoder) {
	m.Code, m.Run, m.Step, m.Attempt = d.u64(), d.str(), d.str(), d.u32()
	m.Timeout = time.Duration(min(d.u64(), math.MaxInt64))
	m.MemoryLimit, m.Budget = d.u64(), d.u64()
	m.Upstream, m.Conditions = d.str(), d.strs()
}

func (*Done) Type() Type { return TypeDone }
func (m *Done) appendHead(e *encoder) {
	e.u64(m.Started)
	e.u64(m.Finished)
	e.blocks(m.Blocks)
	e.u64(m.Decoded)
	e.u64(m.Encoded)
	e.u32(uint32(len(m.Verdicts)))
	for _, v := range m.Verdicts {
		taken := uint8(0)
		if v.Taken {
			taken = 1
		}
		e.u8(taken)
		e.str(v.Error)
	}
}
func (m *Done) parseHead(d *decoder) {
	m.Started, m.Finished, m.Blocks = d.u64(), d.u64(), d.blocks()
	m.Decoded, m.Encoded = d.u64(), d.u64()
	if n := d.count(5); n > 0 {
		m.Verdicts = make([]Verdict, n)
		for i := range m.Verdicts {
			m.Verdicts[i] = Verdict{Taken: d.u8() != 0, Error: d.str()}
		}
	}
}

func (*Fail) Type() Type { return TypeFail }
func (m *Fail) appendHead(e *encoder) {
	e.u64(m.Started)
	e.u64(m.Finished)
	e.str(string(m.Severity))
	e.str(m.Name)
	e.str(m.Message)
	e.str(m.Details)
}
func (m *Fail) parseHead(d *decoder) {
	m.Started, m.Finished, m.Severity = d.u64(), d.u64(), Severity(d.str())
	m.Name, m.Message, m.Details = d.str(), d.str(), d.str()
}

func (*Cancel) Type() Type              { return TypeCancel }
func (m *Cancel) appendHead(e *encoder) { e.str(m.Reason) }
func (m *Cancel) parseHead(d *decoder)  { m.Reason = d.str() }

func (*Log) Type() Type { return TypeLog }
func (m *Log) appendHead(e *encoder) {
	e.u64(m.Time)
	e.str(m.Level)
	e.str(m.Source)
	e.str(m.Message)
	structured := uint8(0)
	if m.Structured {
		structured = 1
	}
	e.u8(structured)
}
func (m *Log) parseHead(d *decoder) {
	m.Time, m.Level, m.Source, m.Message = d.u64(), d.str(), d.str(), d.str()
	m.Structured = d.u8() != 0
}

func (*Ping) Type() Type              { return TypePing }
func (*Ping) appendHead(*encoder)     {}
func (*Ping) parseHead(*decoder)      {}
func (*Pong) Type() Type              { return TypePong }
func (*Pong) appendHead(*encoder)     {}
func (*Pong) parseHead(*decoder)      {}
func (*Shutdown) Type() Type          { return TypeShutdown }
func (*Shutdown) appendHead(*encoder) {}
func (*Shutdown) parseHead(*decoder)  {}

func (*doorbell) Type() Type            { return TypeDoorbell }
func (*doorbell) appendHead(*encoder)   {}
func (*doorbell) parseHead(*decoder)    {}
func (*fromSocket) Type() Type          { return TypeFromSocket }
func (*fromSocket) appendHead(*encoder) {}
func (*fromSocket) parseHead(*decoder)  {}
