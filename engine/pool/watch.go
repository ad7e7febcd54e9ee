package pool

import (
	"sync"
	"time"
)

// watchInterval is how often the memory of executors with a limit is looked
// at. What grows faster than the host's memory lasts in that time needs a
// cgroup around the supervisor.
const watchInterval = 25 * time.Millisecond

// watcher looks at the memory of executors that run a step with a limit.
type watcher struct {
	mu      sync.Mutex
	tasks   map[*Executor]watched
	stop    chan struct{}
	running bool
	ended   sync.WaitGroup
}

type watched struct {
	step  string
	limit uint64
}

func newWatcher() *watcher {
	return &watcher{tasks: make(map[*Executor]watched), stop: make(chan struct{})}
}

// add watches x while it runs t; the function returned ends that.
func (w *watcher) add(x *Executor, t *Task) func() {
	if t.Execute.MemoryLimit == 0 {
		return func() {}
	}
	w.mu.Lock()
	w.tasks[x] = watched{step: t.Execute.Step, limit: t.Execute.MemoryLimit}
	if !w.running {
		w.running = true
		w.ended.Go(w.run)
	}
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		delete(w.tasks, x)
		w.mu.Unlock()
	}
}

// run looks until there is nothing to look at: an idle pool costs nothing.
func (w *watcher) run() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		w.mu.Lock()
		if len(w.tasks) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		tasks := make(map[*Executor]watched, len(w.tasks))
		for x, t := range w.tasks {
			tasks[x] = t
		}
		w.mu.Unlock()
		for x, t := range tasks {
			if used := x.memory(); used > t.limit {
				x.fail(&MemoryError{Step: t.step, Used: used, Limit: t.limit})
			}
		}
		select {
		case <-tick.C:
		case <-w.stop:
			return
		}
	}
}

func (w *watcher) close() {
	close(w.stop)
	w.ended.Wait()
}

// memory returns what the executor, its descendants and its segments take.
func (x *Executor) memory() uint64 {
	used := privateMemory(x.process.pid()) + x.owner.Resident()
	for _, pid := range descendants(x.process.pid()) {
		used += privateMemory(pid)
	}
	return used
}
