package worker_test

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/worker"
)

type flight struct {
	Date  string `json:"date"`
	Delay int    `json:"delay"`
}

// late keeps the flights that were late. `data` is decoded, `late` is encoded
// straight into shared memory; every other key of the state goes on unread.
func late(ctx context.Context, s *worker.State) error {
	flights, err := worker.Get[[]flight](s, "data")
	if err != nil {
		return err
	}
	var delayed []flight
	for _, f := range flights {
		if f.Delay > 15 {
			delayed = append(delayed, f)
		}
	}
	if len(delayed) == 0 {
		return &worker.Error{Name: "NoDataError", Message: fmt.Sprintf("none of %d flights was late", len(flights))}
	}
	worker.Logger(ctx).Info("late flights", "late", len(delayed), "of", len(flights))
	return s.Set("late", delayed)
}

// A worker is a program that registers functions. In a workflow file a step
// names the program as its worker and one of them as its function.
func ExampleMain() {
	worker.Main(worker.Functions{"late": late})
}
