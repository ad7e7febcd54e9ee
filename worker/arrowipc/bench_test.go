package arrowipc_test

import (
	"bytes"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/millrace/millrace/worker/arrowipc"
)

// flights makes a stream like the flight records: about the given size, in one
// record of ten columns.
func flights(b *testing.B, size int) []byte {
	str := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "delay", Type: arrow.PrimitiveTypes.Int16, Nullable: true},
		{Name: "distance", Type: arrow.PrimitiveTypes.Int16},
		{Name: "time", Type: arrow.PrimitiveTypes.Float32},
		{Name: "date", Type: arrow.FixedWidthTypes.Timestamp_ms},
		{Name: "origin", Type: str}, {Name: "destination", Type: str},
		{Name: "tail", Type: arrow.BinaryTypes.String},
		{Name: "seats", Type: arrow.PrimitiveTypes.Int64},
		{Name: "price", Type: arrow.PrimitiveTypes.Float64},
		{Name: "id", Type: arrow.PrimitiveTypes.Int64},
	}, nil)
	const rowBytes = 2 + 2 + 4 + 8 + 2 + 2 + 4 + 9 + 8 + 8 + 8
	g := newGenerator(1)
	part := g.record(schema, 1000)
	columns := make([]arrow.Array, part.NumCols())
	for i := range columns {
		copies := make([]arrow.Array, size/rowBytes/1000)
		for j := range copies {
			copies[j] = part.Column(i)
		}
		var err error
		if columns[i], err = array.Concatenate(copies, memory.DefaultAllocator); err != nil {
			b.Fatal(err)
		}
	}
	rec := array.NewRecord(schema, columns, int64(columns[0].Len()))
	return shifted(writeStream(b, schema, []arrow.Record{rec}), 0)
}

// Opening a stream and taking its first record.
func BenchmarkAttach(b *testing.B) {
	for _, bc := range []struct {
		name string
		size int
	}{{"64KB", 64 << 10}, {"100MB", 100 << 20}} {
		data := flights(b, bc.size)
		b.Run("arrowipc/"+bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := arrowipc.NewReader(data)
				if err != nil || !r.Next() {
					b.Fatal(err)
				}
				r.Release()
			}
		})
		b.Run("arrow/"+bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := ipc.NewReader(bytes.NewReader(data))
				if err != nil || !r.Next() {
					b.Fatal(err)
				}
				r.Release()
			}
		})
	}
}

// The same with a pass over every row.
func BenchmarkAttachValidated(b *testing.B) {
	data := flights(b, 100<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := arrowipc.NewReader(data, arrowipc.WithFullValidation())
		if err != nil || !r.Next() {
			b.Fatal(err, r.Err())
		}
		r.Release()
	}
}
