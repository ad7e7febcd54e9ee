package demand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A world is limits, stages, and runs whose tasks call each other, alone or
// several at once, and feed streams to each other.
type world struct {
	slots  int
	memory uint64
	stages []stagePlan
	runs   []runPlan
}

type stagePlan struct {
	limit   int
	reserve uint64
}

type runPlan struct {
	limit  int
	cancel time.Duration // 0: never
	tasks  []*taskPlan
}

type taskPlan struct {
	stage  int
	start  time.Duration
	work   time.Duration
	output uint64
	keep   time.Duration // how long its caller needs the output
	calls  [][]*taskPlan // one batch after the other; within a batch at once
	reader *taskPlan     // of the stream it feeds when it is done, which calls also feed
	items  []*taskPlan   // called for each item of the stream; nil: no call
	next   *taskPlan     // follows in its places, if it may
}

func drawWorld(t *rapid.T) world {
	w := world{slots: rapid.IntRange(1, 4).Draw(t, "slots")}
	if rapid.Bool().Draw(t, "memory?") {
		w.memory = rapid.Uint64Range(1, 40).Draw(t, "memory")
	}
	for range rapid.IntRange(1, 5).Draw(t, "stages") {
		w.stages = append(w.stages, stagePlan{rapid.IntRange(0, 3).Draw(t, "limit"), rapid.Uint64Range(0, 10).Draw(t, "reserve")})
	}
	left := rapid.IntRange(1, 60).Draw(t, "tasks")
	for range rapid.IntRange(1, 4).Draw(t, "runs") {
		r := runPlan{limit: rapid.IntRange(0, 3).Draw(t, "runLimit")}
		if rapid.IntRange(0, 3).Draw(t, "cancel?") == 0 {
			r.cancel = ticks(t, "cancel", 60)
		}
		for range rapid.IntRange(1, 4).Draw(t, "roots") {
			r.tasks = append(r.tasks, w.drawTask(t, 0, &left))
		}
		w.runs = append(w.runs, r)
	}
	return w
}

func ticks(t *rapid.T, label string, most int) time.Duration {
	return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Millisecond
}

func (w *world) drawTask(t *rapid.T, depth int, left *int) *taskPlan {
	*left--
	p := &taskPlan{
		stage: rapid.IntRange(0, len(w.stages)-1).Draw(t, "stage"),
		start: ticks(t, "start", 5), work: ticks(t, "work", 5), keep: ticks(t, "keep", 5),
	}
	p.output = rapid.Uint64Range(0, max(w.stages[p.stage].reserve, 5)).Draw(t, "output")
	if depth > 5 {
		return p
	}
	for *left > 0 && rapid.IntRange(0, 2).Draw(t, "batch?") > 0 && len(p.calls) < 3 {
		var batch []*taskPlan
		for *left > 0 && len(batch) < 4 && (len(batch) == 0 || rapid.Bool().Draw(t, "more")) {
			batch = append(batch, w.drawTask(t, depth+1, left))
		}
		p.calls = append(p.calls, batch)
	}
	if *left > 0 && rapid.IntRange(0, 4).Draw(t, "stream?") == 0 {
		p.reader = w.drawTask(t, depth+1, left)
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			var call *taskPlan
			if *left > 0 && rapid.Bool().Draw(t, "calls") {
				call = w.drawTask(t, depth+1, left)
			}
			p.items = append(p.items, call)
		}
	} else if *left > 0 && rapid.IntRange(0, 2).Draw(t, "next?") == 0 {
		p.next = w.drawTask(t, depth, left)
	}
	return p
}

// play is a world at work. What it counts by itself is compared with what the
// scheduler says.
type play struct {
	world
	s      *Scheduler
	stages []*Stage
	runs   []*Run
	used   atomic.Uint64
	most   atomic.Uint64

	mu      sync.Mutex
	working map[any]int // by stage, run and host: running, as a task sees it
	entered uint64
	failed  error
}

