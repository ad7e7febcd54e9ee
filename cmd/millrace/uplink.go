package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/uplink/frames"
)

// uplink sends a run's events on, where --uplink asks for it. A nil uplink
// does nothing.
type uplink struct {
	sink frames.Sink
	err  error // the first; the run goes on without it
}

// toStdout says whether an uplink takes standard output.
func toStdout(address string) bool { return address == "-" || address == "ndjson:-" }

func openUplink(address string) (*uplink, error) {
	if address == "" {
		return nil, nil
	}
	sink, err := frames.Open(address)
	if err != nil {
		return nil, fmt.Errorf("--uplink: %w", err)
	}
	return &uplink{sink: sink}, nil
}

// observing returns an observer that sends each event before it is shown: the
// state that an event carries is valid until then, and a receiver that is slow
// slows the run instead of filling memory.
func (u *uplink) observing(show func(engine.Event), warn func(string)) func(engine.Event) {
	if u == nil {
		return show
	}
	return func(e engine.Event) {
		if u.err == nil {
			if u.err = u.sink.Event(e); u.err != nil {
				warn("the uplink is given up, the run goes on: " + u.err.Error())
			}
		}
		show(e)
	}
}

// complete sends the end of the run, and says what went wrong on the way.
func (u *uplink) complete(run string, result *engine.Result) error {
	if u == nil {
		return nil
	}
	if u.err == nil {
		u.err = u.sink.Complete(run, result)
	}
	if err := u.sink.Close(); u.err == nil {
		u.err = err
	}
	return u.err
}

// close is for runs that never started.
func (u *uplink) close() {
	if u != nil {
		_ = u.sink.Close() // nothing was sent
	}
}

func uplinkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uplink",
		Short: "Work with what --uplink sends",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "listen ADDRESS",
		Short: "Listen on a socket and show the frames that arrive",
		Long: `Listen at unix:PATH or tcp:HOST:PORT, take one connection, and write a line for
each frame: what happened, and the sizes of the values, not their contents.`,
		Example: `  millrace uplink listen unix:/tmp/uplink &
  millrace run flow.yaml --uplink unix:/tmp/uplink`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			network, address, _ := strings.Cut(args[0], ":")
			if network != "unix" && network != "tcp" || address == "" {
				return usageError(&frames.AddressError{Address: args[0]})
			}
			l, err := net.Listen(network, address)
			if err != nil {
				return usageError(err)
			}
			defer l.Close()
			return show(l, os.Stdout)
		},
	})
	return cmd
}

// show takes one connection and prints its frames.
func show(l net.Listener, w io.Writer) error {
	conn, err := l.Accept()
	if err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	defer conn.Close()
	if err := frames.Print(w, conn); err != nil {
		return &exitError{code: exitFailed, err: err}
	}
	return nil
}
