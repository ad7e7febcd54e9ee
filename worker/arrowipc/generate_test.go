package arrowipc_test

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/decimal256"
	"github.com/apache/arrow/go/v17/arrow/float16"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func (g generator) record(schema *arrow.Schema, rows int) arrow.Record {
	columns := make([]arrow.Array, schema.NumFields())
	for i, f := range schema.Fields() {
		columns[i] = g.array(f.Type, rows, true)
	}
	return array.NewRecord(schema, columns, int64(rows))
}

// validity gives a bitmap and its number of zeros, often none.
func (g generator) validity(n int, nullable bool) (*memory.Buffer, int) {
	if !nullable || g.IntN(2) == 0 {
		return nil, 0
	}
	bits, nulls := make([]byte, (n+7)/8), 0
	for i := range n {
		if g.IntN(3) == 0 {
			nulls++
		} else {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return memory.NewBufferBytes(bits), nulls
}

func int32Buffer(v []int32) *memory.Buffer {
	return memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(v))
}

func int64Buffer(v []int64) *memory.Buffer {
	return memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(v))
}

func narrow(v []int64) []int32 {
	out := make([]int32, len(v))
	for i := range v {
		out[i] = int32(v[i])
	}
	return out
}

func (g generator) array(dt arrow.DataType, n int, nullable bool) arrow.Array {
	build := func(dt arrow.DataType, nulls int, buffers []*memory.Buffer, children ...arrow.Array) arrow.Array {
		datas := make([]arrow.ArrayData, len(children))
		for i, c := range children {
			datas[i] = c.Data()
		}
		return array.MakeFromData(array.NewData(dt, n, buffers, datas, nulls, 0))
	}
	offsets := func() []int64 {
		out := make([]int64, n+1)
		for i := range n {
			out[i+1] = out[i] + g.Int64N(4)
		}
		return out
	}
	valid, nulls := g.validity(n, nullable)
	switch t := dt.(type) {
	case *arrow.ListType:
		at := offsets()
		return build(t, nulls, []*memory.Buffer{valid, int32Buffer(narrow(at))}, g.array(t.Elem(), int(at[n]), true))
	case *arrow.LargeListType:
		at := offsets()
		return build(t, nulls, []*memory.Buffer{valid, int64Buffer(at)}, g.array(t.Elem(), int(at[n]), true))
	case *arrow.MapType:
		at := offsets()
		size := int(at[n])
		keys, items := g.array(t.KeyType(), size, false), g.array(t.ItemType(), size, true)
		entries := array.MakeFromData(array.NewData(t.Elem(), size, []*memory.Buffer{nil}, []arrow.ArrayData{keys.Data(), items.Data()}, 0, 0))
		return build(t, nulls, []*memory.Buffer{valid, int32Buffer(narrow(at))}, entries)
	case *arrow.ListViewType, *arrow.LargeListViewType:
		size := 2 * n
		at, sizes := make([]int64, n), make([]int64, n)
		for i := range n {
			at[i] = g.Int64N(int64(size))
			sizes[i] = g.Int64N(int64(size) - at[i])
		}
		child := g.array(t.(arrow.VarLenListLikeType).Elem(), size, true)
		if t.ID() == arrow.LIST_VIEW {
			return build(t, nulls, []*memory.Buffer{valid, int32Buffer(narrow(at)), int32Buffer(narrow(sizes))}, child)
		}
		return build(t, nulls, []*memory.Buffer{valid, int64Buffer(at), int64Buffer(sizes)}, child)
	case *arrow.FixedSizeListType:
		return build(t, nulls, []*memory.Buffer{valid}, g.array(t.Elem(), n*int(t.Len()), true))
	case *arrow.StructType:
		children := make([]arrow.Array, t.NumFields())
		for i, f := range t.Fields() {
			children[i] = g.array(f.Type, n, true)
		}
		return build(t, nulls, []*memory.Buffer{valid}, children...)
	case arrow.UnionType:
		return g.union(t, n, build)
	case *arrow.DictionaryType:
		return g.dictionary(t, g.array(t.ValueType, 1+g.IntN(20), true), n, nullable)
	case *arrow.RunEndEncodedType:
		return g.runs(t, n)
	case arrow.ExtensionType:
		return array.NewExtensionArrayWithStorage(t, g.array(t.StorageType(), n, nullable))
	}
	b := array.NewBuilder(memory.DefaultAllocator, dt)
	defer b.Release()
	for range n {
		if nullable && g.IntN(5) == 0 {
			b.AppendNull()
		} else {
			g.appendTo(b)
		}
	}
	return b.NewArray()
}

type buildFunc func(dt arrow.DataType, nulls int, buffers []*memory.Buffer, children ...arrow.Array) arrow.Array

