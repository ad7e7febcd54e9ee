package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// runFlags are the flags of `millrace run`.
type runFlags struct {
	inputs       []string
	output, key  string
	start        string
	stats        string
	logLevel     string
	logFormat    string
	keepGoing    bool
	quiet        bool
	node, python string
	maxExecutors int
	memory       string
	timeout      time.Duration
	adaptorRepo  string
	noInstall    bool
	credentials  string
	uplink       string
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run WORKFLOW",
		Short: "Run a workflow file",
		Long: `Run a workflow file (YAML or JSON) and write its final state.

The input is a JSON document, read once into shared memory: a file, - for
standard input, or KEY=FILE to put a file's content (JSON, an Arrow file or
stream, or any bytes) under one key without looking into it. -i can be given
several times: first the document, then keys.

Progress goes to standard error: a line for each step. The final state goes to
-o, or to standard output when that is not a terminal.`,
		Example: `  millrace run flow.yaml -i state.json -o result.json
  millrace run flow.yaml -i data=flights.json --stats stats.json
  curl -s $URL | millrace run flow.yaml -i - | jq .data.total
  millrace run flow.yaml -i data=flights.arrow -o out.arrow --key data`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeWorkflows,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.inputs, "input", "i", nil, "initial state: FILE, - for standard input, or KEY=FILE (repeatable)")
	flags.StringVarP(&f.output, "output", "o", "", "where the final state goes: FILE, or - for standard output")
	flags.StringVarP(&f.key, "key", "k", "", "write only this key of the final state, as it is")
	flags.StringVar(&f.start, "start", "", "start at this step instead of the workflow's first")
	flags.StringVar(&f.stats, "stats", "", "write the run's figures to this file, as JSON")
	flags.StringVar(&f.logLevel, "log-level", "info", "least severe log lines to show: debug, info, warn, error, none")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.BoolVar(&f.keepGoing, "keep-going", false, "let other branches finish when a step crashes or is killed")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing but errors")
	flags.StringVar(&f.memory, "memory", "", "budget of state for the run, such as 2GB (default: the workflow's, else none)")
	flags.DurationVar(&f.timeout, "timeout", 0, "limit for the whole run, such as 10m (default: the workflow's, else none)")
	flags.IntVar(&f.maxExecutors, "max-executors", 0, "how many steps work at once (default: twice the processors)")
	flags.StringVar(&f.node, "node", "node", "Node.js binary for JavaScript steps, where the workflow names none")
	flags.StringVar(&f.python, "python", "python3", "Python binary for Python steps, where the workflow names none")
	flags.StringVar(&f.adaptorRepo, "adaptor-repo", defaultAdaptorRepo(), "folder in which OpenFn adaptors are installed")
	flags.StringVar(&f.credentials, "credentials", "", "JSON file of configurations by credential id, for steps that name one")
	flags.StringVar(&f.uplink, "uplink", "", "send events and states to unix:PATH or tcp:HOST:PORT as frames, or to ndjson:PATH or - as lines of JSON")
	flags.BoolVar(&f.noInstall, "no-install", false, "do not install adaptors that are missing")
	return cmd
}

func completeWorkflows(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
}

func (f *runFlags) run(ctx context.Context, workflow string) error {
	level, err := parseLevel(f.logLevel)
	if err != nil {
		return usageError(err)
	}
	if f.logFormat != "text" && f.logFormat != "json" {
		return usageError(fmt.Errorf("--log-format is text or json, not %q", f.logFormat))
	}
	if toStdout(f.uplink) && f.output == "-" {
		return usageError(errors.New("the uplink and the final state cannot both go to standard output"))
	}
	p, err := f.plan(workflow)
	if err != nil {
		return usageError(err)
	}
	input, err := parseInputs(f.inputs)
	if err != nil {
		return usageError(err)
	}
	if f.start != "" && p.Step(f.start) == nil {
		return usageError(fmt.Errorf("--start %s: the workflow has no such step; it has %s", f.start, stepIDs(p)))
	}
	var out *outputFile
	if path := f.outputPath(); path != "" {
		if out, err = createOutput(path); err != nil {
			return outputError(err)
		}
		defer out.discard()
	}
	show := f.reporter(level)
	defer show.close()
	for _, w := range p.Warnings {
		show.warn(w.Error())
	}
	if f.adaptorRepo, err = filepath.Abs(f.adaptorRepo); err != nil {
		return usageError(err)
	}
	options := engine.Options{MaxExecutors: f.maxExecutors, AdaptorRepo: f.adaptorRepo, Logger: show.logger(), Node: []string{f.node}, Python: []string{f.python}}
	eng, err := engine.New(options)
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	defer eng.Close()
	if err := eng.Check(p); err != nil {
		return usageError(err)
	}
	if needed := adaptorsOf(p); len(needed) > 0 && !f.noInstall {
		if err := installAdaptors(options.Node[0], f.adaptorRepo, needed); err != nil {
			return usageError(err)
		}
	}
	return f.follow(ctx, eng, p, input, show, out)
}