func (p *play) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = err
	}
}

func (p *play) look() {
	if err := p.s.check(p.stages, p.runs); err != nil {
		p.fail(err)
	}
}

// count enters that a task began (1) or stopped (-1) to run.
func (p *play) count(r, stage, by int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, limit := range map[any]int{"host": p.slots, p.stages[stage]: p.world.stages[stage].limit, p.runs[r]: p.world.runs[r].limit} {
		p.working[key] += by
		if p.working[key] < 0 || limit > 0 && p.working[key] > limit {
			if p.failed == nil {
				p.failed = fmt.Errorf("%d at work, the limit is %d", p.working[key], limit)
			}
		}
	}
}

// scope is what a call waits for: the task that it called, and those that go on
// after a reader.
type scope struct {
	caller   *Slot // nil: nobody called
	branches sync.WaitGroup

	mu   sync.Mutex
	errs error
}

func (sc *scope) add(err error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.errs = errors.Join(sc.errs, err)
}

// call plays a task that somebody waits for, and all that comes of it.
func (p *play) call(ctx context.Context, r int, t *taskPlan, caller *Slot) error {
	sc := &scope{caller: caller}
	sc.add(p.task(ctx, r, t, sc, nil, nil))
	sc.branches.Wait()
	return sc.errs
}

// task plays one task, what it calls and what follows it. A reader's items come from
// its feeder; for others both are nil.
func (p *play) task(ctx context.Context, r int, t *taskPlan, sc *scope, feeder *Slot, items <-chan struct{}) error {
	time.Sleep(t.start)
	request := Request{Run: p.runs[r], Stage: p.stages[t.stage], Parent: sc.caller}
	if feeder != nil {
		request.Feeders = []*Slot{feeder}
	}
	slot, err := p.s.Enter(ctx, request)
	if err != nil {
		return err
	}
	return p.placed(ctx, r, t, slot, sc, items)
}

// placed plays a task that has a place.
func (p *play) placed(ctx context.Context, r int, t *taskPlan, slot *Slot, sc *scope, items <-chan struct{}) error {
	p.mu.Lock()
	p.entered++
	p.mu.Unlock()
	// A reader is blocked and resumed with its feeder, which it cannot see.
	count := func(by int) {
		if items == nil {
			p.count(r, t.stage, by)
		}
	}
	count(1)
	p.look()
	state := 1
	leave := func() {
		count(-state)
		state = 0
		slot.Leave()
		slot.Leave()
		p.look()
	}
	defer leave()
	block := func() {
		if state == 1 {
			count(-1)
			state = 0
		}
		slot.Block()
		p.look()
	}
	resume := func(last bool) error {
		err := slot.Resume(ctx)
		if err == nil && last {
			count(1)
			state = 1
		}
		p.look()
		return err
	}
	ahead := t.next != nil && slot.Ahead(p.stages[t.next.stage])
	if err := p.work(ctx, r, t, slot, items, block, resume); err != nil {
		return err
	}
	if t.reader != nil {
		return p.feed(ctx, r, t, slot, sc, &state, count)
	}
	p.publish(slot, t)
	if !ahead || ctx.Err() != nil {
		return ctx.Err()
	}
	next := slot.Pass(p.stages[t.next.stage], sc.caller)
	if next == nil { // blocked: a reader whose feeder waits
		return nil
	}
	leave() // its places are the next one's
	if items == nil {
		return p.placed(ctx, r, t.next, next, sc, nil)
	}
	// The feeder waits for the reader, and not for what follows.
	sc.branches.Go(func() { sc.add(p.placed(ctx, r, t.next, next, sc, nil)) })
	return nil
}

