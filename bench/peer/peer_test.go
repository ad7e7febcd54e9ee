package peer

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

func TestEveryPeerDeliversTheChangedPayload(t *testing.T) {
	for _, c := range Cases() {
		for _, size := range []int{workload.MinSize, 64 << 10, pipeSize + 100_000} {
			t.Run(c.Info().Name+"/"+bench.FormatSize(size), func(t *testing.T) {
				t.Parallel()
				deliver(t, c, payload(t, size))
			})
		}
	}
}

func deliver(t *testing.T, c bench.Case, p *workload.Payload) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // nothing depends on it but how soon a stuck one is told
	defer cancel()
	s, err := c.Start(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	pids := s.PIDs()
	if len(pids) != workload.Steps+1 {
		t.Errorf("PIDs() = %v, want the supervisor and %d steps", pids, workload.Steps)
	}
	// More runs than shmipc has slices: reuse must not mix up results.
	for _, n := range []int{1, 4} {
		samples, err := s.Run(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(samples) != n {
			t.Fatalf("Run(%d) gave %d samples", n, len(samples))
		}
		for _, sample := range samples {
			checkSample(t, sample)
		}
		if got, err := s.Outcome(ctx); err != nil || got != p.Rewritten {
			t.Fatalf("Outcome() = %+v, %v, want %+v", got, err, p.Rewritten)
		}
	}
	if before, err := s.Counters(ctx); err != nil || before.Bytes == 0 || before.Mallocs == 0 {
		t.Errorf("Counters() = %+v, %v, want what the processes allocated", before, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d outlived its session", pid)
		}
	}
}

func checkSample(t *testing.T, s bench.RunSample) {
	t.Helper()
	var sum time.Duration
	for i, h := range s.Handovers {
		if h <= 0 {
			t.Errorf("hand-over %d took %v, want more than nothing", i, h)
		}
		sum += h
	}
	if sum >= s.Wall {
		t.Errorf("hand-overs of %v in a run of %v", sum, s.Wall)
	}
}

func TestJSONAllocatesAndRawDoesNot(t *testing.T) {
	const size, runs = 256 << 10, 10
	perRun := map[string]uint64{}
	for _, c := range Cases() {
		s, err := c.Start(t.Context(), payload(t, size))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Run(t.Context(), 1); err != nil { // warm
			t.Fatal(err)
		}
		before, err1 := s.Counters(t.Context())
		_, err2 := s.Run(t.Context(), runs)
		after, err3 := s.Counters(t.Context())
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
		perRun[c.Info().Name] = (after.Bytes - before.Bytes) / runs
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if perRun["pipe-json"] < size {
		t.Errorf("JSON allocates %d bytes a run, want at least one payload, %d", perRun["pipe-json"], size)
	}
	for _, name := range []string{"pipe-raw", "unix-raw", "shmipc-go"} {
		if perRun[name] > 32<<10 {
			t.Errorf("%s allocates %d bytes a run of %d: its buffers are not reused", name, perRun[name], size)
		}
	}
}

func TestStepsDieWithTheirSupervisor(t *testing.T) {
	for _, c := range Cases() {
		t.Run(c.Info().Name, func(t *testing.T) {
			s, err := c.Start(t.Context(), payload(t, 1<<10))
			if err != nil {
				t.Fatal(err)
			}
			pids := s.PIDs()
			if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Run(t.Context(), 1); err == nil {
				t.Error("a run without a supervisor succeeded")
			}
			if err := s.Close(); err == nil {
				t.Error("Close() of a killed supervisor gave no error")
			}
			deadline := time.Now().Add(5 * time.Second)
			for _, pid := range pids {
				for alive(pid) {
					if time.Now().After(deadline) {
						t.Fatalf("process %d is still alive", pid)
					}
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
}

// alive is false for a zombie, which nobody may be there to reap.
func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	return err == nil && !isZombie(stat)
}

func TestCancelEndsARun(t *testing.T) {
	s, err := Cases()[0].Start(t.Context(), payload(t, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.Run(ctx, 1_000_000); err != context.DeadlineExceeded {
		t.Errorf("Run() = %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a cancelled run took %v", took)
	}
	_ = s.Close() // it was killed, and says so
}

func TestPing(t *testing.T) {
	for _, c := range PingCases() {
		s, err := c.StartPing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, idle := range []time.Duration{0, time.Millisecond} {
			begin := time.Now()
			trips, err := s.Ping(t.Context(), 20, idle)
			took := time.Since(begin)
			if err != nil || len(trips) != 20 {
				t.Fatalf("Ping() = %d trips, %v", len(trips), err)
			}
			sum := 20 * idle
			for _, trip := range trips {
				if trip <= 0 {
					t.Errorf("a round trip took %v", trip)
				}
				sum += trip
			}
			if sum > took {
				t.Errorf("idle %v: round trips and sleeps add up to %v in %v", idle, sum, took)
			}
		}
		if len(s.PIDs()) != 2 {
			t.Errorf("PIDs() = %v, want two", s.PIDs())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
