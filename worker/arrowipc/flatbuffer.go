package arrowipc

import "encoding/binary"

// metadata is the flatbuffer of one message. All reads go through it: they are
// bounds-checked, load shared memory once, and never panic. The first fault
// sticks in err and later reads give zero, so that callers check once.
type metadata struct {
	b    []byte
	base int64 // offset of b in the whole input, for errors
	err  error
}

func (m *metadata) fail(at int64, what string) {
	if m.err == nil {
		m.err = formatErrorf(m.base+at, "metadata of %d bytes: %s", len(m.b), what)
	}
}

func (m *metadata) outside(at, n int64) {
	if m.err == nil {
		m.err = formatErrorf(m.base, "metadata of %d bytes: a reference to %d bytes at %d", len(m.b), n, at)
	}
}

// span gives n bytes at the given position, or nil and a fault.
func (m *metadata) span(at, n int64) []byte {
	if m.err != nil {
		return nil
	}
	if at < 0 || n < 0 || at > int64(len(m.b))-n {
		m.outside(at, n)
		return nil
	}
	return m.b[at : at+n : at+n]
}

func (m *metadata) u8(at int64) byte {
	if b := m.span(at, 1); b != nil {
		return b[0]
	}
	return 0
}

func (m *metadata) u16(at int64) uint16 {
	if b := m.span(at, 2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (m *metadata) u32(at int64) uint32 {
	if b := m.span(at, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (m *metadata) i64(at int64) int64 {
	if b := m.span(at, 8); b != nil {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return 0
}

// follow gives the target of the unsigned offset stored at the position.
// Offsets only point forward, so a chain of them ends.
func (m *metadata) follow(at int64) int64 {
	off := int64(m.u32(at))
	if m.err == nil && off == 0 {
		m.fail(at, "offset to itself")
	}
	return at + off
}

// table is one flatbuffers table: a position and its vtable.
type table struct {
	m          *metadata
	at         int64
	vtable     int64
	vtableSize int64
}

func (m *metadata) root() table { return m.table(m.follow(0)) }

func (m *metadata) table(at int64) table {
	t := table{m: m, at: at}
	t.vtable = at - int64(int32(m.u32(at)))
	t.vtableSize = int64(m.u16(t.vtable))
	m.span(t.vtable, t.vtableSize)
	return t
}

// field gives the position of the field with the given vtable offset (4 for
// the first field of the schema, 6 for the second, and so on), 0 if absent.
//
// It must see each field that the flatbuffers library sees, or schemaCheck
// would not check what arrow then decodes: also the one that only begins
// inside a vtable of odd size.
func (t table) field(slot int64) int64 {
	if t.m.err != nil || slot >= t.vtableSize {
		return 0
	}
	off := int64(t.m.u16(t.vtable + slot))
	if off == 0 {
		return 0
	}
	return t.at + off
}

func (t table) byteAt(slot int64) byte {
	if at := t.field(slot); at != 0 {
		return t.m.u8(at)
	}
	return 0
}

func (t table) int16At(slot int64) int16 {
	if at := t.field(slot); at != 0 {
		return int16(t.m.u16(at))
	}
	return 0
}

func (t table) int32At(slot int64) int32 {
	if at := t.field(slot); at != 0 {
		return int32(t.m.u32(at))
	}
	return 0
}

func (t table) int64At(slot int64) int64 {
	if at := t.field(slot); at != 0 {
		return t.m.i64(at)
	}
	return 0
}

// tableAt gives the table a field refers to, and whether there is one.
func (t table) tableAt(slot int64) (table, bool) {
	at := t.field(slot)
	if at == 0 {
		return table{}, false
	}
	sub := t.m.table(t.m.follow(at))
	return sub, t.m.err == nil
}

// vector is a flatbuffers vector whose elements all lie inside the metadata.
type vector struct {
	m     *metadata
	start int64
	n     int64
}

func (t table) vectorAt(slot, elemSize int64) vector {
	at := t.field(slot)
	if at == 0 {
		return vector{m: t.m}
	}
	at = t.m.follow(at)
	n := int64(t.m.u32(at))
	if t.m.span(at+4, n*elemSize) == nil {
		return vector{m: t.m}
	}
	return vector{m: t.m, start: at + 4, n: n}
}

// table gives element i of a vector of tables.
func (v vector) table(i int64) table { return v.m.table(v.m.follow(v.start + 4*i)) }

// pair gives element i of a vector of structs of two int64s, which is what
// Arrow's FieldNode and Buffer are.
func (v vector) pair(i int64) (int64, int64) {
	at := v.start + 16*i
	return v.m.i64(at), v.m.i64(at + 8)
}