func (g generator) union(t arrow.UnionType, n int, build buildFunc) arrow.Array {
	codes, at := make([]byte, n), make([]int32, n)
	lengths := make([]int, t.NumFields())
	for i := range n {
		child := g.IntN(t.NumFields())
		codes[i], at[i] = byte(t.TypeCodes()[child]), int32(lengths[child])
		lengths[child]++
	}
	children := make([]arrow.Array, t.NumFields())
	for i, f := range t.Fields() {
		if t.Mode() == arrow.SparseMode {
			lengths[i] = n
		}
		children[i] = g.array(f.Type, lengths[i], true)
	}
	buffers := []*memory.Buffer{nil, memory.NewBufferBytes(codes)}
	if t.Mode() == arrow.DenseMode {
		buffers = append(buffers, int32Buffer(at))
	}
	return build(t, 0, buffers, children...)
}

func (g generator) dictionary(t *arrow.DictionaryType, values arrow.Array, n int, nullable bool) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, t.IndexType)
	defer b.Release()
	for range n {
		if nullable && g.IntN(5) == 0 {
			b.AppendNull()
		} else if err := b.AppendValueFromString(fmt.Sprint(g.IntN(values.Len()))); err != nil {
			panic(err)
		}
	}
	return array.NewDictionaryArray(t, b.NewArray(), values)
}

func (g generator) runs(t *arrow.RunEndEncodedType, n int) arrow.Array {
	b := array.NewBuilder(memory.DefaultAllocator, t.RunEnds())
	defer b.Release()
	runs := 0
	for at := 0; at < n; runs++ {
		at = min(n, at+1+g.IntN(5))
		if err := b.AppendValueFromString(fmt.Sprint(at)); err != nil {
			panic(err)
		}
	}
	return array.NewRunEndEncodedArray(b.NewArray(), g.array(t.Encoded(), runs, true), n, 0)
}

func (g generator) text() string {
	return "müller, long enough to be out of line"[:g.IntN(2)*7+8*g.IntN(2)] + fmt.Sprint(g.IntN(1e9)*g.IntN(2))
}

func (g generator) appendTo(b array.Builder) {
	switch b := b.(type) {
	case *array.NullBuilder:
		b.AppendNull()
	case *array.BooleanBuilder:
		b.Append(g.IntN(2) == 0)
	case *array.Int8Builder:
		b.Append(int8(g.Int64()))
	case *array.Int16Builder:
		b.Append(int16(g.Int64()))
	case *array.Int32Builder:
		b.Append(int32(g.Int64()))
	case *array.Int64Builder:
		b.Append(g.Int64() - g.Int64())
	case *array.Uint8Builder:
		b.Append(uint8(g.Int64()))
	case *array.Uint16Builder:
		b.Append(uint16(g.Int64()))
	case *array.Uint32Builder:
		b.Append(uint32(g.Int64()))
	case *array.Uint64Builder:
		b.Append(g.Uint64())
	case *array.Float16Builder:
		b.Append(float16.New(g.Float32()))
	case *array.Float32Builder:
		b.Append(g.Float32())
	case *array.Float64Builder:
		b.Append(g.NormFloat64())
	case *array.Decimal128Builder:
		b.Append(decimal128.New(g.Int64()%1000, g.Uint64()))
	case *array.Decimal256Builder:
		b.Append(decimal256.New(0, g.Uint64(), g.Uint64(), g.Uint64()))
	case *array.Date32Builder:
		b.Append(arrow.Date32(g.IntN(20000)))
	case *array.Date64Builder:
		b.Append(arrow.Date64(g.IntN(20000) * 86400000))
	case *array.Time32Builder:
		b.Append(arrow.Time32(g.IntN(86400)))
	case *array.Time64Builder:
		b.Append(arrow.Time64(g.IntN(86400000000)))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(g.IntN(1e15)))
	case *array.DurationBuilder:
		b.Append(arrow.Duration(g.Int64()))
	case *array.MonthIntervalBuilder:
		b.Append(arrow.MonthInterval(g.IntN(100)))
	case *array.DayTimeIntervalBuilder:
		b.Append(arrow.DayTimeInterval{Days: int32(g.IntN(100)), Milliseconds: int32(g.IntN(1000))})
	case *array.MonthDayNanoIntervalBuilder:
		b.Append(arrow.MonthDayNanoInterval{Months: 1, Days: int32(g.IntN(100)), Nanoseconds: g.Int64()})
	case *array.StringBuilder:
		b.Append(g.text())
	case *array.LargeStringBuilder:
		b.Append(g.text())
	case *array.StringViewBuilder:
		b.Append(g.text())
	case *array.BinaryViewBuilder:
		b.AppendString(g.text())
	case *array.BinaryBuilder:
		b.AppendString(g.text())
	case *array.FixedSizeBinaryBuilder:
		v := make([]byte, b.Type().(*arrow.FixedSizeBinaryType).ByteWidth)
		v[0] = byte(g.Int64())
		b.Append(v)
	default:
		panic(fmt.Sprintf("no values for %T", b))
	}
}
