package bench

import (
	"context"
	"time"
)

// budget bounds the timed pass of one size.
type budget struct {
	warm   time.Duration // at least, for each case
	timed  time.Duration // for all cases together, unless minRuns takes longer
	rounds int           // turns that every case gets, whatever they cost
}

// budgetOf shares the whole benchmark's time out among the sizes: under two
// minutes when quick, under fifteen otherwise, on two cores.
func budgetOf(size int, quick bool) budget {
	b := budget{warm: 300 * time.Millisecond, timed: 20 * time.Second, rounds: 5}
	switch {
	case size > 64<<20:
		b = budget{warm: 0, timed: 300 * time.Second, rounds: 3}
	case size > 16<<20:
		b = budget{warm: 0, timed: 150 * time.Second, rounds: 5}
	case size > 1<<20:
		b = budget{warm: 300 * time.Millisecond, timed: 75 * time.Second, rounds: 5}
	}
	if quick {
		b.warm /= 3
		b.timed /= 8
		b.rounds = 3
	}
	return b
}

// timed gives the cases turns. The first rounds are strictly one turn each;
// then the turn is always that of the case which has had the least time, so
// that slow and fast cases get equal shares and stay interleaved, until the
// budget is used up.
func (h *harness) timed(ctx context.Context, lanes []*lane, label string, b budget) error {
	for _, l := range lanes {
		h.Progress("%s: warming up %s", label, l.info.Title)
		l.warm(ctx, b.warm)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	begin := time.Now()
	for round := range b.rounds {
		for _, l := range lanes {
			h.Progress("%s: round %d of at least %d, %s", label, round+1, b.rounds, l.info.Title)
			if l.err == nil {
				l.take(ctx)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	for turns := 0; time.Since(begin) < b.timed; turns++ {
		l := leastSpent(lanes)
		if l == nil {
			return nil
		}
		if turns%50 == 0 || l.batch == 1 {
			h.Progress("%s: %d%% of the time, %s", label, time.Since(begin)*100/b.timed, l.info.Title)
		}
		l.take(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// leastSpent returns the case whose turn it is, or nil when none can go on.
func leastSpent(lanes []*lane) *lane {
	var next *lane
	for _, l := range lanes {
		if l.err != nil || len(l.walls) >= manyRuns {
			continue
		}
		if next == nil || l.spent() < next.spent() {
			next = l
		}
	}
	return next
}