// follow runs the plan to its end and writes what came of it.
func (f *runFlags) follow(ctx context.Context, eng *engine.Engine, p *plan.Plan, input engine.Input, show reporter, out *outputFile) error {
	credential, err := loadCredentials(f.credentials)
	if err != nil {
		return usageError(err)
	}
	up, err := openUplink(f.uplink)
	if err != nil {
		return outputError(err)
	}
	defer up.close()
	run, err := eng.Submit(ctx, p, input, engine.RunOptions{
		Start: f.start, KeepGoing: f.keepGoing, Observe: up.observing(show.event, show.warn), Credential: credential,
	})
	if err != nil {
		return usageError(err)
	}
	defer run.Close()
	interrupted := cancelOnSignal(run)
	defer interrupted.stop()
	result, err := run.Wait(context.Background())
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	var size countingWriter
	writeErr := up.complete(run.ID, result)
	// The state of a run that was cut short is nobody's result.
	if out != nil && (result.Status == engine.StatusSuccess || result.Status == engine.StatusFail) {
		err := out.write(func(w io.Writer) error {
			size.to = w
			if f.key != "" {
				return result.WriteKey(&size, f.key)
			}
			return result.WriteDocument(&size)
		})
		writeErr = errors.Join(writeErr, err)
	}
	stats := run.Stats()
	if f.stats != "" {
		err := writeFile(f.stats, func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			return enc.Encode(stats)
		})
		writeErr = errors.Join(writeErr, err)
	}
	show.summary(&stats, result, size.n, out)
	return exitFor(result, writeErr, interrupted.signal())
}

// loadCredentials reads a file of configurations by id; nil for none.
func loadCredentials(path string) (func(string) (json.RawMessage, error), error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the credentials: %w", err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("the credentials in %s are not a JSON object of objects: %w", path, err)
	}
	return func(id string) (json.RawMessage, error) {
		c, ok := all[id]
		if !ok {
			return nil, fmt.Errorf("not in %s", path)
		}
		return c, nil
	}, nil
}

func exitFor(result *engine.Result, writeErr error, signalled int32) error {
	switch {
	case signalled == int32(syscall.SIGINT):
		return &exitError{code: exitInterrupt, err: errors.New("interrupted"), shown: true}
	case signalled == int32(syscall.SIGTERM):
		return &exitError{code: exitTerminate, err: errors.New("terminated"), shown: true}
	case result.Status != engine.StatusSuccess:
		code := exitFailed
		var step *engine.StepError
		if errors.As(result.Err, &step) && step.Name == "InputError" {
			code = exitUsage
		}
		return &exitError{code: code, err: errors.Join(result.Err, writeErr), shown: writeErr == nil}
	case writeErr != nil:
		return outputError(writeErr)
	}
	return nil
}

// interruption is what a signal does to a run.
type interruption struct {
	signals chan os.Signal
	done    chan struct{}
	got     atomic.Int32
}

// cancelOnSignal cancels the run at the first SIGINT or SIGTERM and exits at
// the second; the executors die with this process.
func cancelOnSignal(run *engine.Run) *interruption {
	n := &interruption{signals: make(chan os.Signal, 2), done: make(chan struct{})}
	signal.Notify(n.signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		var first syscall.Signal
		for {
			select {
			case s := <-n.signals:
				if first != 0 {
					os.Exit(128 + int(first))
				}
				first, _ = s.(syscall.Signal)
				n.got.Store(int32(first))
				run.Cancel()
			case <-n.done:
				return
			}
		}
	}()
	return n
}

// signal returns the number of the signal that came, 0 for none.
func (n *interruption) signal() int32 { return n.got.Load() }

// stop gives the signals their usual meaning back.
func (n *interruption) stop() {
	signal.Stop(n.signals)
	close(n.done)
}

func (f *runFlags) plan(workflow string) (*plan.Plan, error) {
	p, err := plan.Load(workflow, engine.PlanOptions())
	if err != nil {
		return nil, err
	}
	if f.timeout < 0 {
		return nil, fmt.Errorf("--timeout %v is negative", f.timeout)
	}
	if f.timeout > 0 {
		p.Options.Timeout = f.timeout
	}
	if f.memory != "" {
		if p.Options.Memory, err = plan.ParseSize(f.memory); err != nil {
			return nil, fmt.Errorf("--memory: %w", err)
		}
	}
	return p, nil
}

func (f *runFlags) outputPath() string {
	if f.output == "" && !toStdout(f.uplink) && !term.IsTerminal(int(os.Stdout.Fd())) {
		return "-"
	}
	return f.output
}

// parseInputs makes the run's input of the -i flags.
func parseInputs(flags []string) (engine.Input, error) {
	input := engine.EmptyInput()
	stdin := false
	for i, flag := range flags {
		key, path, keyed := strings.Cut(flag, "=")
		if keyed {
			// A file whose name has a = in it is still a file.
			if _, err := os.Stat(flag); err == nil {
				keyed = false
			}
		}
		switch {
		case flag == "":
			return nil, errors.New("-i needs a file, - or KEY=FILE")
		case keyed && (key == "" || path == ""):
			return nil, fmt.Errorf("-i %s: it is KEY=FILE, with both", flag)
		case keyed && path == "-":
			return nil, fmt.Errorf("-i %s: standard input can only be the whole document", flag)
		case keyed:
			if _, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("cannot read the input: %w", err)
			}
			input = engine.WithFile(input, key, path)
		case i > 0:
			return nil, fmt.Errorf("-i %s: the document comes first and once; further inputs are KEY=FILE", flag)
		case flag == "-":
			stdin = true
			input = engine.FromReader(os.Stdin)
		default:
			if _, err := os.Stat(flag); err != nil {
				return nil, fmt.Errorf("cannot read the input: %w", err)
			}
			input = engine.FromFile(flag)
		}
	}
	if stdin && term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprintln(os.Stderr, "millrace: reading the state from the terminal; end it with Ctrl-D")
	}
	return input, nil
}

func stepIDs(p *plan.Plan) string {
	ids := make([]string, len(p.Steps))
	for i, s := range p.Steps {
		ids[i] = s.ID
	}
	return strings.Join(ids, ", ")
}

// levelNone shows no log line at all.
const levelNone = slog.Level(100)

func parseLevel(s string) (slog.Level, error) {
	if s == "none" {
		return levelNone, nil
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("--log-level is debug, info, warn, error or none, not %q", s)
	}
	return level, nil
}

type countingWriter struct {
	to io.Writer
	n  int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}
