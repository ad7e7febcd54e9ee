package demand

import (
	"context"
	"testing"
)

// BenchmarkUncontended is what the scheduler adds to a step that need not wait.
func BenchmarkUncontended(b *testing.B) {
	for name, o := range map[string]Options{
		"slots":      {Slots: 4},
		"and memory": {Slots: 4, Memory: 1 << 30, Used: func() uint64 { return 1 << 20 }},
	} {
		b.Run(name, func(b *testing.B) {
			s := New(o)
			run, stage := s.NewRun(0), s.NewStage(0, 1<<10)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				w, err := s.Enter(ctx, Request{Run: run, Stage: stage})
				if err != nil {
					b.Fatal(err)
				}
				w.Published(1 << 10)
				w.Leave()
			}
		})
	}
	b.Run("limited stage", func(b *testing.B) {
		s := New(Options{Slots: 4})
		run, stage := s.NewRun(3), s.NewStage(2, 0)
		ctx := context.Background()
		for b.Loop() {
			w, err := s.Enter(ctx, Request{Run: run, Stage: stage})
			if err != nil {
				b.Fatal(err)
			}
			w.Leave()
		}
	})
}

// BenchmarkCall is what it adds to a call: the callee's admission, and the
// caller's places given back and taken again.
func BenchmarkCall(b *testing.B) {
	s := New(Options{Slots: 4})
	run, a, c := s.NewRun(0), s.NewStage(2, 0), s.NewStage(2, 0)
	ctx := context.Background()
	caller, err := s.Enter(ctx, Request{Run: run, Stage: a})
	if err != nil {
		b.Fatal(err)
	}
	defer caller.Leave()
	for b.Loop() {
		caller.Block()
		callee, err := s.Enter(ctx, Request{Run: run, Stage: c, Parent: caller})
		if err != nil {
			b.Fatal(err)
		}
		callee.Leave()
		if err := caller.Resume(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCrowded is an admission and a leave while many runs wait: 1,000 for
// a stage that is full, 1,000 for the host.
func BenchmarkCrowded(b *testing.B) {
	s := New(Options{Slots: 2})
	full, free := s.NewStage(1, 0), s.NewStage(0, 0)
	ctx, cancel := context.WithCancel(context.Background())
	holder, err := s.Enter(ctx, Request{Run: s.NewRun(0), Stage: full})
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan *Slot)
	done := make(chan struct{})
	const runs = 1000
	for range runs {
		run := s.NewRun(0)
		go func() {
			_, _ = s.Enter(ctx, Request{Run: run, Stage: full})
			done <- struct{}{}
		}()
		go func() {
			for {
				w, err := s.Enter(ctx, Request{Run: run, Stage: free})
				if err != nil {
					done <- struct{}{}
					return
				}
				select {
				case served <- w:
				case <-ctx.Done():
					w.Leave()
				}
			}
		}()
	}
	for s.Figures().Waiting < 2*runs-1 {
	}
	for b.Loop() {
		(<-served).Leave()
	}
	cancel()
	for range 2 * runs {
		<-done
	}
	holder.Leave()
}
