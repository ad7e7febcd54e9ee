package subject

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/millrace/millrace/bench/workload"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/arrowipc"
)

const (
	arrowBytes   = 100 << 20
	arrowBatches = 4
	attaches     = 1000 // measured in one step
)

// attachReport is what the attach step found.
type attachReport struct {
	First  int64   `json:"first"` // ns, mapping included
	Times  []int64 `json:"times"` // ns, warm
	Heap   uint64  `json:"heap"`  // bytes that the first attach took of the heap
	Rows   int64   `json:"rows"`
	Copied int64   `json:"copied"`
}

// arrowSource makes data an Arrow stream of two columns and about arrowBytes.
func arrowSource(_ context.Context, s *worker.State) error {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "distance", Type: arrow.PrimitiveTypes.Int32}, {Name: "delay", Type: arrow.PrimitiveTypes.Int32},
	}, nil)
	build := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer build.Release()
	rows := arrowBytes / arrowBatches / 8
	for c := range 2 {
		column := build.Field(c).(*array.Int32Builder)
		column.Reserve(rows)
		for i := range rows {
			column.UnsafeAppend(int32(i * (c + 1)))
		}
	}
	record := build.NewRecord()
	defer record.Release()
	block, err := s.Create(keyData, worker.ArrowStream, arrowBytes)
	if err != nil {
		return err
	}
	defer block.Abort()
	w := ipc.NewWriter(block, ipc.WithSchema(schema))
	for range arrowBatches {
		if err := w.Write(record); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return block.Close()
}

// arrowAttach gets the records of data many times.
func arrowAttach(_ context.Context, s *worker.State) error {
	var report attachReport
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range attaches + 1 {
		begin := workload.Now()
		rows, copied, err := attach(s)
		took := workload.Now() - begin
		if err != nil {
			return err
		}
		if i == 0 {
			runtime.ReadMemStats(&after)
			report = attachReport{First: took, Heap: after.TotalAlloc - before.TotalAlloc, Rows: rows, Copied: copied}
			continue
		}
		report.Times = append(report.Times, took)
	}
	slices.Sort(report.Times)
	if err := s.Delete(keyData); err != nil {
		return err
	}
	return s.Set("report", report)
}

// attach opens every record of data where it lies, and looks at its ends.
func attach(s *worker.State) (rows, copied int64, err error) {
	b, err := s.Raw(keyData)
	if err != nil {
		return 0, 0, err
	}
	r, err := arrowipc.NewReader(b)
	if err != nil {
		return 0, 0, err
	}
	defer r.Release()
	for r.Next() {
		record := r.Record()
		column := record.Column(0).(*array.Int32)
		if last := column.Len() - 1; column.Value(0) != 0 || column.Value(last) != int32(last) {
			return 0, 0, fmt.Errorf("the column's ends are %d and %d", column.Value(0), column.Value(last))
		}
		rows += record.NumRows()
	}
	return rows, r.Copied(), r.Err()
}
