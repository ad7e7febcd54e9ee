package arrowipc

import (
	"bytes"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// MaxDepth is how deep types may nest: as deep as arrow's own reader allows.
const MaxDepth = 64

// maxScale bounds a decimal's scale in both directions. Formatting a decimal
// costs memory in proportion to it.
const maxScale = 76

// Values of Field.type_type that have something to check.
const (
	typeDecimal         = 7
	typeTimestamp       = 10
	typeUnion           = 14
	typeFixedSizeBinary = 15
)

// fieldInfo is what arrow.Schema does not carry: which dictionary a field
// takes its values from.
type fieldInfo struct {
	hasDict  bool
	dictID   int64
	children []fieldInfo
}

// openStream reads the first message, which must be the schema.
func (r *Reader) openStream() error {
	r.end = int64(len(r.buf))
	var msg message
	ok, err := readMessage(r.buf, 0, r.end, &msg)
	switch {
	case err != nil:
		return err
	case !ok:
		return formatErrorf(0, "no schema: the stream is empty")
	case msg.kind != headerSchema:
		return formatErrorf(msg.meta.base, "the first message must be a schema, not of type %d", msg.kind)
	case len(msg.body) != 0:
		return formatErrorf(msg.bodyAt, "a schema with a body of %d bytes", len(msg.body))
	}
	r.pos = msg.next
	return r.setSchema(bytes.Clone(msg.meta.b), msg.meta.base)
}

// setSchema decodes a schema message, whose metadata no one else can change.
// Arrow's decoder does the work, but it trusts its input: a table that contains
// itself overflows its stack, a huge count exhausts memory, and no recover
// helps against either. So all that it will follow is checked first.
func (r *Reader) setSchema(raw []byte, at int64) error {
	check := schemaCheck{
		m: &metadata{b: raw, base: at},
		// A field takes at least 8 bytes, so a tree has no more of them; only
		// fields that are shared between parents could. Builders may share
		// equal strings.
		fields: int64(len(raw)) / 8,
		text:   4*int64(len(raw)) + 1<<16,
	}
	infos := check.schema()
	if check.m.err != nil {
		return check.m.err
	}
	schema, err := decodeSchema(raw, at)
	if err != nil {
		return err
	}
	c := compiler{at: at, dicts: r.dicts}
	if r.columns, err = c.columns("", schema.Fields(), infos); err != nil {
		return err
	}
	r.schema = schema
	return nil
}

func decodeSchema(raw []byte, at int64) (schema *arrow.Schema, err error) {
	defer guard(at, &err)
	r, err := ipc.NewReaderFromMessageReader(&oneMessage{raw: raw})
	if err != nil {
		return nil, formatErrorf(at, "schema: %v", err)
	}
	defer r.Release()
	return r.Schema(), nil
}

// oneMessage hands one message without a body to arrow's reader.
type oneMessage struct{ raw []byte }

func (o *oneMessage) Message() (*ipc.Message, error) {
	return ipc.NewMessage(memory.NewBufferBytes(o.raw), memory.NewBufferBytes(nil)), nil
}
func (o *oneMessage) Retain()  {}
func (o *oneMessage) Release() {}

// schemaCheck walks everything that arrow's decoder will follow.
type schemaCheck struct {
	m      *metadata
	fields int64 // how many fields may still come
	text   int64 // how many bytes of strings and key-value pairs may still come
}

func (c *schemaCheck) schema() []fieldInfo {
	schema, ok := c.m.root().tableAt(8)
	if !ok {
		c.m.fail(0, "no schema")
		return nil
	}
	if schema.int16At(4) != 0 {
		c.m.fail(schema.at, "big-endian data is not readable")
		return nil
	}
	c.keyValues(schema.vectorAt(8, 4))
	return c.fieldList(schema.vectorAt(6, 4), 0)
}

func (c *schemaCheck) fieldList(v vector, depth int) []fieldInfo {
	if v.n == 0 || c.m.err != nil {
		return nil
	}
	if depth > MaxDepth {
		c.m.fail(v.start, "types nest too deep")
		return nil
	}
	if c.fields -= v.n; c.fields < 0 {
		c.m.fail(v.start, "more fields than its bytes can hold")
		return nil
	}
	infos := make([]fieldInfo, v.n)
	for i := range infos {
		infos[i] = c.field(v.table(int64(i)), depth)
		if c.m.err != nil {
			return nil
		}
	}
	return infos
}

func (c *schemaCheck) field(t table, depth int) fieldInfo {
	var info fieldInfo
	c.str(t, 4)
	if dict, ok := t.tableAt(12); ok {
		info.hasDict, info.dictID = true, dict.int64At(4)
	}
	c.keyValues(t.vectorAt(16, 4))
	if typ, ok := t.tableAt(10); ok {
		c.typ(t.byteAt(8), typ)
	}
	info.children = c.fieldList(t.vectorAt(14, 4), depth+1)
	return info
}

func (c *schemaCheck) typ(kind byte, typ table) {
	switch kind {
	case typeDecimal:
		if scale := typ.int32At(6); scale < -maxScale || scale > maxScale {
			c.m.fail(typ.at, "a decimal's scale is out of range")
		}
	case typeTimestamp:
		c.str(typ, 6)
	case typeUnion:
		if v := typ.vectorAt(6, 4); v.n > 128 {
			c.m.fail(v.start, "a union of more than 128 types")
		}
	case typeFixedSizeBinary:
		if typ.int32At(4) < 0 {
			c.m.fail(typ.at, "a fixed-size binary of negative size")
		}
	}
}

func (c *schemaCheck) keyValues(v vector) {
	// Arrow keeps two strings for each pair, even for empty ones.
	if c.text -= 8 * v.n; c.text < 0 {
		c.m.fail(v.start, "more text than its bytes can hold")
	}
	for i := range v.n {
		if c.m.err != nil {
			return
		}
		kv := v.table(i)
		c.str(kv, 4)
		c.str(kv, 6)
	}
}

func (c *schemaCheck) str(t table, slot int64) {
	v := t.vectorAt(slot, 1)
	if c.text -= v.n; c.text < 0 {
		c.m.fail(v.start, "more text than its bytes can hold")
	}
}
