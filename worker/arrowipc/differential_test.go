package arrowipc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/millrace/millrace/worker/arrowipc"
	"pgregory.net/rapid"
)

// tester is what the checks need of a *testing.T, *testing.B or *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// seekable is what ipc.NewFileWriter wants.
type seekable struct{ bytes.Buffer }

func (s *seekable) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, errors.New("only asks where it is")
	}
	return int64(s.Len()), nil
}

func writeStream(t tester, schema *arrow.Schema, records []arrow.Record, opts ...ipc.Option) []byte {
	t.Helper()
	data, err := tryWriteStream(schema, records, opts...)
	if err != nil {
		t.Fatalf("ipc.Writer: %v\n%v", err, schema)
	}
	return data
}

func tryWriteStream(schema *arrow.Schema, records []arrow.Record, opts ...ipc.Option) ([]byte, error) {
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(opts, ipc.WithSchema(schema))...)
	for _, rec := range records {
		if err := w.Write(rec); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

func writeFile(t tester, schema *arrow.Schema, records []arrow.Record, opts ...ipc.Option) []byte {
	t.Helper()
	var out seekable
	w, err := ipc.NewFileWriter(&out, append(opts, ipc.WithSchema(schema))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range records {
		if err := w.Write(rec); err != nil {
			t.Fatalf("ipc.FileWriter: %v\n%v", err, schema)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func arrowReadsStream(t tester, data []byte) []arrow.Record {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var out []arrow.Record
	for r.Next() {
		r.Record().Retain()
		out = append(out, r.Record())
	}
	if r.Err() != nil {
		t.Fatalf("ipc.Reader: %v", r.Err())
	}
	return out
}

func arrowReadsFile(t tester, data []byte) []arrow.Record {
	t.Helper()
	r, err := ipc.NewFileReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var out []arrow.Record
	for i := range r.NumRecords() {
		rec, err := r.RecordAt(i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rec)
	}
	return out
}

// compare reads the data in order and at random, and wants the given records.
func compare(t tester, data []byte, want []arrow.Record, opts ...arrowipc.Option) *arrowipc.Reader {
	t.Helper()
	r, err := arrowipc.NewReader(data, opts...)
	if err != nil {
		t.Fatal(err)
	}
	same := func(i int, got arrow.Record) {
		if !array.RecordEqual(got, want[i]) || !got.Schema().Equal(want[i].Schema()) {
			t.Fatalf("record %d differs:\n%v\n%v", i, got, want[i])
		}
	}
	n := 0
	for ; r.Next(); n++ {
		same(n, r.Record())
	}
	if r.Err() != nil || n != len(want) {
		t.Fatalf("%d records, then %v; want %d", n, r.Err(), len(want))
	}
	for i := len(want) - 1; i >= 0; i-- {
		rec, err := r.At(i)
		if err != nil {
			t.Fatal(err)
		}
		same(i, rec)
		rec.Release()
	}
	return r
}

// sliceable leaves out what v17 writes nonsense for when it is a slice.
func sliceable(schema *arrow.Schema) bool {
	s := schema.String()
	return !strings.Contains(s, "large_list") && !strings.Contains(s, "list_view")
}

// Whatever arrow writes, this reader reads as arrow's reader does.
func TestSameAsArrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGenerator(rapid.Uint64().Draw(t, "seed"))
		schema := g.schema(rapid.IntRange(0, 6).Draw(t, "columns"), rapid.IntRange(0, 3).Draw(t, "depth"))
		var records []arrow.Record
		sliced := false
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			rec := g.record(schema, rapid.IntRange(0, 40).Draw(t, "rows"))
			if rec.NumRows() > 2 && sliceable(schema) && rapid.Bool().Draw(t, "slice") {
				rec, sliced = rec.NewSlice(1, rec.NumRows()-1), true
			}
			records = append(records, rec)
		}
		codecs := map[string][]ipc.Option{"none": nil, "lz4": {ipc.WithLZ4()}, "zstd": {ipc.WithZstd()}}
		codec := rapid.SampledFrom([]string{"none", "lz4", "zstd"}).Draw(t, "codec")
		data, err := tryWriteStream(schema, records, codecs[codec]...)
		if err != nil && sliced {
			return // v17 cannot write slices of some nested arrays
		}
		if err != nil {
			t.Fatalf("ipc.Writer: %v\n%v", err, schema)
		}
		want := arrowReadsStream(t, data)
		r := compare(t, data, want)
		if codec == "none" && r.Copied() != 0 {
			t.Fatalf("%d bytes were copied", r.Copied())
		}
		compare(t, data, want, arrowipc.WithFullValidation())
	})
}

func TestEachType(t *testing.T) {
	g := newGenerator(7)
	types := slices.Clone(flatTypes)
	str := arrow.BinaryTypes.String
	field := arrow.Field{Name: "a", Type: str, Nullable: true}
	types = append(types,
		arrow.ListOf(str), arrow.LargeListOf(str), arrow.ListViewOf(str), arrow.LargeListViewOf(str),
		arrow.FixedSizeListOf(3, str), arrow.MapOf(str, arrow.PrimitiveTypes.Int64),
		arrow.StructOf(), arrow.StructOf(field),
		arrow.SparseUnionOf([]arrow.Field{field}, []arrow.UnionTypeCode{5}),
		arrow.DenseUnionOf([]arrow.Field{field}, []arrow.UnionTypeCode{126}),
		arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, str),
		newLabelled(str), newLabelled(arrow.StructOf(field)), newLabelled(arrow.Null),
	)
	for _, index := range flatTypes[2:10] {
		types = append(types, &arrow.DictionaryType{IndexType: index, ValueType: str})
	}
	for _, dt := range types {
		for _, rows := range []int{0, 1, 100} {
			t.Run(fmt.Sprint(dt, "/", rows), func(t *testing.T) {
				schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: dt, Nullable: true}}, nil)
				records := []arrow.Record{g.record(schema, rows)}
				data := writeStream(t, schema, records)
				compare(t, data, arrowReadsStream(t, data), arrowipc.WithFullValidation(), arrowipc.WithCopyLimit(0))
				data = writeFile(t, schema, records)
				compare(t, data, arrowReadsFile(t, data), arrowipc.WithFullValidation())
			})
		}
	}
}

