package ipc

import (
	"math"
	"time"

	"github.com/millrace/millrace/shm"
)

// The heads of the messages in bytes, field by field as PROTOCOL.md lists them.

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
	case TypeCall:
		return new(Call), nil
	case TypeResult:
		return new(Result), nil
	case TypeForget:
		return new(Forget), nil
	case TypeForward:
		return new(Forward), nil
	case TypeStream:
		return new(Stream), nil
	case TypeConsume:
		return new(Consume), nil
	case TypeStreamRing:
		return new(StreamRing), nil
	case TypeWake:
		return new(Wake), nil
	case TypeStreamEnd:
		return new(StreamEnd), nil
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
	e.u64(m.After)
	e.strs(m.Needs)
}
func (m *Execute) parseHead(d *decoder) {
	m.Code, m.Run, m.Step, m.Attempt = d.u64(), d.str(), d.str(), d.u32()
	m.Timeout = time.Duration(min(d.u64(), math.MaxInt64))
	m.MemoryLimit, m.Budget = d.u64(), d.u64()
	m.Upstream, m.Conditions, m.After = d.str(), d.strs(), d.u64()
	m.Needs = d.strs()
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
