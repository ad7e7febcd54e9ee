package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

const pageSize = 1000

// sampleEvery is coarse: reading the processes' pages takes milliseconds.
const sampleEvery = 25 * time.Millisecond

// pages measures records in pages through two steps a page: peak memory at ten
// times the records, and what a page costs above the steps' own work.
func (b *bench) pages() error {
	path, err := filepath.Abs(filepath.Join(b.data, "flights-3m.parquet"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: make data fetches it", err)
	}
	few, many := 100_000, 1_000_000
	if b.quick {
		few, many = 10_000, 100_000
	}
	low, err := b.passes(path, few)
	if err != nil {
		return err
	}
	high, err := b.passes(path, many)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("Go, %d records in pages of %d", many, pageSize)
	b.report.section(name)
	ratio := high.peak / low.peak
	b.report.row("peak memory, all processes", size(high.peak), fmt.Sprintf("%.2f × that of %d (%s)", ratio, few, size(low.peak)), "≤ 1.1 ×", ratio <= 1.1)
	b.report.row("a page above the steps' work", duration(high.overhead), "", "≤ 300 µs", high.overhead <= 300e3)
	b.report.row("records a second, in turn", fmt.Sprintf("%.0f", high.rate), "", "", true)
	return nil
}

type pass struct {
	peak     float64 // bytes
	overhead float64 // ns a page
	rate     float64 // records a second
}

func (b *bench) passes(path string, records int) (*pass, error) {
	eng, err := b.engine(engine.Options{})
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	configuration, err := json.Marshal(map[string]any{"path": path, "Records": records, "Page": pageSize, "Concurrency": 1})
	if err != nil {
		return nil, err
	}
	first, second := b.step("late", ""), b.step("sum", "")
	p := &plan.Plan{
		Name: "pages", Steps: []*plan.Step{b.step("pages", string(configuration)), first, second},
		Edges: []*plan.Edge{{From: first, To: second}},
	}
	out := new(pass)
	sampler := measure.Sample(func() []int { return append(eng.ExecutorPIDs(), os.Getpid()) }, sampleEvery)
	err = once(eng, p, `{}`, func(run *engine.Run, res *engine.Result) error {
		var doc bytes.Buffer
		if err := res.WriteDocument(&doc); err != nil {
			return err
		}
		var got struct {
			Pages int     `json:"pages"`
			Own   float64 `json:"own_us"`
			Wall  float64 `json:"wall_us"`
		}
		if err := json.Unmarshal(doc.Bytes(), &got); err != nil {
			return err
		}
		if got.Pages != records/pageSize {
			return fmt.Errorf("%d pages came back of %d", got.Pages, records/pageSize)
		}
		work := got.Own
		for _, s := range run.Stats().Steps {
			if s.ID != "pages" {
				work += s.DurationUS
			}
		}
		out.overhead = (got.Wall - work) * 1e3 / float64(got.Pages)
		out.rate = float64(records) / got.Wall * 1e6
		return nil
	})
	peak, _, sampleErr := sampler.Stop()
	if err == nil {
		err = sampleErr
	}
	out.peak = float64(peak.Total())
	return out, err
}
