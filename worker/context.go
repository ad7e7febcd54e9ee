package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// StepInfo is what a function may want to know of its execution.
type StepInfo struct {
	// Run and Step are their ids.
	Run, Step string
	// Attempt counts from 1; more than 1 is a retry.
	Attempt int
	// Upstream is the id of the step the state comes from, "" for the first.
	Upstream string
	// MemoryLimit is what the process may use, in bytes; 0 is no limit.
	MemoryLimit uint64
	// Budget is the payload in bytes that the step may write; 0 is no limit.
	Budget uint64
}

type stepKey struct{}

// Info returns what is known of the execution that ctx belongs to; its zero
// value when it belongs to none.
func Info(ctx context.Context) StepInfo {
	s, ok := ctx.Value(stepKey{}).(*step)
	if !ok {
		return StepInfo{}
	}
	m := s.message
	return StepInfo{Run: m.Run, Step: m.Step, Attempt: int(m.Attempt), Upstream: m.Upstream, MemoryLimit: m.MemoryLimit, Budget: m.Budget}
}

// Logger returns a logger whose records become lines of the step's log. A
// record waits when the supervisor does not keep up. After the function has
// returned, records are dropped. Outside of a step it is slog.Default.
func Logger(ctx context.Context) *slog.Logger {
	s, ok := ctx.Value(stepKey{}).(*step)
	if !ok {
		return slog.Default()
	}
	return slog.New(&logHandler{step: s})
}

// stepContext is a step's context: part of the step, so that making one costs
// no allocation, and without a timer of its own.
type stepContext struct {
	step     *step
	deadline time.Time // zero: none

	mu     sync.Mutex
	done   chan struct{} // made when first asked for
	err    error
	reason string
	after  map[*func()]struct{} // what child contexts want called
}

var closedChannel = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

func (c *stepContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

func (c *stepContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		if c.err != nil {
			c.done = closedChannel
		} else {
			c.done = make(chan struct{})
		}
	}
	return c.done
}

func (c *stepContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *stepContext) Value(key any) any {
	if _, ok := key.(stepKey); ok {
		return c.step
	}
	return nil
}

// AfterFunc has f called in a goroutine of its own when c ends. The context
// package uses it for child contexts, which otherwise cost a goroutine each.
func (c *stepContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = make(map[*func()]struct{})
	}
	entry := &f
	c.after[entry] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.after[entry]
		delete(c.after, entry)
		return waiting
	}
}

// cancel ends the context; the first call counts.
func (c *stepContext) cancel(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
}

// cancelFor ends the context because the supervisor asked for it.
func (c *stepContext) cancelFor(reason string) {
	c.mu.Lock()
	if c.err == nil {
		c.reason = reason
	}
	c.mu.Unlock()
	c.cancel(context.Canceled)
}

// ended returns how the context ended before its step did, and the
// supervisor's words for it.
func (c *stepContext) ended() (reason string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason, c.err
}
