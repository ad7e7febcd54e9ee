package arrowstate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/arrowstate"
	"github.com/millrace/millrace/worker/internal/testhost"
)

var schema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

func write(_ context.Context, s *worker.State) error {
	w, err := arrowstate.Create(s, "table", schema)
	if err != nil {
		return err
	}
	defer w.Abort()
	for batch := range int64(3) {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range int64(1000) {
			b.Field(0).(*array.Int64Builder).Append(batch*1000 + i)
		}
		record := b.NewRecord()
		err := w.Write(record)
		record.Release()
		b.Release()
		if err != nil {
			return err
		}
	}
	return w.Close()
}

func sum(_ context.Context, s *worker.State) error {
	r, err := arrowstate.Open(s, "table")
	if err != nil {
		return err
	}
	defer r.Release()
	total := int64(0)
	for r.Next() {
		for _, n := range r.Record().Column(0).(*array.Int64).Int64Values() {
			total += n
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	if r.Copied() != 0 {
		return fmt.Errorf("%d bytes were copied", r.Copied())
	}
	s.Delete("table")
	return s.Set("sum", total)
}

func mistakes(_ context.Context, s *worker.State) error {
	if _, err := arrowstate.Open(s, "nothing"); !errors.Is(err, worker.ErrNoKey) {
		return fmt.Errorf("a missing key: %w", err)
	}
	if err := s.Set("json", 1); err != nil {
		return err
	}
	if _, err := arrowstate.Open(s, "json"); err == nil || !strings.Contains(err.Error(), "json") {
		return fmt.Errorf("a JSON key: %w", err)
	}
	w, err := arrowstate.Create(s, "given up", schema)
	if err != nil {
		return err
	}
	w.Abort()
	if s.Has("given up") {
		return errors.New("an aborted key is there")
	}
	return nil
}

func TestMain(m *testing.M) {
	if os.Getenv("MILLRACE_TEST_ROLE") != "" {
		worker.Main(worker.Functions{"write": write, "sum": sum, "mistakes": mistakes})
	}
	os.Exit(m.Run())
}

func TestWriteThenReadInPlace(t *testing.T) {
	w := testhost.NewWorld(t)
	x := w.Start("worker", testhost.Options{})
	state := w.State(`{"other":1}`)
	for code, function := range []string{"write", "sum", "mistakes"} {
		x.Prepare(uint64(code+1), "function", `{"function":"`+function+`"}`)
		state = x.Must(ipc.Execute{Code: uint64(code + 1)}, state).State
	}
	if got, want := w.Document(state), `{"other":1,"sum":4498500,"json":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
