package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine/lightning/standin"
)

// ownBytes bounds what a run takes of the host's own memory: its records,
// goroutines, and buffers while a state passes through.
const ownBytes = 0.5e6

// many measures a worker that has many runs at once, each with a dataclip of
// 1 MB in and one out, against one that has a run at a time.
func (b *suite) many() error {
	n, size := b.pick(200, 40), int64(1e6)
	state, err := stateOf(size)
	if err != nil {
		return err
	}
	// Each run waits until all have had the time to start, so that they are
	// there together and send their outputs at about the same time.
	hold := func(ms int) string {
		return fmt.Sprintf("%s; return new Promise((done) => setTimeout(() => done(state), %d))", change, ms)
	}
	run, err := lineOf(state, nil, hold(0))
	if err != nil {
		return err
	}
	held, err := lineOf(state, nil, hold(300*n))
	if err != nil {
		return err
	}
	one, err := b.manyAtOnce(run, 1, n/20)
	if err != nil {
		return err
	}
	all, err := b.manyAtOnce(held, n, n)
	if err != nil {
		return err
	}
	section := fmt.Sprintf("%d runs at once, dataclips of 1 MB", n)
	// What a run holds: its input and its output, their segments' slack, and in
	// the host's own memory the run's records and buffers.
	bound := float64(n) * (2*1.25*float64(size) + ownBytes)
	b.report.add(section, "runs between their start and their end together", inCount, []float64{float64(all.together)}).
		target(fmt.Sprint(n), all.together == n)
	b.report.add(section, "all runs, which wait for each other", inTime, []float64{all.wall})
	b.report.add(section, "host's own memory above idle, against one at a time", inBytes, []float64{all.private}).
		against([]float64{all.private}, []float64{one.private}).target(fmt.Sprintf("≤ %s: 0.5 MB a run", show(float64(n)*ownBytes, inBytes)), all.private <= float64(n)*ownBytes)
	b.report.add(section, "the same with the states", inBytes, []float64{all.total}).
		against([]float64{all.total}, []float64{one.total}).target(fmt.Sprintf("≤ %s: 3 MB a run", show(bound, inBytes)), all.total <= bound)
	b.report.add(section, "events lost, doubled or out of order", inCount, []float64{0}).target("0", true) // else there was an error
	return nil
}

// crowd is what runs at once cost.
type crowd struct {
	wall           float64
	private, total float64 // the host's, above idle
	together       int     // most runs between their start and their end
}

// manyAtOnce has a worker with that capacity run n, and checks that the server
// has all of each, in order.
func (b *suite) manyAtOnce(run standin.Run, capacity, n int) (c *crowd, err error) {
	s, err := b.serve(serverSpec{}, fmt.Sprint("WORKER_CAPACITY=", capacity))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	time.Sleep(settle)
	idle, err := measure.MemoryOf(s.host())
	if err != nil {
		return nil, err
	}
	sampler := measure.Sample(s.host, 4*sampleEvery)
	begin := time.Now()
	ids := make([]string, n)
	for i := range ids {
		if ids[i], err = s.enqueue(run); err != nil {
			return nil, err
		}
	}
	records := make([]*standin.RunRecord, n)
	for i, id := range ids {
		if records[i], err = s.wait(id); err != nil {
			return nil, err
		}
	}
	c = &crowd{wall: float64(time.Since(begin))}
	peak, _, err := sampler.Stop()
	if err != nil {
		return nil, err
	}
	c.private, c.total = float64(peak.Private-idle.Private), float64(peak.Total()-idle.Total())
	for _, r := range records {
		if err := whole(r); err != nil {
			return nil, fmt.Errorf("run %s: %w", r.ID, err)
		}
		together := 0
		for _, other := range records {
			if !other.Started.After(r.Started) && other.Finished.After(r.Started) {
				together++
			}
		}
		c.together = max(c.together, together)
	}
	return c, nil
}

// whole checks what the server has of a run. Ids, order within a step and JSON
// it has checked itself.
func whole(r *standin.RunRecord) error {
	var events []string
	for _, e := range r.Events {
		events = append(events, e.Event)
	}
	if got := strings.Join(events, " "); got != "run:start step:start step:complete run:complete" {
		return fmt.Errorf("events %s", got)
	}
	in, out := r.Dataclips[r.Input], r.Dataclips[r.Steps[0].Output]
	if r.Duplicates > 0 || out.Size == 0 || r.Final == nil || r.Final.CRC != out.CRC {
		return fmt.Errorf("%d duplicates, %d bytes in and %d out", r.Duplicates, in.Size, out.Size)
	}
	return nil
}
