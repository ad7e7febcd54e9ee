package demand

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// store is memory that is held.
type store struct {
	atomic.Uint64
	s *Scheduler
}

func (m *store) free(n uint64) {
	m.Add(-n)
	m.s.Freed()
	synctest.Wait()
}

func openWith(t *testing.T, limit uint64) (*hall, *store) {
	m := new(store)
	h := open(t, Options{Slots: 9, Memory: limit, Used: m.Load})
	m.s = h.s
	return h, m
}

// What tasks at work are expected to publish counts from their start.
func TestMemoryIsReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m := openWith(t, 10)
		run := h.s.NewRun(0)
		four, none := h.s.NewStage(0, 4), h.s.NewStage(0, 0)
		for _, n := range []string{"1", "2", "3", "4"} {
			h.enter(n, Request{Run: run, Stage: four})
		}
		h.want("1, 2")
		h.enter("small", Request{Run: h.s.NewRun(0), Stage: none, Reserve: 2})
		h.want("small")
		m.Add(4)
		h.at["1"].Published(4) // as much as was reserved
		h.leave("1")
		h.want("")
		h.at["small"].Published(0)
		h.want("")
		time.Sleep(time.Second)
		m.free(4) // from elsewhere: nobody left
		h.want("3")
		time.Sleep(time.Second)
		h.leave("3")
		h.want("4")
		time.Sleep(time.Second)
		if f := four.Figures(); f.Short != 2*time.Second {
			t.Errorf("%+v", f)
		}
		if f := h.s.Figures(); f.Reserved != 8 || f.Forced != 0 {
			t.Errorf("%+v", f)
		}
		h.all(four, none)
	})
}

// A stage that says nothing is expected to publish what it published most.
func TestReservationIsLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := openWith(t, 10)
		run := h.s.NewRun(0)
		stage := h.s.NewStage(0, 0)
		w := h.enter("1", Request{Run: run, Stage: stage})
		w.Published(6)
		w.Published(2)
		h.leave("1")
		h.enter("2", Request{Run: run, Stage: stage})
		h.enter("3", Request{Run: run, Stage: stage})
		h.want("1, 2")
		if f := stage.Figures(); f.Reserve != 6 || f.Waiting != 1 {
			t.Errorf("%+v", f)
		}
		h.at["2"].Feed() // what it feeds is not known
		h.want("3")
		h.all(stage)
	})
}

// When nothing runs one task goes over the limit: of a run that was begun at
// once, of another after a while.
func TestSomethingAlwaysGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m := openWith(t, 10)
		a, b := h.s.NewRun(0), h.s.NewRun(0)
		stage := h.s.NewStage(0, math.MaxUint64)
		h.enter("huge", Request{Run: a, Stage: stage})
		m.Add(20)
		h.enter("new", Request{Run: b, Stage: stage})
		h.want("huge")
		h.leave("huge")
		h.want("")
		h.enter("follows", Request{Run: a, Stage: stage})
		h.want("follows")
		h.leave("follows")
		time.Sleep(longPatience - 1)
		h.want("")
		time.Sleep(time.Nanosecond)
		h.want("new")
		if f := h.s.Figures(); f.Forced != 3 {
			t.Errorf("%+v", f)
		}
		h.all(stage)
	})
}

// A caller at work on its replies is given time to let them go; one that holds
// everything for good is not waited for again and again.
func TestPatienceWithCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m := openWith(t, 10)
		run := h.s.NewRun(0)
		callers, pieces := h.s.NewStage(0, 0), h.s.NewStage(0, 5)
		caller := h.enter("caller", Request{Run: run, Stage: callers})
		caller.Block()
		m.Add(10)
		h.enter("piece", Request{Run: run, Stage: pieces, Parent: caller})
		time.Sleep(longPatience / 2)
		h.want("caller")
		m.free(1) // it is at work
		time.Sleep(longPatience * 3 / 4)
		h.want("")
		m.free(4)
		h.want("piece")
		h.leave("piece")
		m.Add(5)
		begin := time.Now()
		for range 100 {
			h.enter("more", Request{Run: run, Stage: pieces, Parent: caller})
			time.Sleep(longPatience)
			h.want("more")
			h.leave("more")
		}
		if f := h.s.Figures(); f.Forced != 100 || h.s.patience != shortPatience {
			t.Errorf("%+v, patience %v after %v", f, h.s.patience, time.Since(begin))
		}
		m.Store(6) // and again it is worth waiting
		h.enter("fits not", Request{Run: h.s.NewRun(0), Stage: pieces})
		h.enter("fits", Request{Run: run, Stage: callers, Reserve: 1})
		h.want("fits")
		if h.s.patience != longPatience {
			t.Errorf("patience %v", h.s.patience)
		}
		h.all(callers, pieces)
	})
}

