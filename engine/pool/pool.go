package pool

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine/ledger"
)

// DefaultRetainBytes is how much freed memory an executor keeps for reuse.
const DefaultRetainBytes = 256 << 20

// Options configure a Pool. Zero values mean the defaults named.
type Options struct {
	// Ledger is where executors and their segments are entered; required.
	Ledger *ledger.Ledger
	// Logger gets what executors print outside of a step. Default: discarded.
	Logger *slog.Logger
	// StartTimeout is how long an executor may take to say hello. Default 30 s.
	StartTimeout time.Duration
	// GracePeriod is how long one that is asked to stop may take. Default 1 s.
	GracePeriod time.Duration
	// IdleTimeout is how long an executor may wait for work before it is let
	// go. Default 5 minutes; negative: for ever.
	IdleTimeout time.Duration
	// HealthInterval is how often idle executors are pinged. Default 15 s.
	HealthInterval time.Duration
	// RetainBytes is how much freed memory in large segments an executor keeps
	// for reuse. Default 256 MiB.
	RetainBytes uint64
	// PrefaultBytes is how much of it is made ready when an executor starts,
	// off the critical path. Default none.
	PrefaultBytes uint64
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.StartTimeout, 30 * time.Second}, {&o.GracePeriod, time.Second},
		{&o.IdleTimeout, 5 * time.Minute}, {&o.HealthInterval, 15 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if o.RetainBytes == 0 {
		o.RetainBytes = DefaultRetainBytes
	}
}

// Pool is a set of executors.
type Pool struct {
	options    Options
	watch      *watcher
	nextPrefix atomic.Uint32

	mu       sync.Mutex
	idle     map[string][]*Executor // by spec and tenant; the last used is the last
	all      map[*Executor]bool
	starts   map[string]*backoff // by spec
	warm     map[string]*warmth  // by spec
	closed   bool
	controls uint64 // bytes that crossed control channels that are gone
	peaks    uint64 // sum of the peaks of executors that are gone
	stopped  chan struct{}
	keeper   sync.WaitGroup
	refills  sync.WaitGroup // started with mu held and the pool open
}

// New returns an empty pool.
func New(options Options) *Pool {
	options.setDefaults()
	p := &Pool{
		options: options,
		watch:   newWatcher(),
		idle:    make(map[string][]*Executor),
		all:     make(map[*Executor]bool),
		starts:  make(map[string]*backoff),
		warm:    make(map[string]*warmth),
		stopped: make(chan struct{}),
	}
	p.keeper.Go(p.keep)
	return p
}

func (s *Spec) key() string {
	reuse := "0"
	switch {
	case s.PerTask:
		reuse = "task"
	case s.Reuse:
		reuse = "1"
	}
	return strings.Join(slices.Concat([]string{reuse, s.Dir}, s.DropKeys, []string{"\x01"}, s.Env, []string{"\x01"}, s.Argv), "\x00")
}

// Same reports whether executors of the two specs stand in for one another.
func (s *Spec) Same(other *Spec) bool { return s.key() == other.key() }

func idleKey(spec, tenant string) string { return spec + "\x02" + tenant }

// Check reports whether the spec's program can be found, before any step runs.
func (s *Spec) Check() error {
	if len(s.Argv) == 0 {
		return &StartError{Err: errors.New("no program named")}
	}
	cmd := exec.Command(s.Argv[0])
	cmd.Dir = s.Dir
	if cmd.Err != nil {
		return &StartError{Argv: s.Argv, Err: cmd.Err}
	}
	if _, err := exec.LookPath(cmd.Path); err != nil && (s.Dir == "" || strings.HasPrefix(cmd.Path, "/")) {
		return &StartError{Argv: s.Argv, Err: err}
	}
	return nil
}

// Acquire returns an executor for one task, the most recently used one that is
// idle, else a new one. run and tenant decide which may be used: see [Spec].
// It fails with a *StartError when none can be started; after failures further
// starts of the spec wait, longer each time.
func (p *Pool) Acquire(ctx context.Context, spec *Spec, run, tenant string) (*Executor, error) {
	key := spec.key()
	if x := p.takeIdle(key, run, tenant); x != nil {
		x.peer.Alert() // its task comes at once
		return x, nil
	}
	x, err := p.add(ctx, spec, key)
	if err != nil {
		return nil, err
	}
	x.tenant = tenant
	return x, nil
}

// takeIdle prefers one that knows the tenant to a fresh one.
func (p *Pool) takeIdle(key, run, tenant string) *Executor {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range []string{idleKey(key, tenant), idleKey(key, freshTenant)} {
		list := p.idle[k]
		for i := len(list) - 1; i >= 0; i-- {
			x := list[i]
			if !x.alive() {
				continue // its end takes it off the list
			}
			if !x.spec.Reuse && len(x.runs) > 0 && !x.runs[run] {
				continue
			}
			p.idle[k] = slices.Delete(list, i, i+1)
			if x.tenant == freshTenant {
				p.replace(key)
			}
			x.tenant = tenant
			return x
		}
	}
	return nil
}

// add starts an executor and enters it.
func (p *Pool) add(ctx context.Context, spec *Spec, key string) (*Executor, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	wait := p.starts[key]
	if wait == nil {
		wait = new(backoff)
		p.starts[key] = wait
	}
	p.mu.Unlock()
	if err := wait.before(ctx, p.stopped); err != nil {
		return nil, err
	}
	x, err := p.start(ctx, spec, key)
	wait.after(err)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	closed := p.closed
	gone := !x.alive()
	if !closed && !gone {
		p.all[x] = true
	}
	p.mu.Unlock()
	if closed {
		x.shutdown()
		return nil, ErrClosed
	}
	return x, nil
}

