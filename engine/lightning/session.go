package lightning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/uplink/phoenix"
	"github.com/millrace/millrace/ipc"
)

// channel is what a session needs of a phoenix.Channel.
type channel interface {
	Join(ctx context.Context) (json.RawMessage, error)
	Push(ctx context.Context, event string, p phoenix.Payload, o phoenix.PushOptions) (*phoenix.Reply, error)
	OnClose(f func(error))
	Leave(ctx context.Context) error
}

// session is one run of Lightning's, from its claim to its end.
type session struct {
	o       *Options
	metrics *metrics
	install *installer
	starts  *semaphore.Weighted // nil: all runs start at once
	claimed claimedRun
	channel channel
	log     *slog.Logger

	// ctx ends when nothing of the run can be told any more: the channel is
	// lost, or the worker is made to stop at once.
	ctx  context.Context
	lose context.CancelCauseFunc

	c           *converted
	scrub       scrubber
	logger      *logger
	credentials credentials
	outbox      *outbox
	began       bool // run:start was put into the outbox
	failed      *Reason

	// executions by number. The map is the observer's; an execution's clip is
	// the sender's.
	executions map[int]*execution
}

// overtime is how much longer than its limit a run may wait for a server that
// does not take its logs.
const overtime = 10 * time.Second

// run runs it all. It returns when the run is over and everything that could be
// told of it was.
func (s *session) run() {
	s.channel.OnClose(func(err error) { s.lose(fmt.Errorf("the run's channel is gone: %w", err)) })
	defer s.leave()
	if err := s.join(); err != nil {
		s.log.Error("cannot join the run: it is left to the server to find out", "error", err)
		s.metrics.runs.WithLabelValues("lost").Inc()
		return
	}
	s.scrub.add(s.claimed.Token, s.o.Secret)
	s.outbox = newOutbox(outboxBatch{on: s.o.BatchLogs, interval: s.o.BatchInterval, limit: s.o.BatchLimit}, s.sendLogs)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.outbox.run(s.ctx)
	}()
	finish := s.work()
	s.outbox.close()
	<-sent
	if finish != nil {
		finish()
	}
	if n := s.outbox.lost(); n > 0 {
		s.log.Warn("log lines were dropped: the server did not take them in time", "lines", n)
	}
}

// leaveTimeout bounds the wait for an answer that nothing depends on.
const leaveTimeout = 5 * time.Second

func (s *session) leave() {
	ctx, stop := context.WithTimeout(context.WithoutCancel(s.ctx), leaveTimeout)
	defer stop()
	if err := s.channel.Leave(ctx); err != nil {
		s.log.Debug("leaving the run's channel", "error", err)
	}
}

func (s *session) join() error {
	ctx, stop := context.WithTimeout(s.ctx, s.o.MessageTimeout)
	defer stop()
	_, err := s.channel.Join(ctx)
	return err
}

// work fetches the plan and runs it. What it returns gives the run's memory
// back, once all was sent.
func (s *session) work() (finish func()) {
	s.log.Info("run started")
	reply, err := s.channel.Push(s.ctx, eventFetchPlan, phoenix.JSON(struct{}{}), s.push(true))
	if err != nil {
		s.log.Error("cannot fetch the plan", "error", err)
		s.end(reason(engine.StatusException, "ExecutionError", "the worker could not fetch the plan: "+err.Error()), nil)
		return nil
	}
	if s.c, err = convert(reply.Response, s.claimed.Token, s.o); err != nil {
		s.log.Warn("the plan is not valid", "error", err)
		s.end(reason(engine.StatusCrash, "ValidationError", err.Error()), nil)
		return nil
	}
	s.logger = newLogger(s.c, &s.scrub)
	if limit := s.c.limits.LogPayload; limit > 0 {
		s.outbox.bound(limit)
	}
	s.executions = make(map[int]*execution)
	s.credentials = credentials{fetch: s.fetchCredential, scrub: &s.scrub}
	s.scrub.addCredential(s.c.plan.Credentials)
	for _, step := range s.c.plan.Steps {
		s.scrub.addCredential(step.Configuration)
	}
	if err := s.install.install(s.ctx, adaptorsOf(s.c.plan)); err != nil {
		s.log.Error("cannot install adaptors", "error", err)
		s.end(reason(engine.StatusException, "AutoinstallError", err.Error()), nil)
		return nil
	}
	leave, err := s.enter()
	if err != nil {
		s.end(reason(engine.StatusCancel, "CancelError", err.Error()), nil)
		return nil
	}
	defer leave()
	run, err := s.o.Engine.Submit(s.ctx, s.c.plan, s.input, engine.RunOptions{
		ID: s.claimed.ID, Tenant: s.c.project,
		Credential: s.credentials.get, Observe: s.observe, Scrub: s.scrub.text,
	})
	if err != nil {
		s.end(reason(engine.StatusCrash, "CompileError", err.Error()), nil)
		return nil
	}
	if limit := s.c.limits.RunTimeout; limit > 0 {
		timer := time.AfterFunc(limit+overtime, s.outbox.noWaiting)
		defer timer.Stop()
	}
	result, err := run.Wait(context.Background()) // it ends with s.ctx
	if err != nil {
		s.log.Error("waiting for the run", "error", err) // it cannot be: the context has no end
	}
	leave()
	s.finish(result)
	return func() {
		if err := run.Close(); err != nil {
			s.log.Error("giving the run's memory back", "error", err)
		}
	}
}

