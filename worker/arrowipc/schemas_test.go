package arrowipc_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// generator makes random types and arrays of them: every type that arrow can
// write.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 1))} }

// labelled is an extension type with a parameter, over any storage.
type labelled struct {
	arrow.ExtensionBase
}

type labelledArray struct{ array.ExtensionArrayBase }

func (a *labelledArray) ValueStr(i int) string { return a.Storage().ValueStr(i) }

func newLabelled(storage arrow.DataType) *labelled {
	return &labelled{arrow.ExtensionBase{Storage: storage}}
}

func (*labelled) ArrayType() reflect.Type { return reflect.TypeOf(labelledArray{}) }
func (*labelled) ExtensionName() string   { return "millrace.test.labelled" }
func (*labelled) Serialize() string       { return "label" }
func (e *labelled) Deserialize(storage arrow.DataType, data string) (arrow.ExtensionType, error) {
	if data != e.Serialize() {
		return nil, fmt.Errorf("label %q", data)
	}
	return newLabelled(storage), nil
}
func (e *labelled) ExtensionEquals(o arrow.ExtensionType) bool {
	return o.ExtensionName() == e.ExtensionName() && arrow.TypeEqual(e.Storage, o.StorageType())
}
func (e *labelled) String() string { return fmt.Sprintf("labelled<%v>", e.Storage) }

func init() {
	if err := arrow.RegisterExtensionType(newLabelled(arrow.Null)); err != nil {
		panic(err)
	}
}

// flatTypes have no children.
var flatTypes = []arrow.DataType{
	arrow.Null,
	arrow.FixedWidthTypes.Boolean,
	arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
	arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
	arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
	&arrow.Decimal128Type{Precision: 20, Scale: 3}, &arrow.Decimal256Type{Precision: 50, Scale: -2},
	arrow.FixedWidthTypes.Date32, arrow.FixedWidthTypes.Date64,
	arrow.FixedWidthTypes.Time32s, arrow.FixedWidthTypes.Time32ms,
	arrow.FixedWidthTypes.Time64us, arrow.FixedWidthTypes.Time64ns,
	arrow.FixedWidthTypes.Timestamp_ns, &arrow.TimestampType{Unit: arrow.Second},
	arrow.FixedWidthTypes.Duration_ms,
	arrow.FixedWidthTypes.MonthInterval, arrow.FixedWidthTypes.DayTimeInterval, arrow.FixedWidthTypes.MonthDayNanoInterval,
	arrow.BinaryTypes.String, arrow.BinaryTypes.Binary, arrow.BinaryTypes.LargeString, arrow.BinaryTypes.LargeBinary,
	arrow.BinaryTypes.StringView, arrow.BinaryTypes.BinaryView,
	&arrow.FixedSizeBinaryType{ByteWidth: 5}, &arrow.FixedSizeBinaryType{ByteWidth: 16},
}

func pick[T any](g generator, of []T) T { return of[g.IntN(len(of))] }

// dtype gives a random type that nests at most the given depth.
func (g generator) dtype(depth int) arrow.DataType {
	if depth == 0 || g.IntN(3) == 0 {
		return pick(g, flatTypes)
	}
	field := func(i int) arrow.Field {
		return arrow.Field{Name: fmt.Sprint("f", i), Type: g.dtype(depth - 1), Nullable: true}
	}
	fields := func() []arrow.Field {
		out := make([]arrow.Field, 1+g.IntN(3))
		for i := range out {
			out[i] = field(i)
		}
		return out
	}
	switch g.IntN(12) {
	case 0:
		return arrow.ListOf(g.dtype(depth - 1))
	case 1:
		return arrow.LargeListOf(g.dtype(depth - 1))
	case 2:
		return arrow.FixedSizeListOf(int32(1+g.IntN(3)), g.dtype(depth-1))
	case 3:
		return arrow.ListViewOf(g.dtype(depth - 1))
	case 4:
		return arrow.LargeListViewOf(g.dtype(depth - 1))
	case 5:
		return arrow.MapOf(arrow.BinaryTypes.String, g.dtype(depth-1))
	case 6:
		return arrow.StructOf(fields()...)
	case 7, 8:
		fs := fields()
		codes := make([]arrow.UnionTypeCode, len(fs))
		for i := range codes {
			codes[i] = arrow.UnionTypeCode(3*i + 2)
		}
		if g.IntN(2) == 0 {
			return arrow.SparseUnionOf(fs, codes)
		}
		return arrow.DenseUnionOf(fs, codes)
	case 9:
		return &arrow.DictionaryType{IndexType: pick(g, flatTypes[2:10]), ValueType: g.dictValueType()}
	case 10:
		ends := []arrow.DataType{arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64}
		return arrow.RunEndEncodedOf(pick(g, ends), pick(g, flatTypes[1:]))
	default:
		// Arrow cannot write the schema of an extension over a dictionary, and
		// cannot compare slices of one over nulls.
		storage := g.dtype(depth - 1)
		for slices.Contains([]arrow.Type{arrow.DICTIONARY, arrow.EXTENSION, arrow.NULL}, storage.ID()) {
			storage = g.dtype(depth - 1)
		}
		return newLabelled(storage)
	}
}

func (g generator) dictValueType() arrow.DataType {
	// v17 writes the view counts of a dictionary again for its record.
	flat := slices.DeleteFunc(slices.Clone(flatTypes[1:]), func(dt arrow.DataType) bool {
		return dt.ID() == arrow.STRING_VIEW || dt.ID() == arrow.BINARY_VIEW
	})
	switch g.IntN(4) {
	case 0:
		return arrow.ListOf(pick(g, flat))
	case 1:
		inner := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
		return arrow.StructOf(arrow.Field{Name: "inner", Type: inner, Nullable: true})
	default:
		return pick(g, flat)
	}
}

func (g generator) schema(columns, depth int) *arrow.Schema {
	fields := make([]arrow.Field, columns)
	for i := range fields {
		fields[i] = arrow.Field{Name: fmt.Sprint("c", i), Type: g.dtype(depth), Nullable: true}
		if g.IntN(4) == 0 {
			fields[i].Metadata = arrow.NewMetadata([]string{"unit"}, []string{"mm"})
		}
	}
	meta := arrow.NewMetadata([]string{"origin"}, []string{"generated"})
	return arrow.NewSchema(fields, &meta)
}
