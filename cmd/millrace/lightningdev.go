package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine/lightning/standin"
	"github.com/millrace/millrace/engine/plan"
)

// lightningDevAddress is where a worker looks for Lightning by default.
const lightningDevAddress = "127.0.0.1:4000"

// lightningDevFlags are the flags of `millrace lightning-dev`.
type lightningDevFlags struct {
	listen, secret string
	maxFrame       string
	compress       bool
	countOnly      bool
	history        int
	quiet          bool
}

func lightningDevCommand() *cobra.Command {
	var f lightningDevFlags
	cmd := &cobra.Command{
		Use:   "lightning-dev",
		Short: "A small stand-in for OpenFn Lightning, to see a worker at work",
		Long: `Run a small stand-in for OpenFn Lightning on this machine: it queues runs, lets a
worker claim them, and checks everything that the worker sends. It holds all in
memory and has no users, no projects and no database: it is for looking, testing
and measuring.

Start it, start a worker with the lines that it prints, and give it a workflow:

  millrace lightning-dev
  WORKER_SECRET=… millrace serve
  millrace lightning-dev enqueue flow.yaml -i state.json

What a worker does wrong is printed as a violation, and makes the exit code 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", lightningDevAddress, "address and port to listen on; port 0 for any")
	flags.StringVar(&f.secret, "secret", os.Getenv("WORKER_SECRET"), "secret that workers sign with (default: WORKER_SECRET, else a random one)")
	flags.StringVar(&f.maxFrame, "max-frame", "11MB", "largest message; above it the whole socket is dropped, as by the public server")
	flags.BoolVar(&f.compress, "compress", true, "offer permessage-deflate")
	flags.BoolVar(&f.countOnly, "count-only", false, "keep no dataclips and no log lines: count and checksum them")
	flags.IntVar(&f.history, "history", 100, "finished runs to keep; 0 for all")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing but violations")
	// Its default may be a secret that the environment holds.
	flags.Lookup("secret").DefValue = ""
	_ = cmd.RegisterFlagCompletionFunc("listen", cobra.NoFileCompletions) // the flag exists
	cmd.AddCommand(lightningEnqueueCommand())
	return cmd
}

func (f *lightningDevFlags) run(ctx context.Context, out, diagnostics io.Writer) error {
	options := standin.Options{Addr: f.listen, Secret: f.secret, CountOnly: f.countOnly, History: f.history}
	frame, err := plan.ParseSize(f.maxFrame)
	if err != nil {
		return usageError(fmt.Errorf("--max-frame: %w", err))
	}
	options.MaxFrame = frame
	if f.history < 0 {
		return usageError(fmt.Errorf("--history %d: 0 keeps all", f.history))
	}
	if f.compress {
		options.Compression = websocket.CompressionContextTakeover
	}
	level := slog.LevelInfo
	if f.quiet {
		level = slog.LevelWarn
	}
	options.Logger = slog.New(slog.NewTextHandler(diagnostics, &slog.HandlerOptions{Level: level}))
	server, err := standin.New(options)
	if err != nil {
		var used *net.OpError
		if errors.As(err, &used) && errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: --listen 127.0.0.1:0 takes a free port", err)
		}
		return usageError(err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if !f.quiet || f.secret == "" { // who gave the secret knows it
		f.explain(out, server)
	}
	<-ctx.Done()
	stop() // a second signal ends at once
	violations := len(server.Violations())
	if err := server.Close(); err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	if violations > 0 {
		return &exitError{code: exitFailed, err: fmt.Errorf("violations of the protocol: %d", violations)}
	}
	return nil
}

// explain says how to point a worker at the server, in lines to paste.
func (f *lightningDevFlags) explain(out io.Writer, s *standin.Server) {
	address, url := "", ""
	if s.Address() != lightningDevAddress {
		address, url = " --lightning "+s.URL(), " --url http://"+s.Address()
	}
	fmt.Fprintf(out, `A stand-in for Lightning listens on %s. In other terminals, start a worker:

  WORKER_SECRET=%s millrace serve%s

and give it work:

  millrace lightning-dev enqueue flow.yaml -i state.json%s

To have the runs' tokens checked too, add WORKER_LIGHTNING_PUBLIC_KEY=%s
`, s.URL(), s.Secret(), address, url, s.PublicKey())
}
