package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/lightning"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/engine/uplink/phoenix"
)

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Work for OpenFn Lightning: claim runs over its websocket and run them",
		Long: `Take the place of OpenFn's ws-worker: claim runs from Lightning over its
websocket, run them, and send each step's output straight from shared memory.

The flags and environment variables are those of ws-worker, so an image can be
exchanged for the other; millrace's own are listed apart. A flag goes before its
variable. docs/lightning.md has what differs.

SIGTERM or SIGINT: claim no more, finish the runs, exit 0. A second signal stops
at once.`,
		Example: `  WORKER_SECRET=… millrace serve -l wss://app.openfn.org/worker --capacity 10
  millrace serve -l ws://localhost:4000/worker -s secret --workloops 'fast_lane:1 manual>*:4'
  curl -s localhost:2222/metrics`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), os.LookupEnv); err != nil {
				return usageError(err)
			}
			return f.run(cmd.Flags().Changed)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *serveFlags) run(given func(string) bool) error {
	log, err := f.logger(os.Stderr)
	if err != nil {
		return usageError(err)
	}
	options, err := f.options(given, log)
	if err != nil {
		return usageError(err)
	}
	// Executors inherit the environment, and what a job can read it can send.
	for _, name := range []string{"WORKER_SECRET", "WORKER_LIGHTNING_PUBLIC_KEY", "WORKER_SENTRY_DSN"} {
		if err := os.Unsetenv(name); err != nil {
			return usageError(err)
		}
	}
	eng, err := f.engine(log, options.Workloops)
	if err != nil {
		return usageError(err)
	}
	defer eng.Close()
	options.Engine = eng
	f.warmUp(eng, log, options)
	worker, err := lightning.New(options)
	if err != nil {
		return usageError(err)
	}
	server, err := startHTTP(f.port, worker, log)
	if err != nil {
		return usageError(err)
	}
	defer server.close()
	log.Info("worker started", "id", worker.ID(), "version", options.Version, "port", server.port, "workloops", fmt.Sprint(options.Workloops))
	stop := retireOnSignal(worker, log)
	err = worker.Run()
	if signalled := stop(); signalled != 0 {
		return &exitError{code: 128 + int(signalled), err: errors.New("stopped by a second signal"), shown: true}
	}
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	log.Info("worker ended")
	return nil
}

// retireOnSignal has the worker retire at the first SIGINT or SIGTERM and stop at
// the second. What it returns gives the signals their meaning back, and returns
// the second, or 0.
func retireOnSignal(w *lightning.Worker, log *slog.Logger) func() syscall.Signal {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan syscall.Signal, 1)
	go func() {
		var count int
		for {
			select {
			case s := <-signals:
				if count++; count == 1 {
					log.Info("signal received: finishing the runs; a second signal stops at once", "signal", s.String(), "runs", w.Active())
					w.Retire()
					continue
				}
				log.Warn("second signal received: stopping", "signal", s.String(), "runs", w.Active())
				w.Stop()
				number, _ := s.(syscall.Signal)
				ended <- number
				return
			case <-done:
				ended <- 0
				return
			}
		}
	}()
	return func() syscall.Signal {
		close(done)
		signal.Stop(signals)
		return <-ended
	}
}

