package demand

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hall lets tasks wait and notes who is let in, in a bubble where "all wait"
// can be told.
type hall struct {
	t  *testing.T
	s  *Scheduler
	mu sync.Mutex
	in []string
	at map[string]*Slot
}

func open(t *testing.T, o Options) *hall { return &hall{t: t, s: New(o), at: make(map[string]*Slot)} }

// enter has a task enter, and returns when it is in or waits.
func (h *hall) enter(name string, r Request) *Slot {
	h.t.Helper()
	go func() {
		w, err := h.s.Enter(h.t.Context(), r)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			h.in = append(h.in, name+": "+err.Error())
			return
		}
		h.in = append(h.in, name)
		h.at[name] = w
	}()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[name]
}

func (h *hall) resume(name string) {
	w := h.at[name]
	go func() {
		err := w.Resume(h.t.Context())
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil {
			name += ": " + err.Error()
		}
		h.in = append(h.in, name+" again")
	}()
	synctest.Wait()
}

func (h *hall) leave(names ...string) {
	for _, n := range names {
		if h.at[n] == nil {
			h.t.Fatalf("%s is not in; let in: %v", n, h.in)
		}
		h.at[n].Leave()
		synctest.Wait()
	}
}

// want compares who was let in since it was last asked.
func (h *hall) want(names string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := strings.Join(h.in, ", "); got != names {
		h.t.Errorf("let in: %s\nwant:   %s", got, names)
	}
	h.in = nil
}

// all lets everybody in and out, and looks for what is left.
func (h *hall) all(stages ...*Stage) {
	h.t.Helper()
	for done := false; !done; {
		h.mu.Lock()
		done = len(h.at) == 0
		for name, w := range h.at {
			w.Leave()
			delete(h.at, name)
		}
		h.mu.Unlock()
		time.Sleep(longPatience)
		synctest.Wait()
	}
	if err := h.s.idle(stages, nil); err != nil {
		h.t.Error(err)
	}
}

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		run, other := h.s.NewRun(0), h.s.NewRun(0)
		a, b, c, d := h.s.NewStage(5, 0), h.s.NewStage(5, 0), h.s.NewStage(0, 0), h.s.NewStage(5, 0)
		caller := h.enter("caller", Request{Run: run, Stage: a})
		caller.Block()
		deep := h.enter("deep", Request{Run: run, Stage: b, Parent: caller})
		h.enter("first", Request{Run: run, Stage: a})
		h.enter("second", Request{Run: run, Stage: a})
		h.enter("elsewhere", Request{Run: run, Stage: c})
		h.enter("called", Request{Run: run, Stage: a, Parent: caller})
		h.enter("deeper", Request{Run: run, Stage: c, Parent: deep})
		h.enter("other's", Request{Run: other, Stage: d})
		h.want("caller, deep")
		deep.Block()
		// The other run was not served for longest; then the deepest of this one.
		h.want("other's")
		h.leave("other's")
		h.want("deeper")
		h.resume("deep")
		h.resume("caller")
		h.want("")
		h.leave("deeper")
		h.want("deep again")
		h.leave("deep")
		h.want("caller again")
		h.leave("caller")
		h.want("called")
		h.leave("called")
		h.want("first")
		h.leave("first")
		h.leave("second")
		h.want("second, elsewhere")
		h.all(a, b, c, d)
	})
}

// One run with 10,000 tasks does not starve another with one.
func TestRunsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 4})
		many, few := h.s.NewRun(0), h.s.NewRun(0)
		stage := h.s.NewStage(2, 0)
		caller := h.enter("caller", Request{Run: many, Stage: h.s.NewStage(1, 0)})
		caller.Block()
		for i := range 10_000 {
			go func() {
				w, err := h.s.Enter(t.Context(), Request{Run: many, Stage: stage, Parent: caller})
				if err != nil {
					t.Error(err)
				}
				h.mu.Lock()
				h.in = append(h.in, fmt.Sprint("many ", i))
				h.mu.Unlock()
				time.Sleep(time.Millisecond)
				w.Leave()
			}()
		}
		synctest.Wait()
		go func() {
			w, err := h.s.Enter(t.Context(), Request{Run: few, Stage: stage})
			if err != nil {
				t.Error(err)
			}
			h.mu.Lock()
			h.in = append(h.in, "few")
			h.mu.Unlock()
			w.Leave()
		}()
		time.Sleep(20 * time.Millisecond)
		h.mu.Lock()
		if at := slices.Index(h.in, "few"); at < 0 || at > 6 {
			t.Errorf("the other run's task was %dth of %d", at, len(h.in))
		}
		h.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(h.in); n != 10_002 {
			t.Errorf("%d were let in", n)
		}
		h.all(stage)
	})
}

