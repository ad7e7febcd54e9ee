package arrowipc

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
)

// layout is the physical arrangement of an array's buffers.
type layout uint8

const (
	layoutNull      layout = iota
	layoutBool             // validity, bits
	layoutFixed            // validity, values of width bytes
	layoutBinary32         // validity, 32-bit offsets, bytes
	layoutBinary64         // validity, 64-bit offsets, bytes
	layoutView             // validity, 16-byte views, any number of bytes
	layoutList32           // validity, 32-bit offsets; one child
	layoutList64           // validity, 64-bit offsets; one child
	layoutViews32          // validity, 32-bit offsets, 32-bit sizes; one child
	layoutViews64          // validity, 64-bit offsets, 64-bit sizes; one child
	layoutFixedList        // validity; one child, width times as long
	layoutStruct           // validity; children
	layoutSparse           // type codes; children
	layoutDense            // type codes, 32-bit offsets; children
	layoutDict             // as layoutFixed, the indices; a dictionary
	layoutRunEnds          // no buffer; run ends, values
)

// column is one field of the schema, or of a type inside it, compiled into
// what loading an array of it needs. Immutable once the reader is open.
type column struct {
	name     string         // path from the schema's root, for errors
	dtype    arrow.DataType // of the arrays: an extension type if it is one
	storage  arrow.DataType // dtype without the extension
	layout   layout
	width    int64 // bytes a value; for layoutFixedList, values a row
	align    int64 // bytes; what the values' buffer needs in memory
	utf8     bool
	children []*column
	dict     *dictionary // for layoutDict
	hasDict  bool        // somewhere in it
}

// compiler turns a schema into columns, collecting dictionaries on its way.
type compiler struct {
	at    int64 // of the schema, for errors
	dicts map[int64]*dictionary
}

func (c *compiler) columns(prefix string, fields []arrow.Field, infos []fieldInfo) ([]*column, error) {
	if len(fields) != len(infos) {
		return nil, formatErrorf(c.at, "%s: %d fields, but its type has %d", prefix, len(infos), len(fields))
	}
	out := make([]*column, len(fields))
	for i, f := range fields {
		name := f.Name
		if prefix != "" {
			name = prefix + "." + name
		}
		col, err := c.column(name, f.Type, infos[i])
		if err != nil {
			return nil, err
		}
		out[i] = col
	}
	return out, nil
}

func (c *compiler) column(name string, dtype arrow.DataType, info fieldInfo) (*column, error) {
	col := &column{name: name, dtype: dtype, storage: dtype, align: 1}
	// An extension of an extension is possible: both are registered types.
	for {
		ext, ok := col.storage.(arrow.ExtensionType)
		if !ok {
			break
		}
		col.storage = ext.StorageType()
	}
	if dict, ok := col.storage.(*arrow.DictionaryType); ok {
		return col, c.dictionary(col, dict, info)
	}
	if err := col.setLayout(c.at); err != nil {
		return nil, err
	}
	if nested, ok := col.storage.(arrow.NestedType); ok {
		children, err := c.columns(name, nested.Fields(), info.children)
		if err != nil {
			return nil, err
		}
		col.children = children
		for _, child := range children {
			col.hasDict = col.hasDict || child.hasDict
		}
	}
	return col, nil
}

func (c *compiler) dictionary(col *column, dtype *arrow.DictionaryType, info fieldInfo) error {
	if !info.hasDict {
		return formatErrorf(c.at, "column %q: a dictionary type without an id", col.name)
	}
	index, ok := dtype.IndexType.(arrow.FixedWidthDataType)
	if !ok {
		return formatErrorf(c.at, "column %q: dictionary indices of type %v", col.name, dtype.IndexType)
	}
	col.layout, col.hasDict = layoutDict, true
	col.width = int64(index.Bytes())
	col.align = col.width

	d := c.dicts[info.dictID]
	if d == nil {
		values, err := c.column(col.name, dtype.ValueType, fieldInfo{children: info.children})
		if err != nil {
			return err
		}
		d = &dictionary{id: info.dictID, values: values}
		c.dicts[info.dictID] = d
	} else if !arrow.TypeEqual(d.values.dtype, dtype.ValueType) {
		return formatErrorf(c.at, "column %q: dictionary %d has values of type %v and of type %v",
			col.name, info.dictID, d.values.dtype, dtype.ValueType)
	}
	col.dict = d
	return nil
}

// setLayout sets everything that follows from the storage type alone.
func (col *column) setLayout(at int64) error {
	switch dt := col.storage.(type) {
	case *arrow.NullType:
		col.layout = layoutNull
	case *arrow.BooleanType:
		col.layout = layoutBool
	case *arrow.FixedSizeBinaryType:
		col.layout, col.width = layoutFixed, int64(dt.ByteWidth)
	case *arrow.StringType:
		col.layout, col.width, col.align, col.utf8 = layoutBinary32, 4, 4, true
	case *arrow.BinaryType:
		col.layout, col.width, col.align = layoutBinary32, 4, 4
	case *arrow.LargeStringType:
		col.layout, col.width, col.align, col.utf8 = layoutBinary64, 8, 8, true
	case *arrow.LargeBinaryType:
		col.layout, col.width, col.align = layoutBinary64, 8, 8
	case arrow.BinaryViewDataType:
		// 8, not 4: arrow compares views as pairs of 64-bit words.
		col.layout, col.width, col.align = layoutView, int64(arrow.ViewHeaderSizeBytes), 8
		col.utf8 = dt.IsUtf8()
	case *arrow.ListType, *arrow.MapType:
		col.layout, col.width, col.align = layoutList32, 4, 4
	case *arrow.LargeListType:
		col.layout, col.width, col.align = layoutList64, 8, 8
	case *arrow.ListViewType:
		col.layout, col.width, col.align = layoutViews32, 4, 4
	case *arrow.LargeListViewType:
		col.layout, col.width, col.align = layoutViews64, 8, 8
	case *arrow.FixedSizeListType:
		col.layout, col.width = layoutFixedList, int64(dt.Len())
	case *arrow.StructType:
		col.layout = layoutStruct
	case *arrow.SparseUnionType:
		col.layout = layoutSparse
	case *arrow.DenseUnionType:
		col.layout, col.align = layoutDense, 4
	case *arrow.RunEndEncodedType:
		col.layout = layoutRunEnds
	case arrow.FixedWidthDataType:
		// Integers, floats, decimals, dates, times, timestamps, durations and
		// intervals. Nothing of them needs more than a word's alignment.
		col.layout, col.width = layoutFixed, int64(dt.Bytes())
		col.align = min(col.width, 8)
	default:
		return formatErrorf(at, "column %q: type %v is not known", col.name, col.dtype)
	}
	return nil
}

func (col *column) errorf(at int64, format string, args ...any) error {
	return formatErrorf(at, "column %q: %s", col.name, fmt.Sprintf(format, args...))
}