// Release gives an executor back after its task.
func (p *Pool) Release(x *Executor) {
	p.mu.Lock()
	ok := !p.closed && x.alive() && (!x.spec.PerTask || len(x.runs) == 0)
	if ok {
		x.idleFrom = time.Now()
		k := idleKey(x.key, x.tenant)
		p.idle[k] = append(p.idle[k], x)
	}
	p.mu.Unlock()
	if !ok {
		x.process.kill()
	}
}

// EndRun lets go of the executors that served the run and may not serve
// another.
func (p *Pool) EndRun(run string) {
	p.mu.Lock()
	var ended []*Executor
	for k, list := range p.idle {
		p.idle[k] = slices.DeleteFunc(list, func(x *Executor) bool {
			if x.spec.Reuse || !x.runs[run] {
				return false
			}
			ended = append(ended, x)
			return true
		})
	}
	p.mu.Unlock()
	for _, x := range ended {
		// What ran a user's code is not asked, and nobody waits for it.
		x.process.kill()
	}
}

// Warm starts executors until n of the spec have not run anything yet, tells
// them the codes they are going to run, and from then on replaces each one that
// is taken into use. n = 0 ends that. It returns the first error; replacements
// that fail are logged.
func (p *Pool) Warm(ctx context.Context, spec *Spec, n int, codes []Code) error {
	w := &warmth{spec: spec, n: n, codes: codes}
	p.mu.Lock()
	p.warm[spec.key()] = w
	p.mu.Unlock()
	return p.refill(ctx, w)
}

// warmth is a request to keep fresh executors of a spec ready.
type warmth struct {
	spec  *Spec
	n     int
	codes []Code

	filling sync.Mutex // one at a time, so that none are started twice
}

const freshTenant = "\x00fresh"

func (p *Pool) refill(ctx context.Context, w *warmth) error {
	w.filling.Lock()
	defer w.filling.Unlock()
	key := w.spec.key()
	for {
		p.mu.Lock()
		missing := w.n - len(p.idle[idleKey(key, freshTenant)])
		p.mu.Unlock()
		if missing <= 0 {
			return nil
		}
		x, err := p.add(ctx, w.spec, key)
		if err != nil {
			return err
		}
		x.tenant = freshTenant
		for i := range w.codes {
			if err := x.prepare(&w.codes[i]); err != nil {
				x.fail(err)
				return err
			}
		}
		p.Release(x)
	}
}

// replace starts a replacement for a warm executor that was taken into use.
func (p *Pool) replace(key string) {
	w := p.warm[key]
	if w == nil || w.n == 0 || p.closed {
		return
	}
	p.refills.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			select {
			case <-p.stopped:
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := p.refill(ctx, w); err != nil && !errors.Is(err, ErrClosed) && ctx.Err() == nil {
			p.options.Logger.Warn("cannot keep executors warm", "executor", w.spec.Name, "error", err)
		}
	})
}

// gone takes an executor that ended off the books.
func (p *Pool) gone(x *Executor, control uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, x)
	p.controls += control
	p.peaks += x.process.peak.Load()
	k := idleKey(x.key, x.tenant)
	p.idle[k] = slices.DeleteFunc(p.idle[k], func(y *Executor) bool { return y == x })
	if len(p.idle[k]) == 0 {
		delete(p.idle, k)
	}
}

// Stats are the pool's figures.
type Stats struct {
	// Executors alive, and idle among them.
	Executors, Idle int
	// ControlBytes crossed all control channels, in both directions.
	ControlBytes uint64
	// PeakBytes is the sum of the largest resident sizes of all executors there
	// ever were: an upper bound of what they had at any one time.
	PeakBytes uint64
}

// Stats returns the pool's figures.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{Executors: len(p.all), ControlBytes: p.controls, PeakBytes: p.peaks}
	for _, list := range p.idle {
		s.Idle += len(list)
	}
	for x := range p.all {
		sent, received := x.peer.Bytes()
		s.ControlBytes += sent + received
		s.PeakBytes += x.process.look()
	}
	return s
}

// ControlBytes returns Stats().ControlBytes, without looking at processes.
func (p *Pool) ControlBytes() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := p.controls
	for x := range p.all {
		sent, received := x.peer.Bytes()
		total += sent + received
	}
	return total
}

// PIDs returns the process ids of the executors alive.
func (p *Pool) PIDs() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	pids := make([]int, 0, len(p.all))
	for x := range p.all {
		pids = append(pids, x.process.pid())
	}
	return pids
}

// Close ends all executors, idle ones politely, and waits until they are gone.
func (p *Pool) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.stopped)
	idle := make(map[*Executor]bool)
	for _, list := range p.idle {
		for _, x := range list {
			idle[x] = true
		}
	}
	var all []*Executor
	for x := range p.all {
		all = append(all, x)
	}
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, x := range all {
		ends.Go(func() {
			if idle[x] {
				x.shutdown()
				return
			}
			x.fail(ErrClosed)
			<-x.lost
		})
	}
	ends.Wait()
	p.refills.Wait()
	p.keeper.Wait()
	p.watch.close()
	return nil
}
