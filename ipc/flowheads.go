package ipc

import (
	"math"
	"time"

	"github.com/millrace/millrace/shm"
)

// The heads of the messages of flow.go, field by field as PROTOCOL.md lists
// them.

func (*Call) Type() Type { return TypeCall }
func (m *Call) appendHead(e *encoder) {
	e.str(m.Step)
	e.str(string(m.Until))
	e.u64(uint64(max(m.Timeout, 0)))
	e.blocks(m.Blocks)
}
func (m *Call) parseHead(d *decoder) {
	m.Step, m.Until = d.str(), Until(d.str())
	m.Timeout = time.Duration(min(d.u64(), math.MaxInt64))
	m.Blocks = d.blocks()
}

func (*Result) Type() Type              { return TypeResult }
func (m *Result) appendHead(e *encoder) { e.str(m.Step) }
func (m *Result) parseHead(d *decoder)  { m.Step = d.str() }

func (*Forget) Type() Type { return TypeForget }
func (m *Forget) appendHead(e *encoder) {
	e.u32(uint32(len(m.Calls)))
	for _, id := range m.Calls {
		e.u64(id)
	}
}
func (m *Forget) parseHead(d *decoder) {
	if n := d.count(8); n > 0 {
		m.Calls = make([]uint64, n)
		for i := range m.Calls {
			m.Calls[i] = d.u64()
		}
	}
}

func (*Forward) Type() Type              { return TypeForward }
func (m *Forward) appendHead(e *encoder) { e.str(m.Step) }
func (m *Forward) parseHead(d *decoder)  { m.Step = d.str() }

func (*Stream) Type() Type { return TypeStream }
func (m *Stream) appendHead(e *encoder) {
	e.str(m.Key)
	e.u8(uint8(m.Encoding))
	e.u64(m.Capacity)
	e.blocks(m.Blocks)
}
func (m *Stream) parseHead(d *decoder) {
	m.Key, m.Encoding, m.Capacity = d.str(), shm.Encoding(d.u8()), d.u64()
	m.Blocks = d.blocks()
}

func (*Consume) Type() Type              { return TypeConsume }
func (m *Consume) appendHead(e *encoder) { e.u64(uint64(m.Stream)) }
func (m *Consume) parseHead(d *decoder)  { m.Stream = shm.SegmentID(d.u64()) }

func (*StreamRing) Type() Type { return TypeStreamRing }
func (m *StreamRing) appendHead(e *encoder) {
	e.u64(uint64(m.Stream))
	e.u64(m.Capacity)
	e.u32(m.MaxDemand)
	e.u32(m.MinDemand)
	manual := uint8(0)
	if m.Manual {
		manual = 1
	}
	e.u8(manual)
}
func (m *StreamRing) parseHead(d *decoder) {
	m.Stream, m.Capacity = shm.SegmentID(d.u64()), d.u64()
	m.MaxDemand, m.MinDemand, m.Manual = d.u32(), d.u32(), d.u8() != 0
}

func (*Wake) Type() Type              { return TypeWake }
func (m *Wake) appendHead(e *encoder) { e.u64(uint64(m.Stream)) }
func (m *Wake) parseHead(d *decoder)  { m.Stream = shm.SegmentID(d.u64()) }

func (*StreamEnd) Type() Type { return TypeStreamEnd }
func (m *StreamEnd) appendHead(e *encoder) {
	e.u64(uint64(m.Stream))
	e.str(string(m.Severity))
	e.str(m.Name)
	e.str(m.Message)
}
func (m *StreamEnd) parseHead(d *decoder) {
	m.Stream, m.Severity = shm.SegmentID(d.u64()), Severity(d.str())
	m.Name, m.Message = d.str(), d.str()
}
