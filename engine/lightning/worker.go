package lightning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/millrace/millrace/engine/uplink/phoenix"
)

// ErrStopped is why what was under way at a Stop ended.
var ErrStopped = errors.New("lightning: the worker was stopped")

// Worker claims runs from Lightning and runs them. Its methods are safe for
// concurrent use.
type Worker struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	install installer
	starts  *semaphore.Weighted // nil: no limit
	loops   []*workloop

	// life ends by Stop: everything ends at once. claiming ends before: no more
	// claims.
	life     context.Context
	end      context.CancelCauseFunc
	claiming context.Context
	retire   context.CancelCauseFunc

	mu       sync.Mutex
	socket   *phoenix.Socket
	queue    *phoenix.Channel // joined
	active   map[string]bool  // ids of runs
	sessions sync.WaitGroup
	claims   sync.WaitGroup
	retiring bool // no more claims are added to claims
}

// New returns a worker; Run has it work.
func New(o Options) (*Worker, error) {
	if o.Engine == nil {
		return nil, errors.New("lightning: no engine given")
	}
	if o.Secret == "" {
		return nil, errors.New("lightning: no secret given: it must be the one that Lightning has as WORKER_SECRET")
	}
	o.setDefaults()
	if _, err := url.Parse(o.URL); err != nil {
		return nil, fmt.Errorf("lightning: the address of the server: %w", err)
	}
	w := &Worker{o: o, log: o.Logger, metrics: newMetrics(), active: make(map[string]bool)}
	w.install.f = o.Install
	if o.MaxStarted > 0 {
		w.starts = semaphore.NewWeighted(int64(o.MaxStarted))
	}
	w.life, w.end = context.WithCancelCause(context.Background())
	w.claiming, w.retire = context.WithCancelCause(w.life)
	for _, l := range o.Workloops {
		w.loops = append(w.loops, newWorkloop(w, l))
	}
	return w, nil
}

// ID returns the worker's name in its token.
func (w *Worker) ID() string { return w.o.ID }

// Active returns how many runs were claimed and are not over.
func (w *Worker) Active() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.active)
}

// Connected reports whether there is a connection to Lightning.
func (w *Worker) Connected() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.socket != nil && w.socket.Connected()
}

func (w *Worker) socketStats() phoenix.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.socket == nil {
		return phoenix.Stats{}
	}
	return w.socket.Stats()
}

// Retire has the worker claim no more. Run returns once the runs are over.
func (w *Worker) Retire() { w.retire(errors.New("the worker retires")) }

// Stop ends everything at once: runs are cancelled, and nothing more is told.
func (w *Worker) Stop() { w.end(ErrStopped) }

// Run connects and works until Retire or Stop, or a run comes with a token that
// is not Lightning's: then it retires by itself and returns a *RunTokenError.
// It is called once.
func (w *Worker) Run() error {
	options := w.o.Socket
	options.URL = w.o.URL
	options.Query = w.query
	options.ReplyTimeout = w.o.MessageTimeout
	options.KeepTrying = true
	options.Logger = w.log
	if w.o.TLS != nil {
		options.TLS = w.o.TLS
	}
	options.OnConnect = func() { w.log.Info("connected to Lightning", "url", w.o.URL) }
	options.OnDisconnect = func(err error) {
		w.log.Warn("no connection to Lightning; trying again", "url", w.o.URL, "error", err)
	}
	socket, err := phoenix.Dial(w.life, options)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.socket = socket
	w.mu.Unlock()
	var loops sync.WaitGroup
	loops.Go(func() { w.keepQueue(socket) })
	if !w.o.NoLoop {
		for _, l := range w.loops {
			loops.Go(l.run)
		}
	}
	<-w.claiming.Done()
	w.log.Info("no more runs are claimed", "active", w.Active())
	loops.Wait()
	w.drain()
	w.sessions.Wait()
	w.leaveQueue()
	err = socket.Close()
	var token *RunTokenError
	if errors.As(context.Cause(w.claiming), &token) {
		return errors.Join(token, err)
	}
	return err
}

