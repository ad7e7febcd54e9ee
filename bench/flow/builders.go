package main

import (
	"fmt"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

const (
	builders     = 10
	subTasks     = 20
	snapshotSize = 5_000_000
	budget       = 500_000_000
)

// builders measures ten builders that want 200 snapshots of 5 MB each, twenty at a
// time of all, in 500 MB.
func (b *flow) builders() error {
	snapshots := 200
	if b.quick {
		snapshots = 20
	}
	eng, err := b.engine(engine.Options{MaxExecutors: 1 + builders + subTasks, Memory: budget})
	if err != nil {
		return err
	}
	defer eng.Close()
	configuration := fmt.Sprintf(`{"Builders":%d,"Snapshots":%d,"Concurrency":%d,"Bytes":%d}`, builders, snapshots, subTasks, snapshotSize)
	build, builder, snapshot := b.step("build", configuration), b.step("builder", configuration), b.step("snapshot", "")
	builder.Concurrency = builders
	snapshot.Concurrency, snapshot.Reserve = subTasks, snapshotSize
	p := &plan.Plan{Name: "builders", Steps: []*plan.Step{build, builder, snapshot}}
	shared, err := followShared()
	if err != nil {
		return err
	}
	begin := time.Now()
	var held uint64
	err = once(eng, p, `{}`, func(run *engine.Run, _ *engine.Result) error {
		held = run.Stats().PeakStateBytes
		return nil
	})
	took := time.Since(begin)
	peak := shared()
	if err != nil {
		return err
	}
	b.report.section(fmt.Sprintf("%d builders × %d snapshots of %s, %d at once, in %s", builders, snapshots, size(snapshotSize), subTasks, size(budget)))
	b.report.row("all finish", took.Round(time.Millisecond).String(), fmt.Sprintf("%s/s", size(float64(builders*snapshots)*snapshotSize/took.Seconds())), "", true)
	for _, s := range eng.Stages() {
		if s.Limit == 0 {
			continue
		}
		most := max(s.Peak, s.PeakHeld)
		b.report.row("at once: "+s.Step, fmt.Sprint(most), "", fmt.Sprintf("≤ %d", s.Limit), most <= s.Limit)
		busy := s.Busy.Seconds()
		share := (s.Saturated + s.Short).Seconds() / busy
		note := fmt.Sprintf("its own %.1f %%, memory %.1f %%", 100*s.Saturated.Seconds()/busy, 100*s.Short.Seconds()/busy)
		b.report.row("  limits reached, of the time with work", fmt.Sprintf("%.1f %%", 100*share), note, "≥ 90 %", share >= 0.9)
	}
	b.report.row("state held at most", size(float64(held)), fmt.Sprintf("%d forced in", eng.Host().Demand.Forced), "≤ "+size(budget), held <= budget)
	b.report.row("shared memory at most", size(float64(peak)), "all of the machine's, less what was there before", "≤ "+size(budget), peak <= budget)
	return nil
}

// followShared follows the machine's shared memory. The function returned ends
// that, and returns by how much it grew at most.
func followShared() (peak func() int64, err error) {
	before, err := measure.Shared()
	if err != nil {
		return nil, err
	}
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var most int64
		for {
			if now, err := measure.Shared(); err == nil { // it was to be had a moment ago
				most = max(most, now-before)
			}
			select {
			case <-stop:
				done <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(stop); return <-done }, nil
}
