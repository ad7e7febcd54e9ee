package bench

import (
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/bench/measure"
	"github.com/millrace/millrace/bench/workload"
)

const (
	// turn is how long a case runs before the next one has its turn, unless a
	// single run takes longer.
	turn = 20 * time.Millisecond

	// memoryInterval is the time between two samples of memory, and memoryPass
	// how long a fast case is run for them.
	memoryInterval = 5 * time.Millisecond
	memoryPass     = 150 * time.Millisecond

	// manyRuns bounds the samples that are kept of one case.
	manyRuns = 20_000
)

// lane is one case at one size, and what it has shown so far.
type lane struct {
	info    Info
	session Session
	err     error         // why it is out
	batch   int           // runs in a turn
	turns   int           // timed, so far
	fastest time.Duration // of those turns

	walls, handovers, cpus []float64 // ns
	peak                   measure.Memory
	mallocs, bytes         float64 // of one run
}

// warm runs the case for at least that long, until its caches, buffers and page
// tables are settled, and sets how many runs make a turn. With zero, the run
// that verified the case has to do.
func (l *lane) warm(ctx context.Context, least time.Duration) {
	l.batch = 1
	for begin := time.Now(); time.Since(begin) < least; {
		at := time.Now()
		if _, err := l.session.Run(ctx, l.batch); err != nil {
			l.err = err
			return
		}
		took := time.Since(at)
		if took < turn/2 {
			l.batch *= 2
		}
	}
}

// take is one turn: timed runs, with the CPU that they used.
func (l *lane) take(ctx context.Context) {
	at := time.Now()
	pids := l.session.PIDs()
	before, err1 := l.cpu(ctx, pids)
	samples, err2 := l.session.Run(ctx, l.batch)
	after, err3 := l.cpu(ctx, pids)
	took := time.Since(at)
	if l.turns++; l.turns == 1 || took < l.fastest {
		l.fastest = took
	}
	if l.err = errors.Join(err1, err2, err3); l.err != nil {
		return
	}
	for _, s := range samples {
		l.walls = append(l.walls, float64(s.Wall))
		for _, h := range s.Handovers {
			l.handovers = append(l.handovers, float64(h))
		}
	}
	l.cpus = append(l.cpus, float64(after-before)/float64(len(samples)))
}

func (l *lane) cpu(ctx context.Context, pids []int) (time.Duration, error) {
	if c, ok := l.session.(CPUCounter); ok {
		return c.CPU(ctx)
	}
	return measure.CPU(pids)
}

// spent is the case's share of the time. It is charged with its fastest turn for
// every turn, so that a stall of the machine does not cost it later turns.
func (l *lane) spent() time.Duration { return time.Duration(l.turns) * l.fastest }

// memoryPass runs the case untimed while its memory is sampled and its
// allocations are counted.
func (l *lane) memoryPass(ctx context.Context) {
	l.err = func() error {
		before, err := l.session.Counters(ctx)
		if err != nil {
			return err
		}
		sampler := measure.Sample(l.session.PIDs, memoryInterval)
		runs, err := l.runFor(ctx, memoryPass)
		peak, _, sampleErr := sampler.Stop()
		if err := errors.Join(err, sampleErr); err != nil {
			return err
		}
		after, err := l.session.Counters(ctx)
		if err != nil {
			return err
		}
		l.peak = peak
		l.mallocs = float64(after.Mallocs-before.Mallocs) / float64(runs)
		l.bytes = float64(after.Bytes-before.Bytes) / float64(runs)
		return nil
	}()
}

func (l *lane) runFor(ctx context.Context, d time.Duration) (runs int, err error) {
	for begin := time.Now(); runs == 0 || time.Since(begin) < d; runs += l.batch {
		if _, err := l.session.Run(ctx, l.batch); err != nil {
			return runs, err
		}
	}
	return runs, nil
}

func (l *lane) point(p *workload.Payload) Point {
	return Point{
		Case: l.info.Name, Size: p.Nominal, PayloadBytes: p.Size, Runs: len(l.walls),
		Wall: measure.SpreadOf(l.walls), Handover: measure.SpreadOf(l.handovers), CPU: measure.SpreadOf(l.cpus),
		Peak: l.peak, PeakBytes: l.peak.Total(), Mallocs: l.mallocs, AllocBytes: l.bytes,
	}
}