// drain waits for the claims under way: a run that one of them brings has to be
// run. A server may hold a claim open for very long, so the wait has an end; the
// server sees the worker leave its queue then.
func (w *Worker) drain() {
	w.mu.Lock()
	w.retiring = true
	w.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		w.claims.Wait()
	}()
	timer := time.NewTimer(w.o.MessageTimeout)
	defer timer.Stop()
	select {
	case <-answered:
		return
	case <-timer.C:
		w.log.Warn("a claim is not answered; leaving without it", "after", w.o.MessageTimeout)
	case <-w.life.Done():
	}
	for _, l := range w.loops {
		l.giveUp()
	}
	<-answered
}

// query makes the parameters of a connection, with a fresh token.
func (w *Worker) query() (url.Values, error) {
	token, err := workerToken(w.o.Secret, w.o.ID, time.Now())
	if err != nil {
		return nil, err
	}
	return url.Values{"token": {token}, "api_version": {APIVersion}, "worker_version": {w.o.Version}}, nil
}

// keepQueue joins worker:queue, and again when the server has closed it.
func (w *Worker) keepQueue(socket *phoenix.Socket) {
	wait := w.o.MinBackoff
	for w.claiming.Err() == nil {
		closed := make(chan error, 1)
		channel := socket.Channel(queueTopic, w.queueJoin)
		channel.On(eventWorkAvailable, func(json.RawMessage) { w.workAvailable() })
		channel.OnClose(func(err error) { closed <- err })
		if _, err := channel.Join(w.claiming); err != nil {
			if w.claiming.Err() != nil {
				return
			}
			w.log.Error("cannot join the queue; trying again", "error", err, "after", wait)
			_ = w.leave(channel)
			sleep(w.claiming, wait)
			wait = min(wait*115/100, w.o.MaxBackoff)
			continue
		}
		wait = w.o.MinBackoff
		w.log.Info("joined the queue", "workloops", fmt.Sprint(w.o.Workloops))
		w.setQueue(channel)
		w.kick()
		select {
		case err := <-closed:
			w.log.Warn("the queue was closed; joining again", "error", err)
			w.setQueue(nil)
			sleep(w.claiming, wait)
		case <-w.claiming.Done():
			return
		}
	}
}

// queueJoin is what the worker tells of itself.
func (w *Worker) queueJoin() ([]byte, error) {
	queues := make(map[string]int)
	for _, l := range w.o.Workloops {
		queues[l.key()] += l.Capacity
	}
	return encode(map[string]any{"capacity": capacity(w.o.Workloops), "queues": queues}), nil
}

func (w *Worker) setQueue(c *phoenix.Channel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = c
}

func (w *Worker) leaveQueue() {
	w.mu.Lock()
	channel := w.queue
	w.queue = nil
	w.mu.Unlock()
	if channel != nil {
		if err := w.leave(channel); err != nil {
			w.log.Debug("leaving the queue", "error", err)
		}
	}
}

func (w *Worker) leave(c *phoenix.Channel) error {
	ctx, stop := context.WithTimeout(context.Background(), leaveTimeout)
	defer stop()
	return c.Leave(ctx)
}

// kick has every workloop claim now.
func (w *Worker) kick() {
	for _, l := range w.loops {
		l.kick()
	}
}

// start begins a claimed run. over is called when it has ended.
func (w *Worker) start(run claimedRun, over func()) error {
	if w.o.RunKey != nil {
		if err := w.o.RunKey.verify(run, time.Now()); err != nil {
			w.log.Error("a run was refused; the worker shuts down, since something else than Lightning may answer it", "run", run.ID, "error", err)
			w.retire(err)
			return err
		}
	}
	w.mu.Lock()
	socket := w.socket
	known := w.active[run.ID]
	w.active[run.ID] = true
	w.mu.Unlock()
	if known {
		err := fmt.Errorf("run %s was claimed twice", run.ID)
		w.log.Error("a run that this worker has was handed out again", "run", run.ID)
		return err
	}
	w.sessions.Go(func() {
		defer over()
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.active, run.ID)
		}()
		w.serve(socket, run)
	})
	return nil
}

// serve runs a claimed run.
func (w *Worker) serve(socket *phoenix.Socket, run claimedRun) {
	join := encode(map[string]string{"token": run.Token})
	s := &session{
		o: &w.o, metrics: w.metrics, install: &w.install, starts: w.starts, claimed: run,
		channel: socket.Channel(runTopicPrefix+run.ID, func() ([]byte, error) { return join, nil }),
		log:     w.log.With("run", run.ID),
	}
	s.ctx, s.lose = context.WithCancelCause(w.life)
	defer s.lose(nil)
	s.run()
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
