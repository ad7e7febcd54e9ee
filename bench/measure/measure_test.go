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
	holdSize = 24 << 20 // bytes that a holder keeps
	slack    = 24 << 20 // what Go processes may use beside, and then some
)

func TestMain(m *testing.M) {
	child.Main()
	os.Exit(m.Run())
}

func init() {
	child.Register("holder", holder)
	child.Register("burner", burner)
}

// holder keeps private memory, and the first file it inherits mapped or open.
func holder(c *child.Control) error {
	var kind string
	if err := c.Spec(&kind); err != nil {
		return err
	}
	var held []byte
	switch kind {
	case "private":
		held = make([]byte, holdSize)
		touch(held)
	case "mapped":
		var err error
		if held, err = unix.Mmap(int(c.File(0).Fd()), 0, holdSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			return err
		}
		touch(held)
	case "open": // the file stays open, nothing else
	}
	return c.Serve(map[string]child.Handler{"ready": func(json.RawMessage) (any, error) { return len(held), nil }})
}

func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}

func burner(c *child.Control) error {
	return c.Serve(map[string]child.Handler{"burn": func(json.RawMessage) (any, error) {
		for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
		}
		return nil, nil
	}})
}

func memfd(t *testing.T, written int) *os.File {
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
	if _, err := f.Write(make([]byte, written)); err != nil {
		t.Fatal(err)
	}
	return f
}

func start(t *testing.T, kind string, files ...*os.File) int {
	t.Helper()
	p, err := child.Start("holder", kind, files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.Call(t.Context(), "ready", nil, nil); err != nil {
		t.Fatal(err)
	}
	return p.PID()
}

func TestMemorySumsProcessesAndCountsSharedPagesOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		pids func(t *testing.T) []int
		want int64
	}{
		{"private memory of two", func(t *testing.T) []int {
			return []int{start(t, "private"), start(t, "private")}
		}, 2 * holdSize},
		{"one file mapped by three", func(t *testing.T) []int {
			f := memfd(t, 0)
			return []int{start(t, "mapped", f), start(t, "mapped", f), start(t, "mapped", f)}
		}, holdSize},
		{"one file open in two and mapped by none", func(t *testing.T) []int {
			f := memfd(t, holdSize)
			return []int{start(t, "open", f), start(t, "open", f)}
		}, holdSize},
		{"an untouched file costs nothing", func(t *testing.T) []int {
			return []int{start(t, "open", memfd(t, 0))}
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := MemoryOf(c.pids(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Total(); got < c.want || got >= c.want+slack {
				t.Errorf("Total() of %+v = %d MB, want from %d MB to less than %d MB", m, got>>20, c.want>>20, (c.want+slack)>>20)
			}
		})
	}
}

func TestSamplerKeepsThePeakAndSeesLateProcesses(t *testing.T) {
	pids := make(chan []int, 1)
	current := []int{start(t, "open")}
	s := Sample(func() []int {
		select {
		case current = <-pids:
		default:
		}
		return current
	}, time.Millisecond)
	large, small := start(t, "private"), start(t, "open")
	pids <- []int{large}
	for len(pids) > 0 {
		time.Sleep(time.Millisecond)
	}
	pids <- []int{small}
	for len(pids) > 0 {
		time.Sleep(time.Millisecond)
	}
	peak, samples, err := s.Stop()
	if err != nil || samples < 2 || peak.Total() < holdSize {
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
