package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/millrace/millrace/engine/lightning/standin"
)

// enqueueFlags are the flags of `millrace lightning-dev enqueue`.
type enqueueFlags struct {
	input, output string
	credentials   string
	queue, url    string
	options       []string
	detach        bool
}

func lightningEnqueueCommand() *cobra.Command {
	var f enqueueFlags
	cmd := &cobra.Command{
		Use:   "enqueue WORKFLOW",
		Short: "Queue a workflow at the stand-in and follow the run",
		Long: `Queue a workflow at a running ` + "`millrace lightning-dev`" + ` and follow the run: events,
log lines and the sizes of dataclips are printed as the worker sends them.

The workflow is a Lightning plan (JSON with jobs, triggers and edges), or a
workflow file whose steps are JavaScript expressions, which become jobs. The
final state goes to -o, or to standard output when that is not a terminal.`,
		Example: `  millrace lightning-dev enqueue flow.yaml -i state.json
  millrace lightning-dev enqueue plan.json --option output_dataclips=false --option run_timeout_ms=5000`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeWorkflows,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.ErrOrStderr(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.input, "input", "i", "", "initial dataclip: FILE, or - for standard input (default: an empty object)")
	flags.StringVarP(&f.output, "output", "o", "", "where the final state goes: FILE, or - for standard output")
	flags.StringVar(&f.credentials, "credentials", "", "JSON file of configurations by credential id")
	flags.StringVar(&f.queue, "queue", "", "queue in which the run waits (default: default)")
	flags.StringVar(&f.url, "url", "http://"+lightningDevAddress, "where lightning-dev listens")
	flags.StringArrayVar(&f.options, "option", nil, "an option of the plan, NAME=VALUE with a JSON value (repeatable)")
	flags.BoolVar(&f.detach, "detach", false, "print the run's id and do not follow it")
	return cmd
}

func (f *enqueueFlags) run(ctx context.Context, diagnostics io.Writer, workflow string) error {
	request, err := f.request(workflow)
	if err != nil {
		return usageError(err)
	}
	var out *outputFile
	if path := f.outputPath(); path != "" && !f.detach {
		if out, err = createOutput(path); err != nil {
			return outputError(err)
		}
		defer out.discard()
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var queued standin.Enqueued
	if err := f.call(ctx, http.MethodPost, "/api/runs", request, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&queued)
	}); err != nil {
		return usageError(err)
	}
	if f.detach {
		fmt.Println(queued.ID)
		return nil
	}
	fmt.Fprintf(diagnostics, "queued run %s\n", queued.ID)
	if queued.Workers == 0 {
		fmt.Fprintln(diagnostics, "no worker is connected: lightning-dev has printed how to start one; waiting")
	}
	end, err := f.follow(ctx, diagnostics, queued.ID)
	if ctx.Err() != nil {
		return &exitError{code: exitInterrupt, err: errors.New("interrupted: the run goes on without a reader")}
	}
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	if out != nil && end.Dataclip != nil {
		if err := out.write(func(w io.Writer) error {
			return f.call(ctx, http.MethodGet, "/api/runs/"+queued.ID+"/final", nil, func(body io.Reader) error {
				_, err := io.Copy(w, io.MultiReader(body, strings.NewReader("\n")))
				return err
			})
		}); err != nil {
			return outputError(err)
		}
	}
	if end.Reason != "success" {
		return &exitError{code: exitFailed, err: fmt.Errorf("the run ended with %s: %s", end.Reason, end.Error)}
	}
	return nil
}

func (f *enqueueFlags) outputPath() string {
	if f.output == "" && !term.IsTerminal(int(os.Stdout.Fd())) {
		return "-"
	}
	return f.output
}