// A run's own limit holds its tasks back, and nobody else's.
func TestRunLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 9})
		run, other := h.s.NewRun(2), h.s.NewRun(0)
		a, b := h.s.NewStage(0, 0), h.s.NewStage(3, 0)
		h.enter("1", Request{Run: run, Stage: a})
		h.enter("2", Request{Run: run, Stage: b})
		h.enter("3", Request{Run: run, Stage: a})
		h.enter("4", Request{Run: run, Stage: b})
		h.enter("other's", Request{Run: other, Stage: b})
		h.want("1, 2, other's")
		h.at["1"].Block()
		synctest.Wait()
		h.want("3")
		h.resume("1")
		h.want("")
		h.leave("3")
		h.want("1 again")
		h.leave("1")
		h.want("4")
		h.all(a, b)
	})
}

// A blocked task keeps its place in its stage, unless calls go in a circle.
func TestStagePlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 9})
		run, other := h.s.NewRun(0), h.s.NewRun(0)
		build, piece := h.s.NewStage(1, 0), h.s.NewStage(2, 0)
		builder := h.enter("builder", Request{Run: run, Stage: build})
		builder.Block()
		h.enter("next", Request{Run: other, Stage: build})
		for _, n := range []string{"p1", "p2", "p3"} {
			h.enter(n, Request{Run: run, Stage: piece, Parent: builder})
		}
		h.want("builder, p1, p2")
		// A piece that needs a builder: now builders lend their places to those
		// that are called, and to no others.
		p1 := h.at["p1"]
		p1.Block()
		h.enter("inner", Request{Run: run, Stage: build, Parent: p1})
		h.want("inner, p3")
		h.resume("builder") // its place is lent
		h.want("")
		h.leave("inner")
		h.want("builder again")
		h.leave("builder")
		h.want("next")
		h.all(build, piece)
	})
}

// With one place, a step that calls itself, and two that call each other from
// two runs, come to their ends.
func TestCircles(t *testing.T) {
	for slots := range 3 {
		synctest.Test(t, func(t *testing.T) {
			s := New(Options{Slots: slots + 1})
			stages := []*Stage{s.NewStage(1, 0), s.NewStage(1, 0)}
			var runs sync.WaitGroup
			var call func(run *Run, parent *Slot, depth, at, step int)
			call = func(run *Run, parent *Slot, depth, at, step int) {
				w, err := s.Enter(t.Context(), Request{Run: run, Stage: stages[at], Parent: parent})
				if err != nil {
					t.Error(err)
					return
				}
				defer w.Leave()
				time.Sleep(time.Millisecond)
				if depth == 0 {
					return
				}
				w.Block()
				call(run, w, depth-1, (at+step)%2, step)
				if err := w.Resume(t.Context()); err != nil {
					t.Error(err)
				}
			}
			for i := range 4 {
				runs.Go(func() { call(s.NewRun(1), nil, 10, i%2, i/2) })
			}
			runs.Wait()
			if err := s.idle(stages, nil); err != nil {
				t.Error(err)
			}
			for i, st := range stages {
				if f := st.Figures(); f.Peak != 1 || !f.Lends || f.Admitted != 22 {
					t.Errorf("stage %d: %+v", i, f)
				}
			}
		})
	}
}

// While a feeder waits for a call, its reader holds nothing the call needs.
func TestFeederThatCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		run := h.s.NewRun(1)
		a, b, c := h.s.NewStage(1, 0), h.s.NewStage(1, 0), h.s.NewStage(1, 0)
		feeder := h.enter("feeder", Request{Run: run, Stage: a})
		feeder.Feed()
		reader := h.enter("reader", Request{Run: run, Stage: b, Feeders: []*Slot{feeder}})
		reader.Feed()
		h.enter("last", Request{Run: run, Stage: c, Feeders: []*Slot{reader}})
		h.want("feeder, reader, last")
		feeder.Block()
		h.enter("called", Request{Run: run, Stage: c, Parent: feeder})
		h.want("called") // of the last reader's own stage
		h.resume("feeder")
		h.want("feeder again") // it feeds, and needs no place
		h.enter("new", Request{Run: run, Stage: b, Parent: reader})
		h.want("")
		h.leave("called")
		if f := h.s.Figures(); f.Running != 1 || f.Waiting != 1 {
			t.Errorf("the last reader does not run: %+v", f)
		}
		h.leave("last", "reader", "feeder")
		h.want("new")
		h.all(a, b, c)
	})
}