// options makes the worker's of the flags.
func (f *serveFlags) options(given func(string) bool, log *slog.Logger) (o lightning.Options, err error) {
	if f.secret == "" {
		return o, errors.New("no secret: set WORKER_SECRET to the one that Lightning has")
	}
	if given("workloops") && given("capacity") {
		return o, errors.New("--workloops and --capacity (or their variables) exclude each other: the workloops have the capacity")
	}
	loops := lightning.DefaultWorkloops(f.capacity)
	if f.capacity < 1 {
		return o, fmt.Errorf("--capacity %d: it is at least 1", f.capacity)
	}
	if f.workloops != "" {
		var doubts []string
		if loops, doubts, err = lightning.ParseWorkloops(f.workloops); err != nil {
			return o, fmt.Errorf("--workloops: %w", err)
		}
		for _, doubt := range doubts {
			log.Warn(doubt)
		}
	}
	o = lightning.Options{
		URL: f.url, Secret: f.secret, Name: os.Getenv("WORKER_NAME"), Workloops: loops,
		Version: versionNumber(), NodeVersion: nodeVersion(f.node), MaxStarted: f.maxExecutors, NoLoop: !f.loop || f.noLoop,
		MessageTimeout: seconds(f.messageTimeout), ClaimTimeout: seconds(f.claimTimeout),
		Limits: lightning.Limits{
			RunTimeout: seconds(f.maxRunDuration), RunMemory: int64(f.runMemory * (1 << 20)),
			Payload: int64(f.payloadMemory * (1 << 20)), LogPayload: int64(f.logPayloadMemory * (1 << 20)),
		},
		StatePropsToRemove: f.stateProps, MonorepoDir: f.monorepoDir,
		CollectionsURL: f.collectionsURL, CollectionsVersion: f.collectionsVersion,
		NoFinalState: !f.sendFinalState, BatchLogs: f.batchLogs,
		BatchInterval: time.Duration(f.batchInterval) * time.Millisecond, BatchLimit: f.batchLimit,
		Install: f.installer(log), Logger: log,
		Socket: phoenix.Options{Heartbeat: f.heartbeat, HeartbeatTolerance: f.heartbeatTolerance, Compress: f.compress && (given("compress") || !onThisHost(f.url))},
	}
	if o.Name == "" {
		o.Name = os.Getenv("DEPLOYED_POD_NAME")
	}
	if f.socketTimeout > 0 {
		log.Warn("--socket-timeout is deprecated; it counts as --message-timeout")
		o.MessageTimeout = seconds(f.socketTimeout)
	}
	if o.MinBackoff, o.MaxBackoff, err = parseBackoff(f.backoff); err != nil {
		return o, err
	}
	if o.Encoding, err = lightning.ParseEncoding(f.encoding); err != nil {
		return o, fmt.Errorf("--dataclip-encoding: %w", err)
	}
	switch f.framing {
	case "fragmented":
		o.Socket.Framing = phoenix.Fragmented
	case "whole":
		o.Socket.Framing = phoenix.Whole
	default:
		return o, fmt.Errorf("--framing is fragmented or whole, not %q", f.framing)
	}
	if f.publicKey != "" {
		if o.RunKey, err = lightning.ParseRunKey(f.publicKey); err != nil {
			return o, fmt.Errorf("--lightning-public-key: %w", err)
		}
	}
	if f.runState != "" {
		n, err := plan.ParseSize(f.runState)
		if err != nil {
			return o, fmt.Errorf("--run-state: %w", err)
		}
		o.RunState = uint64(n)
	}
	if f.collectionsURL == "" {
		log.Info("no --collections-url: jobs cannot use collections")
	}
	for _, name := range without {
		if given(name) {
			log.Info("a setting without a meaning here is ignored", "flag", "--"+name)
		}
	}
	return o, nil
}

// onThisHost reports whether a server's address names this machine: there is no
// line in between that compression could make shorter.
func onThisHost(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false // the worker says what is wrong with it
	}
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}

// parseBackoff reads "1/10": the least and most seconds between claims.
func parseBackoff(s string) (low, high time.Duration, err error) {
	var a, b float64
	if n, err := fmt.Sscanf(s, "%g/%g", &a, &b); err != nil || n != 2 || a <= 0 || b < a {
		return 0, 0, fmt.Errorf("--backoff is MIN/MAX in seconds, such as 1/10, not %q", s)
	}
	return seconds(a), seconds(b), nil
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

func (f *serveFlags) engine(log *slog.Logger, loops []lightning.Workloop) (*engine.Engine, error) {
	repo, err := filepath.Abs(f.repoDir)
	if err != nil {
		return nil, err
	}
	o := engine.Options{
		Logger: log, MaxExecutors: f.maxExecutors, AdaptorRepo: repo,
		Node: []string{f.node}, Python: []string{f.python},
	}
	if o.MaxExecutors <= 0 {
		for _, l := range loops { // a run that was claimed should not wait
			o.MaxExecutors += l.Capacity
		}
	}
	if f.memory != "" {
		n, err := plan.ParseSize(f.memory)
		if err != nil {
			return nil, fmt.Errorf("--memory: %w", err)
		}
		o.Memory = uint64(n)
	}
	return engine.New(o)
}

// warmUp starts executors ahead of the first run.
func (f *serveFlags) warmUp(eng *engine.Engine, log *slog.Logger, o lightning.Options) {
	if f.warm <= 0 {
		return
	}
	p, err := lightning.WarmPlan(&o)
	if err == nil {
		err = eng.Check(p)
	}
	if err == nil {
		err = eng.Warm(context.Background(), p, f.warm)
	}
	if err != nil {
		log.Error("executors cannot be started ahead; JavaScript jobs will most likely fail", "error", err)
	}
}

// installer has adaptors installed as `millrace run` does.
func (f *serveFlags) installer(log *slog.Logger) func(context.Context, []string) error {
	if f.noInstall {
		return nil
	}
	return func(_ context.Context, adaptors []string) error {
		start := time.Now()
		if err := installAdaptors(f.node, f.repoDir, adaptors); err != nil {
			return err
		}
		log.Info("adaptors are there", "adaptors", strings.Join(adaptors, " "), "duration", time.Since(start))
		return nil
	}
}

func nodeVersion(node string) string {
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}
