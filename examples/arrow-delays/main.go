// Command arrow-delays is an example worker for keys in Arrow: columns are
// written straight into shared memory and read where they lie. See
// examples/flights-arrow.yaml.
package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/arrowstate"
)

func main() {
	worker.Main(worker.Functions{"columns": columns, "histogram": histogram})
}

// recordRows is how many rows a record batch of columns has.
const recordRows = 64 << 10

// columns turns data, an array of flight records, into an Arrow table.
func columns(ctx context.Context, s *worker.State) error {
	flights, err := worker.Get[[]struct {
		Delay    int32   `json:"delay"`
		Distance int32   `json:"distance"`
		Time     float64 `json:"time"`
	}](s, "data")
	if err != nil {
		return err
	}
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "delay", Type: arrow.PrimitiveTypes.Int32},
		{Name: "distance", Type: arrow.PrimitiveTypes.Int32},
		{Name: "time", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	w, err := arrowstate.Create(s, "data", schema)
	if err != nil {
		return err
	}
	defer w.Abort()
	build := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer build.Release()
	flush := func() error {
		record := build.NewRecord()
		defer record.Release()
		return w.Write(record)
	}
	for i, f := range flights {
		build.Field(0).(*array.Int32Builder).Append(f.Delay)
		build.Field(1).(*array.Int32Builder).Append(f.Distance)
		build.Field(2).(*array.Float64Builder).Append(f.Time)
		if (i+1)%recordRows == 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	worker.Logger(ctx).Info("wrote columns", "rows", len(flights))
	return w.Close()
}

// histogram counts flights by half hours of delay. It reads one column of the
// table and leaves the table out of the result.
func histogram(_ context.Context, s *worker.State) error {
	r, err := arrowstate.Open(s, "data")
	if err != nil {
		return err
	}
	defer r.Release()
	fields := r.Schema().FieldIndices("delay")
	if len(fields) != 1 {
		return fmt.Errorf("the table has no one column delay: %v", r.Schema())
	}
	const bins = 6
	counts := make(map[string]int64, bins)
	total := int64(0)
	for r.Next() {
		column := r.Record().Column(fields[0])
		total += int64(column.Len())
		for i := range column.Len() {
			minutes, err := number(column, i)
			if err != nil {
				return err
			}
			bin := min(max(int(minutes)/30, 0), bins-1)
			counts[label(bin, bins)]++
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	s.Delete("data")
	if err := s.Set("flights", total); err != nil {
		return err
	}
	return s.Set("delays", counts)
}

// number reads a value of the integer types that the known data sets use.
func number(column arrow.Array, i int) (float64, error) {
	switch c := column.(type) {
	case *array.Int16:
		return float64(c.Value(i)), nil
	case *array.Int32:
		return float64(c.Value(i)), nil
	case *array.Int64:
		return float64(c.Value(i)), nil
	case *array.Float64:
		return c.Value(i), nil
	}
	return 0, fmt.Errorf("column delay is %v, not a number", column.DataType())
}

func label(bin, bins int) string {
	from := strconv.Itoa(bin * 30)
	switch bin {
	case 0:
		return "under 30 min"
	case bins - 1:
		return from + " min and more"
	}
	return from + " to " + strconv.Itoa(bin*30+29) + " min"
}
