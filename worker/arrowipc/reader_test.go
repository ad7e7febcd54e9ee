package arrowipc_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/millrace/millrace/worker/arrowipc"
)

// wide has a column of every flat type and some nested ones.
func wide(rows int) (*arrow.Schema, arrow.Record) {
	g := newGenerator(11)
	types := append([]arrow.DataType{
		arrow.ListOf(arrow.BinaryTypes.String),
		arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int64}),
		&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String},
	}, flatTypes...)
	fields := make([]arrow.Field, len(types))
	for i, dt := range types {
		fields[i] = arrow.Field{Name: fmt.Sprint(i, " ", dt), Type: dt, Nullable: true}
	}
	schema := arrow.NewSchema(fields, nil)
	return schema, g.record(schema, rows)
}

func eachBuffer(data arrow.ArrayData, visit func([]byte)) {
	for _, b := range data.Buffers() {
		if b != nil && b.Len() > 0 {
			visit(b.Bytes())
		}
	}
	for _, child := range data.Children() {
		eachBuffer(child, visit)
	}
	if dict, ok := data.Dictionary().(*array.Data); ok && dict != nil {
		eachBuffer(dict, visit)
	}
}

func TestNothingIsCopied(t *testing.T) {
	schema, rec := wide(500)
	data := shifted(writeStream(t, schema, []arrow.Record{rec}), 0)
	r, err := arrowipc.NewReader(data)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !r.Next() {
		t.Fatal(r.Err())
	}
	buffers := 0
	for i, col := range r.Record().Columns() {
		eachBuffer(col.Data(), func(b []byte) {
			buffers++
			if !inside(b, data) {
				t.Errorf("column %q: a buffer of %d bytes lies outside the input", schema.Field(i).Name, len(b))
			}
			if cap(b) != len(b) {
				t.Errorf("column %q: appending to a buffer would write to the input", schema.Field(i).Name)
			}
		})
	}
	if buffers < schema.NumFields() {
		t.Errorf("only %d buffers seen", buffers)
	}
	if r.Copied() != 0 {
		t.Errorf("Copied() = %d", r.Copied())
	}
}

// Of a stream at an odd address only the buffers that need it are copied.
func TestUnaligned(t *testing.T) {
	schema, rec := wide(500)
	plain := writeStream(t, schema, []arrow.Record{rec})
	for by := 1; by < 8; by++ {
		r := compare(t, shifted(plain, by), []arrow.Record{rec})
		if r.Copied() == 0 {
			t.Errorf("shifted by %d: nothing was copied", by)
		}
	}
	text := arrow.NewSchema([]arrow.Field{{Name: "b", Type: arrow.PrimitiveTypes.Int8}}, nil)
	rec = newGenerator(1).record(text, 100)
	r := compare(t, shifted(writeStream(t, text, []arrow.Record{rec}), 3), []arrow.Record{rec}, arrowipc.WithCopyLimit(0))
	if r.Copied() != 0 {
		t.Errorf("bytes need no alignment, but %d were copied", r.Copied())
	}
}

// Opening and taking a record allocates for columns, not for rows.
func TestAllocationsDoNotDependOnRows(t *testing.T) {
	measure := func(rows int) (count float64, size uint64) {
		schema, rec := wide(rows)
		data := shifted(writeStream(t, schema, []arrow.Record{rec}), 0)
		open := func() {
			r, err := arrowipc.NewReader(data)
			if err != nil || !r.Next() {
				t.Fatal(err, r.Err())
			}
			r.Release()
		}
		return testing.AllocsPerRun(10, open), allocatedBytes(open)
	}
	fewCount, fewSize := measure(10)
	manyCount, manySize := measure(20000)
	if manyCount > fewCount*1.05 {
		t.Errorf("%v allocations for 10 rows, %v for 20000", fewCount, manyCount)
	}
	if manySize > fewSize+fewSize/10 {
		t.Errorf("%v bytes for 10 rows, %v for 20000", fewSize, manySize)
	}
}