// work plays what a task does between its admission and its end.
func (p *play) work(ctx context.Context, r int, t *taskPlan, slot *Slot, items <-chan struct{}, block func(), resume func(last bool) error) error {
	time.Sleep(t.work)
	for _, batch := range t.calls {
		replies := make(chan error)
		for _, c := range batch {
			block()
			go func() { replies <- p.call(ctx, r, c, slot) }()
		}
		var errs error
		for i := range batch {
			if err := <-replies; err != nil {
				errs = errors.Join(errs, err)
			}
			if err := resume(i == len(batch)-1); err != nil {
				errs = errors.Join(errs, err)
			}
			time.Sleep(batch[0].keep)
		}
		if errs != nil {
			return errs
		}
	}
	if items != nil {
		for range items {
			time.Sleep(t.work)
		}
	}
	return nil
}

func (p *play) publish(slot *Slot, t *taskPlan) {
	p.used.Add(t.output)
	for u, m := p.used.Load(), p.most.Load(); u > m && !p.most.CompareAndSwap(m, u); m = p.most.Load() {
	}
	slot.Published(t.output)
	p.look()
	time.AfterFunc(t.keep, func() {
		p.used.Add(-t.output)
		p.s.Freed()
	})
}

// feed plays the second half of a task that ends with a stream.
func (p *play) feed(ctx context.Context, r int, t *taskPlan, slot *Slot, sc *scope, state *int, count func(int)) error {
	if *state == 1 {
		count(-1)
		*state = 0
	}
	slot.Feed()
	p.look()
	stream := make(chan struct{}, 1)
	end := make(chan error)
	go func() { end <- p.task(ctx, r, t.reader, sc, slot, stream) }()
	for _, call := range t.items {
		if call != nil {
			slot.Block()
			p.look()
			if err := errors.Join(p.call(ctx, r, call, slot), slot.Resume(ctx)); err != nil {
				break
			}
			p.look()
		}
		select {
		case stream <- struct{}{}:
		case <-ctx.Done():
		}
	}
	close(stream)
	return <-end
}

func (w world) play() error {
	p := &play{world: w, working: make(map[any]int)}
	p.s = New(Options{Slots: w.slots, Memory: w.memory, Used: p.used.Load})
	for _, st := range w.stages {
		p.stages = append(p.stages, p.s.NewStage(st.limit, st.reserve))
	}
	for _, r := range w.runs {
		p.runs = append(p.runs, p.s.NewRun(r.limit))
	}
	var tasks sync.WaitGroup
	for i, r := range w.runs {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if r.cancel > 0 {
			time.AfterFunc(r.cancel, cancel)
		}
		for _, t := range r.tasks {
			tasks.Go(func() {
				if err := p.call(ctx, i, t, nil); err != nil && ctx.Err() == nil {
					p.fail(fmt.Errorf("a task failed: %w", err))
				}
			})
		}
	}
	tasks.Wait()
	time.Sleep(time.Second) // what was kept is let go
	var admitted uint64
	for _, st := range p.stages {
		admitted += st.Figures().Admitted
	}
	switch {
	case p.failed != nil:
		return p.failed
	case admitted != p.entered:
		return fmt.Errorf("%d admitted, %d tasks entered", admitted, p.entered)
	case p.declared() && p.s.Figures().Forced == 0 && p.most.Load() > w.memory && w.memory > 0:
		return fmt.Errorf("%d bytes held, the limit is %d, and nothing was forced", p.most.Load(), w.memory)
	}
	return p.s.idle(p.stages, p.runs)
}

// declared: no task can publish more than was reserved for it.
func (w world) declared() bool {
	for _, st := range w.stages {
		if st.reserve < 5 {
			return false
		}
	}
	return true
}

// Whatever tasks call, feed, hold and cancel: none waits for ever (the bubble
// would find all asleep), no limit is passed, none is lost or admitted twice,
// and in the end nothing is left.
func TestAnyWorld(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := drawWorld(rt)
		var err error
		synctest.Test(t, func(*testing.T) { err = w.play() })
		if err != nil {
			rt.Fatal(err)
		}
	})
}
