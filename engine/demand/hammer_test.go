package demand

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many at once on every method, in real time, for the race detector; some give
// up while they wait.
func TestHammer(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	var used atomic.Uint64
	s := New(Options{Slots: 3, Memory: 50, Used: used.Load})
	stages := []*Stage{s.NewStage(2, 3), s.NewStage(1, 0), s.NewStage(0, 0)}
	runs := []*Run{s.NewRun(0), s.NewRun(2), s.NewRun(0)}
	var enter func(ctx context.Context, rnd *rand.Rand, run *Run, parent *Slot, depth int) error
	enter = func(ctx context.Context, rnd *rand.Rand, run *Run, parent *Slot, depth int) error {
		request := Request{Run: run, Stage: stages[rnd.IntN(len(stages))], Parent: parent}
		if parent != nil && rnd.IntN(4) == 0 {
			request.Parent, request.Feeders = nil, []*Slot{parent}
		}
		w, err := s.Enter(ctx, request)
		if err != nil {
			return err
		}
		defer w.Leave()
		if rnd.IntN(4) == 0 {
			w.Feed()
		}
		for range rnd.IntN(3) {
			if depth == 0 {
				break
			}
			w.Block()
			err := enter(ctx, rnd, run, w, depth-1)
			if e := w.Resume(ctx); err != nil || e != nil {
				return err
			}
		}
		n := rnd.Uint64N(4)
		used.Add(n)
		w.Published(n)
		used.Add(-n)
		s.Freed()
		return nil
	}
	var active sync.WaitGroup
	var finished, gaveUp atomic.Int64
	for i := range 8 {
		active.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for range rounds / 8 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(3000))*time.Microsecond)
				if enter(ctx, rnd, runs[rnd.IntN(len(runs))], nil, 3) == nil {
					finished.Add(1)
				} else {
					gaveUp.Add(1)
				}
				cancel()
				if err := s.check(stages, runs); err != nil {
					t.Error(err)
				}
			}
		})
	}
	active.Wait()
	if err := s.idle(stages, runs); err != nil {
		t.Error(err)
	}
	if finished.Load() == 0 || gaveUp.Load() == 0 {
		t.Errorf("%d finished and %d gave up: nothing was tested", finished.Load(), gaveUp.Load())
	}
}
