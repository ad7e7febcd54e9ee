package worker

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/ipc"
)

// DefaultConcurrency is how many calls an Each has under way.
const DefaultConcurrency = 8

// EachOptions say how Each calls; the zero value is fine.
type EachOptions struct {
	// Concurrency is how many calls are under way or answered and not taken
	// yet, at most: DefaultConcurrency when 0, never more than MaxCalls.
	Concurrency int
	// Key is under which the called step finds its item: "data" when empty.
	Key string
	// With has keys that each call gets beside its item, by reference. It is not
	// used up.
	With *State
	// Until and Timeout are each call's; see CallOptions.
	Until   Until
	Timeout time.Duration
	// Collect goes on after a call has failed, and yields the error in its
	// place, as errors: "collect" does in the other languages. Otherwise the
	// first failure to arrive is the last thing that is yielded, and the calls
	// under way are cancelled. An error that is no single call's, such as that of
	// the items themselves, ends it in either way.
	Collect bool
}

// Encoded is a value that is encoded already: an item of a stream, or a piece of
// one's own.
type Encoded struct {
	Encoding Encoding
	Bytes    []byte
	// Checked says that Bytes are known to be what Encoding says, as a batch of
	// worker/source is: JSON is not validated once more. Bytes for which it is
	// not true fail whoever reads them.
	Checked bool
}

// Each calls a step once for each item and yields what comes of them, in the
// order in which it comes: a reply and nil, or an error. An item becomes one key
// of the state that the step gets: encoded as JSON, or as it is if it is an
// Encoded. If it is a *State made by New or Fork, it is that state itself.
//
// A reply is closed when the next one is asked for, unless Keep was called. Its
// Index tells which item it is for, also beside an error; only an error that
// is no single call's comes without a reply. The items are asked for one by one
// on the caller's goroutine, as calls may begin. A loop that ends early cancels
// the calls under way, and closes everything.
//
// s is a state of the step that calls.
func Each[T any](ctx context.Context, s *State, name string, items iter.Seq[T], o EachOptions) iter.Seq2[*Reply, error] {
	return EachOf(ctx, s, name, func(yield func(T, error) bool) {
		for item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}, o)
}

// EachOf is Each for a sequence that may fail. Its error is the last thing that
// is yielded, also with Collect.
func EachOf[T any](ctx context.Context, s *State, name string, items iter.Seq2[T, error], o EachOptions) iter.Seq2[*Reply, error] {
	return func(yield func(*Reply, error) bool) {
		e := newEach(ctx, s, name, o, yield)
		defer e.end()
		for item, err := range items {
			if err == nil {
				err = e.begin(item)
			}
			if err != nil {
				e.failed(err)
				return
			}
			for len(e.running) >= e.options.Concurrency || e.ready() {
				if !e.next() {
					return
				}
			}
		}
		for len(e.running) > 0 {
			if !e.next() {
				return
			}
		}
	}
}

// each is one Each under way. Only the arrived ones are shared.
type each struct {
	ctx     context.Context
	state   *State
	name    string
	options EachOptions
	yield   func(*Reply, error) bool
	count   int
	running map[*call]int // not yielded yet, with their index
	stopped bool          // nothing more is yielded

	mu      sync.Mutex
	arrived []*call
	signal  chan struct{} // has room for one
}

func newEach(ctx context.Context, s *State, name string, o EachOptions, yield func(*Reply, error) bool) *each {
	if o.Concurrency <= 0 {
		o.Concurrency = DefaultConcurrency
	}
	o.Concurrency = min(o.Concurrency, MaxCalls)
	if o.Key == "" {
		o.Key = "data"
	}
	return &each{
		ctx: ctx, state: s, name: name, options: o, yield: yield,
		running: make(map[*call]int), signal: make(chan struct{}, 1),
	}
}

// begin makes the call for an item.
func (e *each) begin(item any) error {
	arg, err := e.argument(item)
	if err != nil {
		return fmt.Errorf("item %d: %w", e.count, err)
	}
	c := newCall(e.state.step, e.name)
	c.notify = e.arrive
	if err := c.start(arg, CallOptions{Until: e.options.Until, Timeout: e.options.Timeout}); err != nil {
		return fmt.Errorf("item %d: %w", e.count, err)
	}
	e.running[c] = e.count
	e.count++
	return nil
}

func (e *each) argument(item any) (*State, error) {
	if arg, ok := item.(*State); ok {
		return arg, nil
	}
	var arg *State
	if e.options.With != nil {
		arg = e.options.With.Fork()
	} else {
		arg = e.state.New()
	}
	var err error
	if v, ok := item.(Encoded); ok {
		err = arg.setRaw(e.options.Key, v)
	} else {
		err = arg.Set(e.options.Key, item)
	}
	if err != nil {
		arg.drop()
	}
	return arg, err
}

// drop gives up a state that was made by New or Fork.
func (s *State) drop() {
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.release(); err != nil {
		s.step.executor.end(err)
	}
}

// arrive is called by whoever receives a call's answer.
func (e *each) arrive(c *call) {
	e.mu.Lock()
	e.arrived = append(e.arrived, c)
	e.mu.Unlock()
	select {
	case e.signal <- struct{}{}:
	default:
	}
}

// ready reports whether an answer can be yielded.
func (e *each) ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.arrived) > 0
}

func (e *each) take() *call {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.arrived) == 0 {
		return nil
	}
	c := e.arrived[0]
	e.arrived = slices.Delete(e.arrived, 0, 1)
	return c
}

// next waits for an answer and yields it. It reports false when that was all.
func (e *each) next() bool {
	st := e.state.step
	c := e.take()
	for ; c == nil; c = e.take() {
		if err := context.Cause(e.ctx); err != nil {
			return e.failed(err)
		}
		if err := st.ctx.Err(); err != nil {
			return e.failed(err)
		}
		st.await(e.ctx, e.ready, e.signal)
	}
	index := e.running[c]
	delete(e.running, c)
	r, err := c.reply()
	if err != nil {
		r = &Reply{call: c, index: index}
		r.state.init(st, ipc.Table{})
		r.state.source = c
		return e.give(r, fmt.Errorf("item %d: %w", index, err)) && e.options.Collect
	}
	r.index = index
	return e.give(r, nil)
}

// failed yields an error that is no single call's, and ends the iteration.
func (e *each) failed(err error) bool {
	e.give(nil, err)
	e.stopped = true
	return false
}

// give yields, and closes the reply when the caller is done with it.
func (e *each) give(r *Reply, err error) bool {
	if e.stopped {
		return false
	}
	e.stopped = true // unless yield returns
	if r != nil {
		defer func() {
			if !r.kept {
				r.Close()
			}
		}()
	}
	e.stopped = !e.yield(r, err)
	return !e.stopped
}

// end cancels and closes what is left.
func (e *each) end() {
	for c := range e.running {
		c.cancel(errEachEnded)
	}
}