// request makes the run of the files and flags.
func (f *enqueueFlags) request(workflow string) (*standin.EnqueueRequest, error) {
	credentials := make(map[string]json.RawMessage)
	if f.credentials != "" {
		b, err := os.ReadFile(f.credentials)
		if err != nil {
			return nil, fmt.Errorf("the credentials: %w", err)
		}
		if err := json.Unmarshal(b, &credentials); err != nil {
			return nil, fmt.Errorf("the credentials in %s are not an object of objects: %w", f.credentials, err)
		}
	}
	run, err := standin.Load(workflow, credentials)
	if err != nil {
		return nil, err
	}
	r := &standin.EnqueueRequest{Plan: run.Plan, Credentials: run.Credentials, Queue: f.queue, Dataclip: json.RawMessage("{}")}
	if r.Plan, err = withOptions(r.Plan, f.options); err != nil {
		return nil, err
	}
	switch f.input {
	case "":
	case "-":
		r.Dataclip, err = io.ReadAll(os.Stdin)
	default:
		r.Dataclip, err = os.ReadFile(f.input)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the input: %w", err)
	}
	if !json.Valid(r.Dataclip) {
		return nil, fmt.Errorf("the input %s is not JSON", f.input)
	}
	return r, nil
}

// withOptions sets options of a Lightning plan.
func withOptions(text json.RawMessage, settings []string) (json.RawMessage, error) {
	if len(settings) == 0 {
		return text, nil
	}
	var p map[string]json.RawMessage
	options := make(map[string]json.RawMessage)
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, err
	}
	if p["options"] != nil {
		if err := json.Unmarshal(p["options"], &options); err != nil {
			return nil, fmt.Errorf("the plan's options: %w", err)
		}
	}
	for _, s := range settings {
		name, value, found := strings.Cut(s, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("--option %s: it is NAME=VALUE", s)
		}
		if !json.Valid([]byte(value)) {
			quoted, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			value = string(quoted) // a word is a string
		}
		options[name] = json.RawMessage(value)
	}
	var err error
	if p["options"], err = json.Marshal(options); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// call asks lightning-dev.
func (f *enqueueFlags) call(ctx context.Context, method, path string, body any, read func(io.Reader) error) error {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(f.url, "/")+path, &text)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("nothing listens at %s: start `millrace lightning-dev`, or say with --url where it is", f.url)
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var e struct{ Error string }
		if json.NewDecoder(response.Body).Decode(&e) != nil || e.Error == "" {
			e.Error = response.Status + ": is this lightning-dev?"
		}
		return fmt.Errorf("%s: %s", f.url, e.Error)
	}
	return read(response.Body)
}

// follow prints the run's updates and returns the last one.
func (f *enqueueFlags) follow(ctx context.Context, out io.Writer, id string) (end standin.Update, err error) {
	jobs := make(map[string]string) // by step
	var begin time.Time
	err = f.call(ctx, http.MethodGet, "/api/runs/"+id+"/updates", nil, func(body io.Reader) error {
		lines := json.NewDecoder(body)
		for {
			var u standin.Update
			if err := lines.Decode(&u); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if begin.IsZero() {
				begin = u.Time
			}
			if u.Job != "" {
				jobs[u.Step] = u.Job
			}
			fmt.Fprintf(out, "%8.3f s  %-16s %s\n", u.Time.Sub(begin).Seconds(), u.Event, describe(&u, jobs[u.Step]))
			end = u
		}
	})
	if err == nil && end.Event != "run:complete" {
		err = errors.New("lightning-dev ended before the run did")
	}
	return end, err
}

// describe says what is worth knowing of an update.
func describe(u *standin.Update, job string) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if job != "" {
		add("%s", job)
	}
	if u.Log != nil {
		var message []json.RawMessage
		add("[%s] %s:", u.Log.Source, u.Log.Level)
		if json.Unmarshal(u.Log.Message, &message) == nil {
			for _, m := range message {
				add("%s", plainText(m))
			}
		}
	}
	if u.Reason != "" {
		add("%s", u.Reason)
	}
	if u.Event == "step:complete" {
		add("in %s", duration(u.Duration*1e3))
	}
	if u.Error != "" {
		add("(%s)", u.Error)
	}
	if d := u.Dataclip; d != nil && !d.Withheld {
		add("– state of %s", size(uint64(d.Size)))
		if d.Wire > d.Size {
			add("(%s as text in JSON)", size(uint64(d.Wire)))
		}
	}
	if u.DataclipID != "" {
		add("dataclip %s", u.DataclipID)
	}
	if u.Withheld != "" {
		add("no dataclip: %s", u.Withheld)
	}
	return strings.Join(words, " ")
}
