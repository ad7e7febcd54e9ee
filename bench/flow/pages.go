package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/worker/source"
)

const pageSize = 1000

// underWay is how many pages are under way at once where time counts for all of
// them, not for each.
const underWay = 8

// sampleEvery is coarse: reading the processes' pages takes milliseconds.
const sampleEvery = 25 * time.Millisecond

// pages measures records in pages through two steps a page, in Go and in
// JavaScript: peak memory at ten times the records, and what a page costs above
// the steps' own work.
func (b *flow) pages() error {
	path, err := filepath.Abs(filepath.Join(b.data, "flights-3m.parquet"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: make data fetches it", err)
	}
	few, many := 100, 1000 // pages
	if b.quick {
		few, many = 10, 100
	}
	dir, err := os.MkdirTemp("", "millrace-bench-flow-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lines := filepath.Join(dir, "pages.ndjson")
	if err := writePages(path, lines, many); err != nil {
		return err
	}
	root, err := filepath.Abs(b.root)
	if err != nil {
		return err
	}
	for _, l := range []struct {
		name, path string
		argv       []string
	}{
		{"Go", path, []string{b.self, asWorker}},
		// With a young generation that has its full size from the start: by
		// default it grows over thousands of pages, to three times 16 MB.
		{"JavaScript", lines, []string{"node", "--max-semi-space-size=1", filepath.Join(root, "bench/flow/steps.mjs")}},
	} {
		low, err := b.passes(l.argv, l.path, few, 1, true)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		high, err := b.passes(l.argv, l.path, many, 1, true)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		// Reading the processes' memory holds up their page faults.
		timed, err := b.passes(l.argv, l.path, many, 1, false)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		busy, err := b.passes(l.argv, l.path, many, underWay, false)
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		b.report.section(fmt.Sprintf("%s, %d records in pages of %d", l.name, many*pageSize, pageSize))
		ratio := high.peak / low.peak
		b.report.row("peak memory, all processes", size(high.peak), fmt.Sprintf("%.2f × that of %d (%s)", ratio, few*pageSize, size(low.peak)), "≤ 1.1 ×", ratio <= 1.1)
		b.report.row("a page above the steps' work", duration(timed.overhead.Median), spread(timed.overhead), "≤ 300 µs", timed.overhead.Median <= 300e3)
		b.report.row("all of a page", duration(timed.page.Median), spread(timed.page), "", true)
		b.report.row(fmt.Sprintf("a page of many, %d under way", underWay), duration(busy.mean), "", "", true)
	}
	return nil
}

// writePages writes the first pages of a file as one JSON array a line.
func writePages(from, to string, pages int) error {
	r, err := source.Open(&source.Spec{Paths: []string{from}, Batch: pageSize})
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	var page []byte
	for range pages {
		if page, err = r.Next(page[:0]); err != nil {
			break
		}
		page = append(page, '\n')
		if _, err = w.Write(page); err != nil {
			break
		}
	}
	return errors.Join(err, w.Flush(), f.Close())
}

type pass struct {
	peak           float64 // bytes
	overhead, page measure.Spread
	mean           float64 // ns from one result to the next
}

// passes has so many pages pass. The figures are either the memory's or the
// times'.
func (b *flow) passes(argv []string, path string, pages, concurrency int, sampled bool) (*pass, error) {
	eng, err := b.engine(engine.Options{})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	configuration, err := json.Marshal(map[string]any{"path": path, "pages": pages, "page": pageSize, "concurrency": concurrency})
	if err != nil {
		return nil, err
	}
	step := func(function string) *plan.Step {
		return &plan.Step{ID: function, Worker: &plan.Worker{Argv: argv, Function: function}}
	}
	caller, first, second := step("pages"), step("late"), step("sum")
	caller.Configuration = configuration
	p := &plan.Plan{
		Name: "pages", Steps: []*plan.Step{caller, first, second},
		Edges: []*plan.Edge{{From: first, To: second}},
	}
	out := new(pass)
	var sampler *measure.Sampler
	if sampled {
		sampler = measure.Sample(func() []int { return append(eng.ExecutorPIDs(), os.Getpid()) }, sampleEvery)
	}
	err = once(eng, p, `{}`, func(run *engine.Run, res *engine.Result) error {
		var doc bytes.Buffer
		if err := res.WriteDocument(&doc); err != nil {
			return err
		}
		var got struct{ Own, Took []float64 } // µs
		if err := json.Unmarshal(doc.Bytes(), &got); err != nil {
			return err
		}
		steps := run.Stats().Steps // in the order in which they ended, the caller last
		if len(got.Own) != pages || len(got.Took) != pages || len(steps) != 2*pages+1 {
			return fmt.Errorf("%d pages came back of %d, after %d steps", len(got.Took), pages, len(steps))
		}
		overhead, whole := make([]float64, pages), make([]float64, pages)
		for i := range pages {
			out.mean += 1e3 * got.Took[i] / float64(pages)
			whole[i] = 1e3 * got.Took[i]
			overhead[i] = 1e3 * (got.Took[i] - got.Own[i] - steps[2*i].DurationUS - steps[2*i+1].DurationUS)
		}
		out.overhead, out.page = measure.SpreadOf(overhead), measure.SpreadOf(whole)
		return nil
	})
	if sampler != nil {
		peak, _, sampleErr := sampler.Stop()
		err = errors.Join(err, sampleErr)
		out.peak = float64(peak.Total())
	}
	return out, err
}