// enter waits until the run may start. leave lets the next one start; only its
// first call counts.
func (s *session) enter() (leave func(), err error) {
	if s.starts == nil {
		return func() {}, nil
	}
	if err := s.starts.Acquire(s.ctx, 1); err != nil {
		return nil, context.Cause(s.ctx)
	}
	return sync.OnceFunc(func() { s.starts.Release(1) }), nil
}

// push are the options of a push whose acknowledgement counts.
func (s *session) push(resend bool) phoenix.PushOptions {
	return phoenix.PushOptions{Timeout: s.o.MessageTimeout, Resend: resend}
}

// input is the run's input. When it is there, the run has begun for Lightning.
func (s *session) input(store document.Store) (ipc.Table, error) {
	credentials := make(chan struct{})
	go func() {
		defer close(credentials)
		s.credentials.prefetch(s.ctx, s.c.plan)
	}()
	state := ipc.Table{Kind: ipc.KindObject}
	var err error
	if id := s.c.dataclipID; id != "" {
		if state, err = fetchDataclip(s.ctx, s.channel, id, s.push(false), store); err != nil {
			failed := reason(engine.StatusException, "DataClipError", s.scrub.text(fmt.Sprintf("Failed to load dataclip %s: %v", id, err)))
			s.failed = &failed
		}
	}
	<-credentials
	s.begin()
	return state, err
}

func (s *session) fetchCredential(id string) (json.RawMessage, error) {
	reply, err := s.channel.Push(s.ctx, eventFetchCredential, phoenix.JSON(byID{id}), s.push(true))
	var refused *phoenix.ReplyError
	switch {
	case errors.As(err, &refused):
		return nil, fmt.Errorf("the server answered %s: %.300s", refused.Status, refused.Response)
	case err != nil:
		return nil, err
	}
	return reply.Response, nil
}

// begin tells that the run has started, its limits and versions.
func (s *session) begin() {
	if s.began {
		return
	}
	s.began = true
	now := time.Now()
	versions := map[string]any{"worker": s.o.Version, "node": s.o.NodeVersion, "engine": s.o.Version}
	adaptors := make(map[string][]string)
	if s.c != nil {
		for _, step := range s.c.plan.Steps {
			if step.Expression != nil {
				for _, a := range step.Expression.Adaptors {
					addVersion(adaptors, a)
				}
			}
		}
	}
	for name, list := range adaptors {
		versions[name] = list
	}
	s.outbox.event(func(ctx context.Context) {
		_ = s.send(ctx, eventRunStart, phoenix.JSON(runStart{Versions: versions, Timestamp: micros(now)}))
	})
	if s.logger == nil {
		return
	}
	if limit := s.c.limits.Payload; limit > 0 {
		s.outbox.log(s.logger.own(sourceEngine, fmt.Sprintf("Payload limit: %gmb", float64(limit)/megabyte), "", now))
	}
	s.outbox.log(s.logger.own(sourceVersion, versionText(s.o.NodeVersion, s.o.Version, adaptors), "", now))
}

// send pushes an event and waits for its acknowledgement. What goes wrong is
// logged and counted; the caller goes on either way.
func (s *session) send(ctx context.Context, event string, p phoenix.Payload) error {
	start := time.Now()
	_, err := s.channel.Push(ctx, event, p, s.push(true))
	s.metrics.sent(event, time.Since(start), err)
	switch {
	case err == nil:
		s.log.Debug("sent", "event", event, "duration", time.Since(start))
	case errors.Is(err, context.Canceled):
		s.log.Debug("not sent: the run is given up", "event", event, "error", context.Cause(ctx))
	default:
		s.log.Error("an event was not taken; the run goes on without it", "event", event, "error", err)
	}
	return err
}

// sendLogs sends log lines, together or one after another.
func (s *session) sendLogs(ctx context.Context, lines []logLine) {
	if ctx.Err() != nil {
		return
	}
	s.metrics.lines.Add(float64(len(lines)))
	if s.o.BatchLogs {
		_ = s.send(ctx, eventRunBatchLogs, phoenix.JSON(runBatchLogs{RunID: s.claimed.ID, Logs: lines}))
		return
	}
	for _, line := range lines {
		_ = s.send(ctx, eventRunLog, phoenix.JSON(runLog{RunID: s.claimed.ID, logLine: line}))
	}
}
