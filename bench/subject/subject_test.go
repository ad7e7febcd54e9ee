package subject

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/workload"
)

func TestMain(m *testing.M) {
	child.Main()
	Main()
	if os.Getenv("GORACE") == "" {
		// With the race detector every child would sleep a second at its end.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

func payload(t *testing.T, size int) *workload.Payload {
	t.Helper()
	p, err := workload.Build(t.TempDir(), size, workload.GenerateRecords(500))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryCaseDeliversThePayload(t *testing.T) {
	for _, c := range Cases() {
		for _, size := range []int{workload.MinSize, 64 << 10, 1<<20 + 100_000} {
			t.Run(c.Info().Name+"/"+bench.FormatSize(size), func(t *testing.T) {
				t.Parallel()
				deliver(t, c, payload(t, size))
			})
		}
	}
}

func deliver(t *testing.T, c bench.Case, p *workload.Payload) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := c.Start(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	want := p.Rewritten
	if c.Info().Work == bench.Forward {
		want = p.Untouched
	}
	// More than one run: reused memory must not mix up results.
	for _, n := range []int{1, 3} {
		samples, err := s.Run(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(samples) != n {
			t.Fatalf("Run(%d) gave %d samples", n, len(samples))
		}
		for _, sample := range samples {
			sum := time.Duration(0)
			for _, h := range sample.Handovers {
				if h <= 0 {
					t.Errorf("hand-over of %v", h)
				}
				sum += h
			}
			if sample.Wall <= sum {
				t.Errorf("wall time %v is not more than its hand-overs' %v", sample.Wall, sum)
			}
		}
		if got, err := s.Outcome(ctx); err != nil || got != want {
			t.Fatalf("Outcome() = %+v, %v, want %+v", got, err, want)
		}
	}
	if got, err := s.Counters(ctx); err != nil || got.Bytes == 0 || got.Mallocs == 0 {
		t.Errorf("Counters() = %+v, %v, want what the processes allocated", got, err)
	}
	if counter, ok := s.(bench.CPUCounter); ok {
		if d, err := counter.CPU(ctx); err != nil || d <= 0 {
			t.Errorf("CPU() = %v, %v", d, err)
		}
	}
	pids := s.PIDs()
	if len(pids) < workload.Steps+1 {
		t.Errorf("PIDs() = %v, want the supervisor and at least %d steps", pids, workload.Steps)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	for _, pid := range pids {
		gone(t, pid)
	}
}

// gone waits a little for a process to end: the supervisor's executors end with
// it, not before.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range 200 {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d outlived its session", pid)
}

func TestPingsAnswer(t *testing.T) {
	for _, c := range PingCases() {
		t.Run(c.Info().Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			s, err := c.StartPing(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, idle := range []time.Duration{0, time.Millisecond} {
				trips, err := s.Ping(ctx, 5, idle)
				if err != nil || len(trips) != 5 {
					t.Fatalf("Ping(5, %v) = %v, %v", idle, trips, err)
				}
				for _, trip := range trips {
					if trip <= 0 {
						t.Errorf("a round trip took %v", trip)
					}
				}
			}
			if n := len(s.PIDs()); n != 2 {
				t.Errorf("%d processes, want two", n)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnArrowKeyIsAttached(t *testing.T) {
	for _, c := range FigureCases() {
		if c.Name() != "arrow" {
			continue // the others take long, and prove nothing that is not tested above
		}
		figures, notes, err := c.Figures(t.Context(), true)
		if err != nil || len(notes) > 0 || len(figures) != 3 {
			t.Fatalf("Figures() = %v, %v, %v", figures, notes, err)
		}
		for _, f := range figures {
			if f.Title == "" || f.Spread.Median < 0 {
				t.Errorf("figure %+v", f)
			}
		}
	}
}