// A task that needs much is not passed by small ones for ever.
func TestLargeTasksAreNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := openWith(t, 10)
		run, other := h.s.NewRun(0), h.s.NewRun(0)
		small, large := h.s.NewStage(0, 1), h.s.NewStage(0, 10)
		h.enter("first", Request{Run: run, Stage: small})
		h.enter("large", Request{Run: other, Stage: large})
		h.want("first")
		last := "first"
		for i := range 2 * maxPassed {
			name := string(rune('一' + i))
			h.enter(name, Request{Run: run, Stage: small})
			h.leave(last)
			if h.at["large"] != nil {
				break
			}
			if last = name; h.at[name] == nil {
				t.Fatalf("after %d: neither the small nor the large task is in", i)
			}
		}
		if h.at["large"] == nil {
			t.Errorf("the large task was passed by %d", 2*maxPassed)
		}
		h.leave("large")
		h.in = nil
		h.all(small, large)
	})
}

// However many wait for memory, one that fits is found.
func TestOneThatFitsIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := openWith(t, 10)
		large, small := h.s.NewStage(0, 6), h.s.NewStage(0, 4)
		h.enter("first", Request{Run: h.s.NewRun(0), Stage: large})
		for range 50 {
			h.enter("large", Request{Run: h.s.NewRun(0), Stage: large})
		}
		h.want("first")
		h.enter("small", Request{Run: h.s.NewRun(0), Stage: small})
		h.want("small")
		h.all(large, small)
	})
}

// Memory that was kept for a task is free again when it gives up.
func TestLargeTaskGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := openWith(t, 10)
		small, large := h.s.NewStage(0, 1), h.s.NewStage(0, 10)
		h.enter("first", Request{Run: h.s.NewRun(0), Stage: small})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if _, err := h.s.Enter(ctx, Request{Run: h.s.NewRun(0), Stage: large}); err == nil {
				t.Error("the large task was let in")
			}
		}()
		synctest.Wait()
		for range maxPassed {
			h.enter("small", Request{Run: h.s.NewRun(0), Stage: small})
			h.leave("small")
			delete(h.at, "small")
		}
		h.in = nil
		h.enter("second", Request{Run: h.s.NewRun(0), Stage: small})
		h.want("")
		cancel()
		h.want("second")
		h.all(small, large)
	})
}

// The shard builders of GenStage's own example: no limit is passed, memory
// included, and both stages are full while there is work.
func TestShardBuilders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const builders, pieces, each, size = 10, 20, 200, 5
		h, m := openWith(t, 500)
		build, snapshot := h.s.NewStage(builders, 0), h.s.NewStage(pieces, size)
		h.s.slots = builders + pieces
		done := make(chan struct{})
		var most atomic.Uint64
		for i := range 3 * builders {
			go func() {
				defer func() { done <- struct{}{} }()
				run := h.s.NewRun(0)
				b, err := h.s.Enter(t.Context(), Request{Run: run, Stage: build})
				if err != nil {
					t.Error(err)
					return
				}
				defer b.Leave()
				replies := make(chan struct{})
				for j := range each {
					b.Block()
					go func() {
						w, err := h.s.Enter(t.Context(), Request{Run: run, Stage: snapshot, Parent: b})
						if err != nil {
							t.Error(err)
							return
						}
						time.Sleep(time.Duration(1+(i+j)%7) * time.Millisecond)
						if u := m.Add(size); u > most.Load() {
							most.Store(u)
						}
						w.Published(size)
						w.Leave()
						replies <- struct{}{}
					}()
				}
				for range each {
					<-replies
					time.Sleep(100 * time.Microsecond) // compressed and let go
					m.Add(^uint64(size - 1))
					h.s.Freed()
					if err := b.Resume(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		for range 3 * builders {
			<-done
		}
		for _, f := range []StageFigures{build.Figures(), snapshot.Figures()} {
			if f.PeakHeld > f.Limit || f.Saturated*10 < f.Busy*9 {
				t.Errorf("%+v", f)
			}
		}
		if f := h.s.Figures(); most.Load() > 500 || f.Forced > 0 {
			t.Errorf("%d bytes at most, %+v", most.Load(), f)
		}
		h.all(build, snapshot)
	})
}