// dictionaryRecords have one dictionary that grows, stays and is replaced.
func dictionaryRecords(t tester, words ...[]string) (*arrow.Schema, []arrow.Record) {
	t.Helper()
	g := newGenerator(3)
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "word", Type: dt, Nullable: true}}, nil)
	var records []arrow.Record
	for _, list := range words {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		b.AppendValues(list, nil)
		column := g.dictionary(dt, b.NewArray(), 50, true)
		records = append(records, array.NewRecord(schema, []arrow.Array{column}, 50))
	}
	return schema, records
}

func TestDictionaries(t *testing.T) {
	schema, records := dictionaryRecords(t,
		[]string{"a", "b"}, []string{"a", "b", "c"}, []string{"a", "b", "c"},
		[]string{"a", "b", "c", "d", "e"}, []string{"x"}, []string{"x", "y"})
	for _, deltas := range []bool{false, true} {
		t.Run(fmt.Sprint("deltas=", deltas), func(t *testing.T) {
			data := writeStream(t, schema, records, ipc.WithDictionaryDeltas(deltas))
			r := compare(t, data, records)
			if copied := r.Copied() != 0; copied != deltas {
				t.Errorf("%d bytes copied", r.Copied())
			}
			if !deltas {
				compare(t, data, arrowReadsStream(t, data), arrowipc.WithFullValidation())
			}
		})
	}
	t.Run("file", func(t *testing.T) {
		data := writeFile(t, schema, records[1:3], ipc.WithDictionaryDeltas(true))
		compare(t, data, arrowReadsFile(t, data))
	})
}