// The feeder may have called before its reader enters.
func TestReaderThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		run := h.s.NewRun(0)
		a, b := h.s.NewStage(1, 0), h.s.NewStage(1, 0)
		feeder := h.enter("feeder", Request{Run: run, Stage: a})
		feeder.Feed()
		holder := h.enter("holder", Request{Run: run, Stage: b})
		feeder.Block()
		h.enter("called", Request{Run: run, Stage: b, Parent: feeder})
		holder.Block() // for something that never comes: its place is free once it leaves
		h.enter("reader", Request{Run: run, Stage: b, Feeders: []*Slot{feeder}})
		h.leave("holder")
		h.want("feeder, holder, called")
		h.leave("called")
		h.want("reader")
		// The reader holds the stage's place, and gets nothing before this call.
		h.enter("called too", Request{Run: run, Stage: b, Parent: feeder})
		h.want("called too")
		h.all(a, b)
	})
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		run := h.s.NewRun(0)
		a, b, c := h.s.NewStage(1, 0), h.s.NewStage(1, 0), h.s.NewStage(1, 0)
		feeder := h.enter("feeder", Request{Run: run, Stage: a})
		feeder.Feed()
		feeder.Block()
		between := h.enter("between", Request{Run: run, Stage: c, Parent: feeder})
		between.Block()
		h.enter("reader", Request{Run: run, Stage: b, Feeders: []*Slot{feeder}})
		h.enter("called", Request{Run: run, Stage: b, Parent: between}) // the reader waits for it
		h.want("feeder, between, reader, called")
		h.all(a, b, c)
	})
}

// Runs take turns at resuming too.
func TestResumesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		a, b, stage := h.s.NewRun(0), h.s.NewRun(0), h.s.NewStage(9, 0)
		for _, n := range []string{"a1", "a2", "a3", "b1"} {
			run := a
			if n == "b1" {
				run = b
			}
			h.enter(n, Request{Run: run, Stage: stage}).Block()
		}
		h.enter("x", Request{Run: h.s.NewRun(0), Stage: stage})
		for _, n := range []string{"a1", "a2", "a3", "b1"} {
			h.resume(n)
		}
		h.want("a1, a2, a3, b1, x")
		h.leave("x", "a1")
		h.want("a1 again, b1 again")
		h.all(stage)
	})
}

// Who gives up a wait does not end the one that came after it.
func TestOldWaitDoesNotEndANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		run, stage := h.s.NewRun(0), h.s.NewStage(0, 0)
		w := h.enter("w", Request{Run: run, Stage: stage})
		w.Block()
		x := h.enter("x", Request{Run: run, Stage: stage})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = w.Resume(ctx) }()
		synctest.Wait()
		h.s.mu.Lock() // a Block, and the next Resume, before the first knows that it ended
		cancel()
		w.calls++
		h.s.block(w)
		w.calls--
		h.s.unblock(w)
		ready := make(chan struct{})
		w.ready = ready
		h.s.mu.Unlock()
		synctest.Wait()
		x.Leave()
		select {
		case <-ready:
		default:
			t.Fatal("the second wait does not end")
		}
		h.all(stage)
	})
}

func TestBlockAgainEndsAResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, Options{Slots: 1})
		run := h.s.NewRun(0)
		a := h.s.NewStage(2, 0)
		w := h.enter("w", Request{Run: run, Stage: a})
		w.Block()
		h.enter("x", Request{Run: run, Stage: a})
		h.resume("w")
		h.want("w, x")
		w.Block()
		h.want("w again")
		w.Block()
		h.resume("w")
		h.want("w again") // one of two
		h.resume("w")
		h.want("")
		h.leave("x")
		h.want("w again")
		h.all(a)
	})
}

func TestCancelledWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Slots: 1})
		run := s.NewRun(0)
		a := s.NewStage(0, 0)
		w, err := s.Enter(t.Context(), Request{Run: run, Stage: a})
		if err != nil {
			t.Fatal(err)
		}
		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := s.Enter(ctx, Request{Run: run, Stage: a}); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		if _, err := s.Enter(ctx, Request{Run: run, Stage: a}); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		w.Block()
		x, err := s.Enter(t.Context(), Request{Run: run, Stage: a, Parent: w})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Resume(ctx); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		w.Leave()
		w.Block() // too late, and harmless
		if err := w.Resume(t.Context()); err != nil {
			t.Error(err)
		}
		x.Leave()
		defer func() {
			if recover() == nil {
				t.Error("a Resume without a Block did not panic")
			}
			if err := s.idle([]*Stage{a}, []*Run{run}); err != nil {
				t.Error(err)
			}
		}()
		y, err := s.Enter(t.Context(), Request{Run: run, Stage: a})
		if err != nil {
			t.Fatal(err)
		}
		defer y.Leave()
		_ = y.Resume(t.Context())
	})
}
