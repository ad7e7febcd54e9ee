package lightning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/engine/uplink/phoenix"
)

// workloop claims runs for one set of queues, as long as it has room for them.
type workloop struct {
	Workloop
	worker *Worker
	now    chan struct{} // capacity 1: claim without waiting

	// patience ends when claims that are not answered are given up.
	patience context.Context
	giveUp   context.CancelFunc

	mu     sync.Mutex
	active int // runs
	open   int // runs asked for and not answered yet
}

func newWorkloop(w *Worker, l Workloop) *workloop {
	wl := &workloop{Workloop: l, worker: w, now: make(chan struct{}, 1)}
	wl.patience, wl.giveUp = context.WithCancel(w.life)
	return wl
}

// errAtCapacity and errNoRuns are why a claim brought nothing.
var (
	errAtCapacity = errors.New("at capacity")
	errNoRuns     = errors.New("no runs")
	errNoQueue    = errors.New("not joined to the queue")
)

// kick has the loop claim now, if it has room.
func (l *workloop) kick() {
	select {
	case l.now <- struct{}{}:
	default:
	}
}

// run claims until the worker retires: again soon after a run came, after ever
// longer pauses while none does, and not while there is no room.
func (l *workloop) run() {
	ctx := l.worker.claiming
	pause := l.worker.o.MinBackoff
	for {
		err := l.claim()
		var wait <-chan time.Time
		switch {
		case err == nil:
			pause = l.worker.o.MinBackoff
		case errors.Is(err, errAtCapacity), errors.Is(err, errNoQueue):
			pause = 0 // until a run ends, or the queue is joined
		case pause == 0:
			pause = l.worker.o.MinBackoff
		default:
			pause = min(pause*115/100, l.worker.o.MaxBackoff)
		}
		var timer *time.Timer
		if pause > 0 {
			timer = time.NewTimer(pause)
			wait = timer.C
		}
		select {
		case <-wait:
		case <-l.now:
			pause = l.worker.o.MinBackoff
		case <-ctx.Done():
		}
		if timer != nil {
			timer.Stop()
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// reserve makes room for one more run, or says that there is none.
func (l *workloop) reserve() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active+l.open >= l.Capacity {
		return false
	}
	l.open++
	return true
}

// hasCapacity reports whether a claim would be made now.
func (l *workloop) hasCapacity() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active+l.open < l.Capacity
}

// claim asks for one run and starts what comes. Its answer is waited for even
// when the worker has begun to retire: a run that is answered is this worker's.
func (l *workloop) claim() error {
	w := l.worker
	w.mu.Lock()
	queue := w.queue
	if w.retiring || w.claiming.Err() != nil {
		w.mu.Unlock()
		return context.Canceled
	}
	if queue == nil {
		w.mu.Unlock()
		return errNoQueue
	}
	w.claims.Add(1)
	w.mu.Unlock()
	defer w.claims.Done()
	if !l.reserve() {
		return errAtCapacity
	}
	start := time.Now()
	runs, err := l.ask(queue)
	l.mu.Lock()
	l.open--
	l.active += len(runs)
	l.mu.Unlock()
	if err != nil {
		w.metrics.claims.WithLabelValues("error").Inc()
		if l.patience.Err() == nil {
			w.log.Warn("a claim failed", "workloop", l.String(), "error", err)
		}
		return err
	}
	w.log.Debug("claimed", "workloop", l.String(), "runs", len(runs), "duration", time.Since(start))
	if len(runs) == 0 {
		w.metrics.claims.WithLabelValues("none").Inc()
		return errNoRuns
	}
	var errs []error
	for _, run := range runs {
		w.metrics.claims.WithLabelValues("run").Inc()
		if err := w.start(run, l.over); err != nil {
			errs = append(errs, err)
			l.over()
		}
	}
	return errors.Join(errs...)
}

func (l *workloop) ask(queue *phoenix.Channel) ([]claimedRun, error) {
	request := claimRequest{Demand: 1, Queues: l.Queues}
	if name := l.worker.o.Name; name != "" {
		request.WorkerName = &name
	}
	reply, err := queue.Push(l.patience, eventClaim, phoenix.JSON(request), phoenix.PushOptions{Timeout: l.worker.o.ClaimTimeout})
	if err != nil {
		return nil, err
	}
	var answer claimReply
	if err := json.Unmarshal(reply.Response, &answer); err != nil {
		return nil, fmt.Errorf("the answer to a claim cannot be read: %w", err)
	}
	return slices.DeleteFunc(answer.Runs, func(run claimedRun) bool {
		if run.ID == "" {
			l.worker.log.Error("the answer to a claim has a run without an id")
		}
		return run.ID == ""
	}), nil
}

// over makes the room of a run that has ended free again.
func (l *workloop) over() {
	l.mu.Lock()
	l.active--
	l.mu.Unlock()
	l.kick()
}

// workAvailable has each workloop with room claim at once. It is called by the
// goroutine that reads from the socket, so it waits for nothing.
func (w *Worker) workAvailable() {
	if w.claiming.Err() != nil {
		return
	}
	for _, l := range w.loops {
		if l.hasCapacity() {
			go func() { _ = l.claim() }() // what goes wrong was logged
		}
	}
}

// Claim asks once for a run for each workloop with room, and reports whether one
// came.
func (w *Worker) Claim(ctx context.Context) bool {
	answers := make(chan error, len(w.loops))
	for _, l := range w.loops {
		go func() { answers <- l.claim() }()
	}
	for range w.loops {
		select {
		case err := <-answers:
			if err == nil {
				return true
			}
		case <-ctx.Done():
			return false
		}
	}
	return false
}
