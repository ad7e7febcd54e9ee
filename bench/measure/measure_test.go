package measure

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/bench/child"
)

const (
	holdSize = 24 << 20 // bytes that a holder takes
	slack    = 8 << 20  // what the processes may take beside
)

func TestMain(m *testing.M) {
	child.Main()
	if os.Getenv("GORACE") == "" {
		// With the race detector every child would sleep a second at its end.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

func init() {
	child.Register("holder", holder)
	child.Register("burner", burner)
}

// holder takes memory when it is told to: private, or the file it inherits. The
// kernel fills the pages, not Go code, which a race detector would shadow.
func holder(c *child.Control) error {
	var held []byte
	return c.Serve(map[string]child.Handler{
		"private": func(json.RawMessage) (_ any, err error) {
			held, err = unix.Mmap(-1, 0, holdSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
			return len(held), err
		},
		"mapped": func(json.RawMessage) (_ any, err error) {
			held, err = unix.Mmap(int(c.File(0).Fd()), 0, holdSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
			return len(held), err
		},
		"nothing": func(json.RawMessage) (any, error) { return len(held), nil },
	})
}

func burner(c *child.Control) error {
	return c.Serve(map[string]child.Handler{"burn": func(json.RawMessage) (any, error) {
		for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
		}
		return nil, nil
	}})
}

func memfd(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("measured", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(holdSize); err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts a holder and waits until it is up.
func start(t *testing.T, files ...*os.File) *child.Process {
	t.Helper()
	p, err := child.Start("holder", nil, files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	tell(t, p, "nothing")
	return p
}

func tell(t *testing.T, p *child.Process, what string) {
	t.Helper()
	if err := p.Call(t.Context(), what, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestMemorySumsProcessesAndCountsSharedPagesOnce(t *testing.T) {
	for _, c := range []struct {
		name, told string
		written    int // bytes of the shared file, by the test itself
		processes  int
		want       int64
	}{
		{"private memory of two", "private", 0, 2, 2 * holdSize},
		{"one file mapped by three", "mapped", 0, 3, holdSize},
		{"one file open in two and mapped by none", "nothing", holdSize, 2, holdSize},
		{"an untouched file costs nothing", "nothing", 0, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := memfd(t)
			var processes []*child.Process
			var pids []int
			for range c.processes {
				p := start(t, f)
				processes, pids = append(processes, p), append(pids, p.PID())
			}
			before, err := MemoryOf(pids)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range processes {
				tell(t, p, c.told)
			}
			if _, err := f.Write(make([]byte, c.written)); err != nil {
				t.Fatal(err)
			}
			after, err := MemoryOf(pids)
			if err != nil {
				t.Fatal(err)
			}
			// The children's code is shared too, so their base may move a little.
			if got := after.Total() - before.Total(); got < c.want-slack/8 || got >= c.want+slack {
				t.Errorf("from %+v to %+v are %d MB, want about %d MB", before, after, got>>20, c.want>>20)
			}
		})
	}
}

func TestSamplerKeepsThePeakAndSeesLateProcesses(t *testing.T) {
	pids := make(chan []int, 1)
	large, small := start(t), start(t)
	base, err := MemoryOf([]int{large.PID()})
	if err != nil {
		t.Fatal(err)
	}
	tell(t, large, "private")
	current := []int{small.PID()}
	s := Sample(func() []int {
		select {
		case current = <-pids:
		default:
		}
		return current
	}, time.Millisecond)
	pids <- []int{large.PID()}
	for len(pids) > 0 {
		time.Sleep(time.Millisecond)
	}
	pids <- []int{small.PID()}
	for len(pids) > 0 {
		time.Sleep(time.Millisecond)
	}
	peak, samples, err := s.Stop()
	if err != nil || samples < 2 || peak.Total() < base.Total()+holdSize-slack/8 {
		t.Errorf("Stop() = %d MB, %d samples, %v, want the larger process's memory", peak.Total()>>20, samples, err)
	}
}

func TestGoneProcesses(t *testing.T) {
	const none = 1 << 22 // the kernel's own limit of pid_max
	if _, err := MemoryOf([]int{none}); err == nil {
		t.Error("memory of no process gave no error")
	}
	if _, err := CPU([]int{none}); err == nil {
		t.Error("CPU of no process gave no error")
	}
	if _, _, err := Sample(func() []int { return []int{none} }, time.Millisecond).Stop(); err == nil {
		t.Error("a sampler that saw nothing gave no error")
	}
}

func TestCPUCountsWorkAndNotWaiting(t *testing.T) {
	p, err := child.Start("burner", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	pids := []int{p.PID()}
	read := func() time.Duration {
		d, err := CPU(pids)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if err := p.Call(t.Context(), "burn", nil, nil); err != nil {
		t.Fatal(err)
	}
	before := read()
	if err := p.Call(t.Context(), "burn", nil, nil); err != nil {
		t.Fatal(err)
	}
	burnt := read()
	time.Sleep(50 * time.Millisecond)
	rested := read()
	// A busy machine may give the burner little of its 100 ms, but some.
	if burnt-before < 5*time.Millisecond {
		t.Errorf("burning used %v", burnt-before)
	}
	if rested-burnt > (burnt-before)/2 {
		t.Errorf("resting used %v, burning %v", rested-burnt, burnt-before)
	}
}

func TestSpread(t *testing.T) {
	if got := SpreadOf(nil); got != (Spread{}) {
		t.Errorf("SpreadOf(nil) = %+v", got)
	}
	if got := SpreadOf([]float64{7}); got != (Spread{7, 7, 7}) {
		t.Errorf("SpreadOf(7) = %+v", got)
	}
	if got := SpreadOf([]float64{10, 0, 5, 2.5, 7.5}); got != (Spread{Median: 5, P10: 1, P90: 9}) {
		t.Errorf("SpreadOf = %+v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0, 1e12), 1, 50).Draw(t, "samples")
		s := SpreadOf(samples)
		if s.P10 > s.Median || s.Median > s.P90 || s.P10 < samples[0] || s.P90 > samples[len(samples)-1] {
			t.Fatalf("SpreadOf(%v) = %+v is out of order", samples, s)
		}
	})
}
