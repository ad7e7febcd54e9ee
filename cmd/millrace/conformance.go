package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/worker/conformance"
)

type conformanceFlags struct {
	kind, match string
	timeout     time.Duration
	list        bool
}

func conformanceCommand() *cobra.Command {
	f := &conformanceFlags{}
	cmd := &cobra.Command{
		Use:   "conformance [flags] -- PROGRAM [ARGUMENT...]",
		Short: "Test an executor of any language against the protocol",
		Long: `Start a program as a supervisor would and drive it through the protocol, case
by case, each on fresh processes: states in and out, memory, cancellation,
shutdown, and what a program must survive or refuse. A line for each case says
pass, FAIL or skip, and why.

The kind says how the program gets the steps that the cases need: a worker
program of kind function registers functions of agreed names, which --list
describes; executors of javascript, python and command (which needs jq) are
sent their code.

  millrace conformance --kind javascript -- node worker/node/bin/millrace-node-worker.js
  millrace conformance --kind python --case memory/ -- python3 worker/python/millrace_worker.py
  millrace conformance -- ./my-worker

Exit codes: 0 no case failed; 1 some did; 2 bad usage; 130 interrupted.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return listConformance(cmd.OutOrStdout())
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "kind", string(conformance.KindFunction), "how the program gets its steps: function, javascript, python, command")
	flags.StringVar(&f.match, "case", "", "run only the cases whose names match this regular expression")
	flags.DurationVar(&f.timeout, "timeout", conformance.DefaultTimeout, "limit for each case")
	flags.BoolVar(&f.list, "list", false, "list the cases, and the functions that a worker program has to register")
	return cmd
}

func listConformance(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintln(&text, "Cases:")
	names, about := conformance.Cases()
	for i := range names {
		fmt.Fprintf(&text, "  %-28s %s\n", names[i], about[i])
	}
	fmt.Fprintln(&text, "\nFunctions:")
	for _, b := range conformance.Behaviours() {
		optional := ""
		if b.Optional {
			optional = " (optional)"
		}
		fmt.Fprintf(&text, "  %-28s %s%s\n", b.Name, b.Does, optional)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (f *conformanceFlags) run(ctx context.Context, w io.Writer, argv []string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if f.timeout <= 0 {
		return usageError(fmt.Errorf("--timeout %v: it must be more than 0", f.timeout))
	}
	options := conformance.Options{Argv: argv, Kind: conformance.Kind(f.kind), Timeout: f.timeout}
	if f.match != "" {
		match, err := regexp.Compile(f.match)
		if err != nil {
			return usageError(fmt.Errorf("--case: %w", err))
		}
		options.Match = match
	}
	words := map[conformance.Outcome]string{conformance.Pass: "pass", conformance.Fail: "FAIL", conformance.Skip: "skip"}
	started := time.Now()
	summary, err := conformance.Run(ctx, options, func(r conformance.Result) {
		fmt.Fprintf(w, "%s  %-28s %5d ms", words[r.Outcome], r.Case, r.Took.Milliseconds())
		if r.Reason != "" {
			fmt.Fprintf(w, "  %s", strings.ReplaceAll(r.Reason, "\n", "\n      "))
		}
		fmt.Fprintln(w)
	})
	switch {
	case ctx.Err() != nil:
		return &exitError{code: exitInterrupt, err: errors.New("interrupted")}
	case err != nil:
		return usageError(err)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped in %.1fs\n", summary.Passed, summary.Failed, summary.Skipped, time.Since(started).Seconds())
	if summary.Failed > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("%d cases failed", summary.Failed), shown: true}
	}
	return nil
}
