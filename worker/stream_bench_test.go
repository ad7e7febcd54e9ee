package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// benchStream measures items of a size between two processes.
func benchStream(b *testing.B, size int) {
	streams := &testhost.StreamSettings{MaxDemand: 1024, MinDemand: 512}
	world := testhost.NewWorld(b)
	from := startIn(world, testhost.Options{Streams: streams})
	to := startIn(world, testhost.Options{Streams: streams})
	doc := func(n int) ipc.Table { return world.State(fmt.Sprintf(`{"n":%d,"size":%d}`, n, size)) }
	b.SetBytes(int64(size))
	b.ResetTimer()
	began := time.Now()
	producing := from.Begin(from.call("bench produce"), doc(b.N))
	to.Must(to.call("bench consume"), from.Streamed().State)
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "items/s")
	if f := from.End(producing).Fail; f != nil {
		b.Fatal(f)
	}
}

func BenchmarkStream(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchStream(b, size) })
	}
}

func init() {
	functions["bench produce"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		size, err := worker.Get[int](s, "size")
		if err != nil {
			return err
		}
		item := make([]byte, size)
		w, err := s.Stream(ctx, "items", worker.StreamOptions{Encoding: worker.Raw})
		for i := 0; i < n && err == nil; i++ {
			err = w.Write(item)
		}
		return err
	}
	functions["bench consume"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		for _, err := range r.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}
}
