package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millrace/millrace/shm"
)

// encoder appends the primitives of PROTOCOL.md.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

// str appends a text. What is not UTF-8 in it (a command's stderr may hold
// anything) becomes U+FFFD: a peer refuses other text, and with it the channel.
func (e *encoder) str(s string) {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	e.u32(uint32(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) strs(list []string) {
	e.u32(uint32(len(list)))
	for _, s := range list {
		e.str(s)
	}
}

// pad fills up to the alignment, counted from the frame's start.
func (e *encoder) pad(start int) {
	for (len(e.b)-start)%frameAlign != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) row(start int, r *Row) {
	e.u32(uint32(len(r.Key)))
	e.u32(uint32(len(r.Spans)))
	e.b = append(e.b, r.Key...)
	e.pad(start)
	for i := range r.Spans {
		e.ref(&r.Spans[i])
	}
}

func (e *encoder) ref(r *shm.Ref) {
	e.u64(uint64(r.Segment))
	e.u64(r.Offset)
	e.u64(r.Length)
	e.u8(uint8(r.Encoding))
	e.u8(0)
	e.u16(uint16(r.Flags))
	e.u32(0)
}

func (e *encoder) blocks(list []shm.Block) {
	e.u32(uint32(len(list)))
	for i := range list {
		e.u64(uint64(list[i].Segment))
		e.u64(list[i].Offset)
		e.u64(list[i].Length)
	}
}

var errShort = errors.New("cut short")

// decoder reads the primitives of PROTOCOL.md from what a peer sent. The first
// error sticks; after it every read returns zero. Bytes that are left after a
// head was read are a newer peer's fields and are ignored.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		if d.err == nil {
			d.err = errShort
		}
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) skip(n int) { d.take(n) }

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// text reads n bytes that must be UTF-8, copied.
func (d *decoder) text(n uint32) string {
	if uint64(n) > uint64(len(d.b)) {
		if d.err == nil {
			d.err = fmt.Errorf("text of %d bytes, %d are there", n, len(d.b))
		}
		return ""
	}
	p := d.take(int(n))
	if !utf8.Valid(p) {
		if d.err == nil {
			d.err = errors.New("text is not UTF-8")
		}
		return ""
	}
	return string(p)
}

func (d *decoder) str() string { return d.text(d.u32()) }

// count reads a list's length, checked against the bytes its items need at
// least, so that no list of a peer's makes this side allocate more than a
// multiple of what it sent.
func (d *decoder) count(itemSize int) int {
	n := d.u32()
	if d.err == nil && uint64(n)*uint64(itemSize) > uint64(len(d.b)) {
		d.err = fmt.Errorf("list of %d items in %d bytes", n, len(d.b))
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) strs() []string {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.str()
	}
	return list
}

func (d *decoder) blocks() []shm.Block {
	n := d.count(24)
	if n == 0 {
		return nil
	}
	list := make([]shm.Block, n)
	for i := range list {
		list[i] = shm.Block{Segment: shm.SegmentID(d.u64()), Offset: d.u64(), Length: d.u64()}
	}
	return list
}

func (d *decoder) ref() shm.Ref {
	r := shm.Ref{Segment: shm.SegmentID(d.u64()), Offset: d.u64(), Length: d.u64()}
	r.Encoding = shm.Encoding(d.u8())
	zero := d.u8()
	r.Flags = shm.Flags(d.u16())
	if z := d.u32(); d.err == nil && (zero != 0 || z != 0) {
		d.err = errors.New("reserved bytes of a reference are not zero")
	}
	return r
}

// minRowSize is what the smallest row takes: two lengths, no key, one span.
const minRowSize = 8 + RefSize

// table reads the rows of a table. It checks form (counts, encodings, keys
// once each); whether a reference points at anything is the ledger's to check.
func (d *decoder) table(kind Kind, rowCount uint32) (Table, error) {
	if d.err == nil && uint64(rowCount)*minRowSize > uint64(len(d.b)) {
		d.err = fmt.Errorf("%d rows in %d bytes", rowCount, len(d.b))
	}
	if d.err != nil {
		return Table{}, d.err
	}
	t := Table{Kind: kind}
	if rowCount == 0 {
		return t, t.check()
	}
	total := len(d.b)
	t.Rows = make([]Row, rowCount)
	// One allocation serves the spans of all rows: no more than fit.
	spans := make([]shm.Ref, 0, (len(d.b)-8*int(rowCount))/RefSize)
	for i := range t.Rows {
		keySize, spanCount := d.u32(), d.u32()
		r := &t.Rows[i]
		r.Key = d.text(keySize)
		// Frames and tables start aligned, so padding counts from either.
		d.skip((frameAlign - (total-len(d.b))%frameAlign) % frameAlign)
		if d.err == nil && uint64(spanCount)*RefSize > uint64(len(d.b)) {
			d.err = fmt.Errorf("row %q: %d spans in %d bytes", r.Key, spanCount, len(d.b))
		}
		if d.err != nil {
			return Table{}, d.err
		}
		first := len(spans)
		for range spanCount {
			spans = append(spans, d.ref())
		}
		r.Spans = spans[first:len(spans):len(spans)]
		if d.err != nil {
			return Table{}, fmt.Errorf("row %q: %w", r.Key, d.err)
		}
	}
	return t, t.check()
}
