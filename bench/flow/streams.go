package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/shm"
)

// asPipe is the argument with which the program is started as an end of a pipe:
// what it does follows, and how many items there are.
const asPipe = "pipe"

// streams measures items from one Go step to another while both run, against
// lines of JSON in a pipe between two processes and against one copy in memory.
func (b *flow) streams() error {
	rounds, small, large := 10, 2_000_000, 5000
	if b.quick {
		rounds, small, large = 4, 500_000, 1500
	}
	eng, err := b.engine(engine.Options{})
	if err != nil {
		return err
	}
	defer eng.Close()
	stream := func(what string, items, size int) func() (float64, error) {
		return func() (float64, error) { return b.stream(eng, what, items, size) }
	}
	pipe := func(what string, items int) func() (float64, error) {
		return func() (float64, error) { return b.pipe(what, items) }
	}
	copies, release, err := memcpy(large)
	if err != nil {
		return err
	}
	defer release()
	values := small / 10 // what is encoded and decoded takes ten times as long
	times, err := inTurns(rounds, stream("bytes", small, itemSize), pipe("bytes", small), stream("values", values, itemSize), pipe("values", values),
		stream("bytes", large, 1<<20), copies)
	if err != nil {
		return err
	}
	b.report.section("Streams, Go to Go")
	rate := func(name string, ns []float64, target string, met func(float64) bool) measure.Spread {
		s := measure.SpreadOf(ns)
		b.report.row(name, fmt.Sprintf("%s items/s", thousands(1e9/s.Median)), fmt.Sprintf("%s to %s", thousands(1e9/s.P90), thousands(1e9/s.P10)), target, met(1e9/s.Median))
		return s
	}
	always := func(float64) bool { return true }
	a := rate("items of 1 KB, encoded before", times[0], "≥ 500,000/s", func(r float64) bool { return r >= 500_000 })
	p := rate("  lines in a pipe, encoded before", times[1], "", always)
	b.report.row("  against the pipe", fmt.Sprintf("%.1f ×", p.Median/a.Median), "", "≥ 3 ×", p.Median >= 3*a.Median)
	a = rate("items of 1 KB, encoded and decoded", times[2], "", always)
	p = rate("  lines in a pipe, encoded and decoded", times[3], "", always)
	b.report.row("  against the pipe", fmt.Sprintf("%.1f ×", p.Median/a.Median), "", "", true)
	a, p = measure.SpreadOf(times[4]), measure.SpreadOf(times[5])
	b.report.row("an item of 1 MB", duration(a.Median), spread(a), "", true)
	b.report.row("  one copy of it in memory", duration(p.Median), spread(p), "", true)
	b.report.row("  against the copy", fmt.Sprintf("%.2f ×", a.Median/p.Median), "", "≤ 1.2 ×", a.Median <= 1.2*p.Median)
	return nil
}

// inTurns takes a sample of each measure in each round; the first round warms
// up.
func inTurns(rounds int, measures ...func() (float64, error)) ([][]float64, error) {
	samples := make([][]float64, len(measures))
	for round := range rounds + 1 {
		for i, sample := range measures {
			ns, err := sample()
			if err != nil {
				return nil, err
			}
			if round > 0 {
				samples[i] = append(samples[i], ns)
			}
		}
	}
	return samples, nil
}

// stream returns the time an item takes from one step to the next, in
// nanoseconds, as the reader sees it: from the first to the last.
func (b *flow) stream(eng *engine.Engine, what string, items, size int) (float64, error) {
	from, to := b.step("feed "+what, fmt.Sprintf(`{"Items":%d,"Size":%d}`, items, size)), b.step("drain "+what, "")
	p := &plan.Plan{Name: "stream", Steps: []*plan.Step{from, to}, Edges: []*plan.Edge{{From: from, To: to}}}
	var got drained
	err := once(eng, p, `{}`, func(_ *engine.Run, res *engine.Result) error {
		var doc bytes.Buffer
		if err := res.WriteDocument(&doc); err != nil {
			return err
		}
		return json.Unmarshal(doc.Bytes(), &got)
	})
	if err != nil {
		return 0, err
	}
	return got.each(items)
}

// pipe is stream for two processes of this program with a pipe between them.
func (b *flow) pipe(what string, items int) (float64, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	from := exec.Command(b.self, asPipe, "feed", what, fmt.Sprint(items))
	to := exec.Command(b.self, asPipe, "drain", what, fmt.Sprint(items))
	var out bytes.Buffer
	from.Stdout, from.Stderr, to.Stdin, to.Stdout, to.Stderr = w, os.Stderr, r, &out, os.Stderr
	if err := from.Start(); err != nil {
		return 0, err
	}
	w.Close()
	err = to.Run()
	r.Close()
	if ferr := from.Wait(); err == nil {
		err = ferr
	}
	if err != nil {
		return 0, err
	}
	var got drained
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		return 0, err
	}
	return got.each(items)
}

// drained is what a reader says of the items it read.
type drained struct {
	Items int   `json:"items"`
	Took  int64 `json:"took"` // nanoseconds, from the first to the last
}

func (d drained) each(want int) (float64, error) {
	if d.Items != want {
		return 0, fmt.Errorf("%d items came of %d", d.Items, want)
	}
	return float64(d.Took) / float64(want-1), nil
}

// memcpy measures one copy of 1 MB into memory as a stream's is, round and
// round.
func memcpy(items int) (sample func() (float64, error), release func(), err error) {
	f, err := shm.CreateStreamMemory(shm.DefaultStreamCapacity)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, shm.StreamHeaderSize+shm.DefaultStreamCapacity, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	ring := mem[shm.StreamHeaderSize:]
	item := encoded(1, 1<<20) // written, or all of it would be one page of zeros
	sample = func() (float64, error) {
		begin := time.Now()
		for i := range items {
			copy(ring[(i%4)<<20:], item)
		}
		return float64(time.Since(begin).Nanoseconds()) / float64(items), nil
	}
	return sample, func() { _ = unix.Munmap(mem) }, nil
}

// thousands writes a number with commas.
func thousands(x float64) string {
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