// allocatedBytes gives what one call of f allocates, on average.
func allocatedBytes(f func()) uint64 {
	const runs = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

func TestEmptyAndPartialStreams(t *testing.T) {
	schema, rec := wide(3)
	whole := writeStream(t, schema, []arrow.Record{rec})
	t.Run("no records", func(t *testing.T) { compare(t, writeStream(t, schema, nil), nil) })
	t.Run("no end marker", func(t *testing.T) { compare(t, whole[:len(whole)-8], []arrow.Record{rec}) })
	t.Run("bytes after the end marker", func(t *testing.T) {
		compare(t, append(bytes.Clone(whole), "anything"...), []arrow.Record{rec})
	})
	t.Run("every cut", func(t *testing.T) {
		_, one := dictionaryRecords(t, []string{"a"})
		whole := writeStream(t, one[0].Schema(), one)
		for cut := range len(whole) - 8 {
			r, err := arrowipc.NewReader(whole[:cut])
			n := 0
			if err == nil {
				n, err = r.NumRecords()
			}
			if n > 0 {
				t.Fatalf("a record in the first %d of %d bytes", cut, len(whole))
			}
			if _, ok := err.(*arrowipc.FormatError); err != nil && !ok {
				t.Fatalf("cut at %d: %T %v", cut, err, err)
			}
		}
	})
	t.Run("a file that was cut short", func(t *testing.T) {
		file := writeFile(t, schema, []arrow.Record{rec})
		if _, err := arrowipc.NewReader(file[:len(file)-1]); err == nil {
			t.Error("accepted")
		}
	})
}

func TestAtAndClose(t *testing.T) {
	schema, records := dictionaryRecords(t, []string{"a"}, []string{"b"}, []string{"c"})
	r, err := arrowipc.NewReader(writeStream(t, schema, records))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.NumRecords(); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for _, i := range []int{-1, 3} {
		if _, err := r.At(i); !errors.Is(err, arrowipc.ErrNoRecord) {
			t.Errorf("At(%d): %v", i, err)
		}
	}
	kept, err := r.At(1)
	if err != nil {
		t.Fatal(err)
	}
	r.Retain()
	r.Release()
	if !r.Next() {
		t.Fatal("closed by the first of two releases")
	}
	r.Release()
	r.Close()
	if r.Next() || r.Record() != nil {
		t.Error("a record from a closed reader")
	}
	if _, err := r.At(0); !errors.Is(err, arrowipc.ErrClosed) {
		t.Error(err)
	}
	if _, err := r.NumRecords(); !errors.Is(err, arrowipc.ErrClosed) {
		t.Error(err)
	}
	if !array.RecordEqual(kept, records[1]) {
		t.Error("closing changed a record from At")
	}
}

func TestCopyLimit(t *testing.T) {
	schema, records := dictionaryRecords(t, []string{"a", "b"})
	data := writeStream(t, schema, records, ipc.WithZstd())
	r := compare(t, data, records)
	needed := r.Copied()
	for _, tc := range []struct {
		limit int64
		ok    bool
	}{{1 << 20, true}, {0, false}, {40, false}} {
		r, err := arrowipc.NewReader(data, arrowipc.WithCopyLimit(tc.limit))
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.At(0)
		var limit *arrowipc.LimitError
		if tc.ok != (err == nil) || !tc.ok && (!errors.As(err, &limit) || limit.Limit != tc.limit || limit.Size <= tc.limit) {
			t.Errorf("limit %d of %d: %v", tc.limit, needed, err)
		}
	}
}

func TestNullsNeedNoDictionary(t *testing.T) {
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{{Name: "word", Type: dt, Nullable: true}}, nil)
	b := array.NewDictionaryBuilder(memory.DefaultAllocator, dt)
	b.AppendNull()
	b.AppendNull()
	rec := array.NewRecord(schema, []arrow.Array{b.NewArray()}, 2)
	data := writeStream(t, schema, []arrow.Record{rec})
	frames := split(t, data)
	if len(frames) != 3 {
		t.Fatalf("%d frames", len(frames))
	}
	r, err := arrowipc.NewReader(bytes.Join([][]byte{frames[0], frames[2]}, nil), arrowipc.WithFullValidation())
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.At(0)
	if err != nil {
		t.Fatal(err)
	}
	if got.Column(0).NullN() != 2 || got.Column(0).IsValid(0) {
		t.Error(got)
	}
}
