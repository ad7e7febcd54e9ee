package arrowipc_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/millrace/millrace/worker/arrowipc"
)

// fuzzSeeds are small streams that together have every layout.
func fuzzSeeds(t tester) [][]byte {
	t.Helper()
	schema, rec := wide(3)
	seeds := [][]byte{
		writeStream(t, schema, []arrow.Record{rec}),
		writeFile(t, schema, []arrow.Record{rec}),
	}
	g := newGenerator(5)
	str, i32 := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32
	fields := []arrow.Field{{Name: "a", Type: str, Nullable: true}, {Name: "b", Type: i32, Nullable: true}}
	for _, dt := range []arrow.DataType{
		str, i32, arrow.BinaryTypes.StringView, arrow.BinaryTypes.LargeBinary,
		arrow.LargeListOf(i32), arrow.ListViewOf(str), arrow.LargeListViewOf(i32),
		arrow.FixedSizeListOf(2, i32), arrow.MapOf(str, i32), arrow.StructOf(fields...),
		arrow.SparseUnionOf(fields, []int8{1, 3}), arrow.DenseUnionOf(fields, []int8{1, 3}),
		arrow.RunEndEncodedOf(i32, str), newLabelled(str),
		arrow.StructOf(arrow.Field{Name: "d", Type: &arrow.DictionaryType{IndexType: i32, ValueType: arrow.ListOf(str)}}),
	} {
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
		seeds = append(seeds, writeStream(t, schema, []arrow.Record{g.record(schema, 5)}))
	}
	schema, records := dictionaryRecords(t, []string{"a", "b"}, []string{"a", "b", "c"})
	return append(seeds,
		writeStream(t, schema, records, ipc.WithDictionaryDeltas(true)),
		writeStream(t, schema, records, ipc.WithLZ4()),
		writeStream(t, schema, records, ipc.WithZstd()))
}

// weight bounds how many values one row can show: lists that overlap, or hold
// nulls, show many more than there are bytes.
func weight(data arrow.ArrayData) float64 {
	inner := 1.0
	for _, child := range data.Children() {
		inner = max(inner, weight(child))
	}
	if dict, ok := data.Dictionary().(*array.Data); ok && dict != nil {
		inner = weight(dict)
	}
	return inner * float64(1+data.Len())
}

// touch reads some rows of an array and of everything inside it. Rows of nested
// arrays are formatted only after full validation: arrow makes room for as many
// values as their offsets say.
func touch(arr arrow.Array, full bool) {
	n := arr.Len()
	flat := len(arr.Data().Children()) == 0 && arr.DataType().ID() != arrow.DICTIONARY
	if !flat && (!full || weight(arr.Data()) > 1e6) {
		n = 0
	}
	for i := range min(n, 50) {
		arr.ValueStr(i)
		arr.ValueStr(n - 1 - i)
		arr.IsNull(i)
	}
	if dict, ok := arr.(*array.Dictionary); ok {
		touch(dict.Dictionary(), full)
		for i := range min(n, 50) {
			if dict.IsValid(i) {
				dict.Dictionary().ValueStr(dict.GetValueIndex(i))
			}
		}
	}
	for _, child := range arr.Data().Children() {
		touch(array.MakeFromData(child), full)
	}
}

// FuzzReader wants that bytes are refused by the package's errors, that what
// passed full validation can be read without a panic, and that nothing crashes.
func FuzzReader(f *testing.F) {
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	for _, name := range []string{"testdata/js.stream.arrow", "testdata/js.file.arrow"} {
		seed, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, full := range []bool{false, true} {
			opts := []arrowipc.Option{arrowipc.WithCopyLimit(1 << 20)}
			if full {
				opts = append(opts, arrowipc.WithFullValidation())
			}
			if err := readAll(data, full, opts...); err != nil {
				var format *arrowipc.FormatError
				var limit *arrowipc.LimitError
				if !errors.As(err, &format) && !errors.As(err, &limit) {
					t.Fatalf("%T: %v", err, err)
				}
				if format != nil && (format.Offset < 0 || format.Offset > int64(len(data))) {
					t.Fatalf("an error outside the %d bytes: %v", len(data), err)
				}
			}
		}
	})
}

func readAll(data []byte, full bool, opts ...arrowipc.Option) (err error) {
	r, err := arrowipc.NewReader(data, opts...)
	if err != nil {
		return err
	}
	defer r.Release()
	for n := 0; r.Next() && n < 20; n++ {
		for i, col := range r.Record().Columns() {
			func() {
				defer func() {
					// Without validation a bad row may panic, but no more.
					if p := recover(); p != nil && full {
						panic(fmt.Sprintf("column %v: %v", r.Schema().Field(i).Type, p))
					}
				}()
				touch(col, full)
			}()
		}
	}
	return r.Err()
}
