package arrowipc

import (
	"bytes"
	"encoding/binary"
)

const (
	fileMagic = "ARROW1"
	fileTail  = 4 + int64(len(fileMagic)) // the footer's length, the magic
	blockSize = 24                        // offset, metadata length padded, body length
)

func isFile(buf []byte) bool { return bytes.HasPrefix(buf, []byte(fileMagic)) }

// openFile reads the footer: the schema, and where the messages are. Some
// writers put the schema nowhere else, and messages may come in any order, so
// a file cannot be walked like a stream. Dictionaries are met here, since each
// record may use all of them.
func (r *Reader) openFile() error {
	size := int64(len(r.buf))
	if size < 8+fileTail || !bytes.HasSuffix(r.buf, []byte(fileMagic)) {
		return formatErrorf(size, "an Arrow file of %d bytes that does not end in %s: it was cut short", size, fileMagic)
	}
	footerLen := int64(binary.LittleEndian.Uint32(r.buf[size-fileTail:]))
	if footerLen > MaxMetadata {
		return &LimitError{Offset: size - fileTail, What: "a file's footer, in bytes", Size: footerLen, Limit: MaxMetadata}
	}
	r.end = size - fileTail - footerLen
	if r.end < 8 {
		return formatErrorf(size-fileTail, "a footer of %d bytes in a file of %d", footerLen, size)
	}
	m := &metadata{b: bytes.Clone(r.buf[r.end : r.end+footerLen]), base: r.end}
	footer := m.root()
	schema, ok := footer.tableAt(6)
	dicts, records := footer.vectorAt(8, blockSize), footer.vectorAt(10, blockSize)
	if m.err != nil {
		return m.err
	}
	if !ok {
		return formatErrorf(r.end, "a footer without a schema")
	}
	if err := r.setSchema(wrapSchema(m.b, schema.at), max(0, r.end-wrapLen)); err != nil {
		return err
	}
	for i := range dicts.n {
		pos, err := r.block(m, dicts, i)
		if err != nil {
			return err
		}
		var msg message
		ok, err := readMessage(r.buf, pos, r.end, &msg)
		if err != nil || !ok || msg.kind != headerDictionary {
			return noMessage(pos, err)
		}
		if err := r.addDictionary(pos, &msg); err != nil {
			return err
		}
	}
	r.records = make([]recordAt, records.n)
	for i := range records.n {
		pos, err := r.block(m, records, i)
		if err != nil {
			return err
		}
		r.records[i] = recordAt{pos: pos, dicts: r.dictBatches}
	}
	r.walked = true
	return nil
}

// block gives where block i of the footer's list starts. The lengths beside it
// are not used: the message states them, too.
func (r *Reader) block(m *metadata, list vector, i int64) (int64, error) {
	pos := m.i64(list.start + blockSize*i)
	if m.err == nil && (pos < 8 || pos > r.end) {
		return 0, formatErrorf(r.end, "a footer with a message at %d in a file of %d bytes", pos, len(r.buf))
	}
	return pos, m.err
}

// wrapLen is the size of what wrapSchema prepends.
const wrapLen = 32

// wrapSchema makes a Message of the Schema table at the given position of a
// footer, because arrow's decoder wants one. References in flatbuffers are
// relative, so the footer can stay as it is behind a new root.
func wrapSchema(footer []byte, schema int64) []byte {
	const vtable, root, header = 4, 16, 20
	out := make([]byte, wrapLen, wrapLen+len(footer))
	le := binary.LittleEndian
	le.PutUint32(out, root)
	le.PutUint16(out[vtable:], 10)   // size of the vtable: three fields
	le.PutUint16(out[vtable+2:], 16) // size of the table
	le.PutUint16(out[vtable+4:], 8)  // version
	le.PutUint16(out[vtable+6:], 10) // header_type
	le.PutUint16(out[vtable+8:], header-root)
	le.PutUint32(out[root:], root-vtable)
	le.PutUint32(out[header:], uint32(wrapLen+schema-header))
	le.PutUint16(out[root+8:], versionV5)
	out[root+10] = headerSchema
	return append(out, footer...)
}
