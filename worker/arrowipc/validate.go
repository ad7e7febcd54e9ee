package arrowipc

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// validate checks row by row what load left unchecked. The data are load's:
// offset 0, buffers and children long enough. Dictionaries are not entered:
// their values were validated when they were loaded.
func validate(col *column, data arrow.ArrayData, at int64) error {
	v := validator{col: col, n: data.Len(), data: data, at: at}
	if buffers := data.Buffers(); len(buffers) > 0 && buffers[0] != nil {
		v.valid = buffers[0].Bytes()
		if nulls := v.n - bitutil.CountSetBits(v.valid, 0, v.n); nulls != data.NullN() {
			return col.errorf(at, "%d nulls announced, but %d in the bitmap", data.NullN(), nulls)
		}
	}
	for i, child := range data.Children() {
		if err := validate(col.children[i], child, at); err != nil {
			return err
		}
	}
	switch col.layout {
	case layoutBinary32, layoutBinary64:
		return v.binary()
	case layoutView:
		return v.views()
	case layoutList32, layoutList64:
		return v.offsets()
	case layoutViews32, layoutViews64:
		return v.listViews()
	case layoutSparse, layoutDense:
		return v.union()
	case layoutDict:
		return v.indices()
	case layoutRunEnds:
		return v.runEnds()
	}
	return nil
}

type validator struct {
	col   *column
	data  arrow.ArrayData
	n     int
	valid []byte // the validity bitmap, nil if all are valid
	at    int64
}

func (v *validator) isNull(i int) bool { return v.valid != nil && bitutil.BitIsNotSet(v.valid, i) }

// offsets checks that offsets do not decrease. The first and the last are known
// to be in range.
func (v *validator) offsets() error {
	if v.n == 0 {
		return nil
	}
	b := v.data.Buffers()[1]
	before := v.col.offsetAt(b, 0)
	for i := range v.n {
		after := v.col.offsetAt(b, int64(i)+1)
		if after < before {
			return v.col.errorf(v.at, "row %d ends at %d, before its start at %d", i, after, before)
		}
		before = after
	}
	return nil
}

func (v *validator) binary() error {
	if err := v.offsets(); err != nil || !v.col.utf8 {
		return err
	}
	offsets, text := v.data.Buffers()[1], v.data.Buffers()[2].Bytes()
	for i := range v.n {
		if v.isNull(i) {
			continue
		}
		s := text[v.col.offsetAt(offsets, int64(i)):v.col.offsetAt(offsets, int64(i)+1)]
		if !utf8.Valid(s) {
			return v.col.errorf(v.at, "row %d is not valid UTF-8", i)
		}
	}
	return nil
}

func (v *validator) views() error {
	buffers := v.data.Buffers()
	for i := range v.n {
		if v.isNull(i) {
			continue
		}
		view := buffers[1].Bytes()[16*i : 16*i+16]
		size := int64(int32(binary.LittleEndian.Uint32(view)))
		var s []byte
		switch {
		case size < 0:
			return v.col.errorf(v.at, "row %d has %d bytes", i, size)
		case size <= 12:
			s = view[4 : 4+size]
		default:
			index := int64(int32(binary.LittleEndian.Uint32(view[8:])))
			start := int64(int32(binary.LittleEndian.Uint32(view[12:])))
			if index < 0 || index >= int64(len(buffers)-2) {
				return v.col.errorf(v.at, "row %d is in buffer %d of %d", i, index, len(buffers)-2)
			}
			b := buffers[2+index].Bytes()
			if start < 0 || start+size > int64(len(b)) {
				return v.col.errorf(v.at, "row %d is %d bytes at %d of a buffer of %d", i, size, start, len(b))
			}
			s = b[start : start+size]
			if string(s[:4]) != string(view[4:8]) {
				return v.col.errorf(v.at, "row %d begins otherwise than its prefix", i)
			}
		}
		if v.col.utf8 && !utf8.Valid(s) {
			return v.col.errorf(v.at, "row %d is not valid UTF-8", i)
		}
	}
	return nil
}

func (v *validator) listViews() error {
	offsets, sizes := v.data.Buffers()[1], v.data.Buffers()[2]
	limit := int64(v.data.Children()[0].Len())
	for i := range int64(v.n) {
		start, size := v.col.offsetAt(offsets, i), v.col.offsetAt(sizes, i)
		if start < 0 || size < 0 || start > limit || size > limit-start {
			return v.col.errorf(v.at, "row %d is %d values at %d of %d", i, size, start, limit)
		}
	}
	return nil
}

func (v *validator) union() error {
	children := v.data.Children()
	ids := v.col.storage.(arrow.UnionType).ChildIDs()
	codes := v.data.Buffers()[1].Bytes()
	for i := range v.n {
		code := int8(codes[i])
		if code < 0 || int(code) >= len(ids) || ids[code] < 0 || ids[code] >= len(children) {
			return v.col.errorf(v.at, "row %d has the unknown type code %d", i, code)
		}
		if v.col.layout == layoutSparse {
			continue
		}
		off := int32At(v.data.Buffers()[2], i)
		if limit := children[ids[code]].Len(); off < 0 || int(off) >= limit {
			return v.col.errorf(v.at, "row %d is value %d of %d", i, off, limit)
		}
	}
	return nil
}

func (v *validator) indices() error {
	if v.n == 0 {
		return nil
	}
	limit := uint64(v.data.Dictionary().Len())
	// Arrow's Dictionary reads signed indices as unsigned ones, its Indices as
	// signed ones: both must be in range.
	if !arrow.IsUnsignedInteger(v.col.storage.(*arrow.DictionaryType).IndexType.ID()) {
		limit = min(limit, 1<<(8*v.col.width-1))
	}
	b := v.data.Buffers()[1].Bytes()
	for i := range v.n {
		if v.isNull(i) {
			continue
		}
		var index uint64
		switch v.col.width {
		case 1:
			index = uint64(b[i])
		case 2:
			index = uint64(binary.LittleEndian.Uint16(b[2*i:]))
		case 4:
			index = uint64(binary.LittleEndian.Uint32(b[4*i:]))
		default:
			index = binary.LittleEndian.Uint64(b[8*i:])
		}
		if index >= limit {
			return v.col.errorf(v.at, "row %d is value %d of a dictionary of %d", i, index, limit)
		}
	}
	return nil
}

func (v *validator) runEnds() error {
	ends := v.data.Children()[0]
	var before int64
	for i := range int64(ends.Len()) {
		end := runEndAt(ends, i)
		if end <= before {
			return v.col.errorf(v.at, "run %d ends at %d, where it starts at %d", i, end, before)
		}
		before = end
	}
	return nil
}

func int32At(b *memory.Buffer, i int) int32 {
	return int32(binary.LittleEndian.Uint32(b.Bytes()[4*i:]))
}
