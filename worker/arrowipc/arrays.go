package arrowipc

import (
	"encoding/binary"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// load builds the next array. Nothing is released on errors: no buffer comes
// from an allocator, so all of it is the garbage collector's.
func (l *loader) load(col *column) (*array.Data, error) {
	length, nulls, err := l.node(col)
	if err != nil {
		return nil, err
	}
	if col.layout == layoutNull {
		if length > maxBare {
			return nil, &LimitError{Offset: l.msg.meta.base, What: "rows of null column " + col.name, Size: length, Limit: maxBare}
		}
		return array.NewData(col.dtype, int(length), nil, nil, int(nulls), 0), nil
	}
	buffers, err := l.loadBuffers(col, length, nulls)
	if err != nil {
		return nil, err
	}
	switch col.layout {
	case layoutDict:
		return l.loadDict(col, length, nulls, buffers)
	case layoutSparse, layoutDense:
		nulls = 0 // a union has none of its own
	}
	var children []arrow.ArrayData
	if len(col.children) > 0 {
		children = make([]arrow.ArrayData, len(col.children))
	}
	for i, sub := range col.children {
		data, err := l.load(sub)
		if err != nil {
			return nil, err
		}
		children[i] = data
	}
	if err := l.checkChildren(col, length, buffers, children); err != nil {
		return nil, err
	}
	data := array.NewData(col.dtype, int(length), buffers, children, int(nulls), 0)
	for _, child := range children {
		child.Release()
	}
	return data, nil
}

// loadBuffers takes the array's own buffers, the validity bitmap first.
func (l *loader) loadBuffers(col *column, length, nulls int64) ([]*memory.Buffer, error) {
	var (
		buffers = make([]*memory.Buffer, 1, 3)
		err     error
	)
	switch col.layout {
	case layoutSparse, layoutDense, layoutRunEnds:
		if l.msg.version < versionV5 {
			if nulls != 0 {
				return nil, col.errorf(l.msg.meta.base, "a validity bitmap, as before Arrow 1.0, is not readable here")
			}
			l.skip()
		}
	default:
		if buffers[0], err = l.validity(col, length, nulls); err != nil {
			return nil, err
		}
	}
	add := func(need, align int64) {
		if err != nil {
			return
		}
		var b *memory.Buffer
		b, err = l.buffer(col, need, align)
		buffers = append(buffers, b)
	}
	addValues := func(n, width int64) {
		if err != nil {
			return
		}
		var need int64
		if need, err = l.bytesFor(col, n, width); err == nil {
			add(need, col.align)
		}
	}
	// An empty array may leave its offsets out.
	ends := length
	if length > 0 {
		ends++
	}
	switch col.layout {
	case layoutBool:
		add((length+7)/8, 1)
	case layoutFixed, layoutDict:
		if col.width == 0 && length > maxBare {
			return nil, &LimitError{Offset: l.msg.meta.base, What: "rows of empty column " + col.name, Size: length, Limit: maxBare}
		}
		if length == 0 {
			l.skip()
			buffers = append(buffers, nil)
			break
		}
		addValues(length, col.width)
	case layoutBinary32, layoutBinary64:
		addValues(ends, col.width)
		add(0, 1)
		if err == nil {
			err = l.checkEnds(col, buffers[1], length, int64(buffers[2].Len()))
		}
	case layoutView:
		var n int64
		if n, err = l.variadicCount(col); err == nil {
			addValues(length, col.width)
		}
		for range n {
			add(0, 1)
		}
	case layoutList32, layoutList64:
		addValues(ends, col.width)
	case layoutViews32, layoutViews64:
		addValues(length, col.width)
		addValues(length, col.width)
	case layoutSparse:
		add(length, 1)
	case layoutDense:
		add(length, 1)
		addValues(length, 4)
	}
	return buffers, err
}

// variadicCount gives how many data buffers the next view array has.
func (l *loader) variadicCount(col *column) (int64, error) {
	if l.nextViadata >= l.variadic.n {
		return 0, col.errorf(l.msg.meta.base, "the batch has only %d variadic buffer counts", l.variadic.n)
	}
	n := l.msg.meta.i64(l.variadic.start + 8*l.nextViadata)
	l.nextViadata++
	if left := l.buffers.n - l.nextBuffer; n < 0 || n > left {
		return 0, col.errorf(l.msg.meta.base, "%d variadic buffers where the batch has %d buffers left", n, left)
	}
	return n, nil
}

// offsetAt gives element i of a buffer of offsets.
func (col *column) offsetAt(b *memory.Buffer, i int64) int64 {
	if col.width == 4 {
		return int64(int32(binary.LittleEndian.Uint32(b.Bytes()[4*i:])))
	}
	return int64(binary.LittleEndian.Uint64(b.Bytes()[8*i:]))
}

// checkEnds checks the first and the last offset against what they point into.
func (l *loader) checkEnds(col *column, offsets *memory.Buffer, length, limit int64) error {
	if length == 0 {
		return nil
	}
	first, last := col.offsetAt(offsets, 0), col.offsetAt(offsets, length)
	if first < 0 || last < first || last > limit {
		return col.errorf(l.msg.bodyAt, "offsets from %d to %d into %d", first, last, limit)
	}
	return nil
}

// checkChildren checks that the children are as long as their parent needs.
func (l *loader) checkChildren(col *column, length int64, buffers []*memory.Buffer, children []arrow.ArrayData) error {
	at := l.msg.meta.base
	switch col.layout {
	case layoutList32, layoutList64:
		return l.checkEnds(col, buffers[1], length, int64(children[0].Len()))
	case layoutFixedList:
		need, err := l.bytesFor(col, length, col.width)
		if err != nil {
			return err
		}
		if int64(children[0].Len()) < need {
			return col.errorf(at, "%d rows of %d values, but only %d values", length, col.width, children[0].Len())
		}
	case layoutStruct, layoutSparse:
		if len(children) == 0 && length > maxBare {
			return &LimitError{Offset: at, What: "rows of empty column " + col.name, Size: length, Limit: maxBare}
		}
		for i, child := range children {
			if int64(child.Len()) < length {
				return col.children[i].errorf(at, "%d values for %d rows", child.Len(), length)
			}
		}
	case layoutRunEnds:
		return l.checkRunEnds(col, length, children[0], children[1])
	}
	return nil
}

func (l *loader) checkRunEnds(col *column, length int64, ends, values arrow.ArrayData) error {
	at, runs := l.msg.meta.base, int64(ends.Len())
	if ends.NullN() != 0 {
		return col.errorf(at, "nulls in run ends")
	}
	if int64(values.Len()) < runs {
		return col.errorf(at, "%d runs, but only %d values", runs, values.Len())
	}
	if length == 0 {
		return nil
	}
	var last int64
	if runs > 0 {
		last = runEndAt(ends, runs-1)
	}
	if last < length {
		return col.errorf(at, "runs end at %d of %d rows", last, length)
	}
	return nil
}

// runEndAt gives run end i. Their type was checked with the schema.
func runEndAt(ends arrow.ArrayData, i int64) int64 {
	b := ends.Buffers()[1].Bytes()
	switch ends.DataType().ID() {
	case arrow.INT16:
		return int64(int16(binary.LittleEndian.Uint16(b[2*i:])))
	case arrow.INT32:
		return int64(int32(binary.LittleEndian.Uint32(b[4*i:])))
	default:
		return int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
}
