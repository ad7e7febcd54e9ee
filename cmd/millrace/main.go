// Command millrace runs workflows of separate processes that share their state
// in memory. See `millrace --help`.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes. They are part of the interface; docs/operating.md lists them.
const (
	exitOK        = 0
	exitFailed    = 1   // a step failed, or the run was ended by a limit
	exitUsage     = 2   // bad flags, an invalid workflow, an unusable input
	exitOutput    = 3   // the result or the figures could not be written
	exitInterrupt = 130 // ended by Ctrl-C (128 + SIGINT)
	exitTerminate = 143 // ended by SIGTERM (128 + SIGTERM)
)

// exitError carries an exit code. Its message is printed, unless it was shown
// already.
type exitError struct {
	code  int
	err   error
	shown bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error  { return &exitError{code: exitUsage, err: err} }
func outputError(err error) error { return &exitError{code: exitOutput, err: err} }

func main() { os.Exit(execute(os.Args[1:])) }

// execute runs the command line and returns the exit code.
func execute(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitUsage, err: err} // cobra's own: flags and arguments
		fmt.Fprintf(os.Stderr, "millrace: %v\nSee `millrace --help`.\n", err)
		return exit.code
	}
	if !exit.shown {
		fmt.Fprintf(os.Stderr, "millrace: %v\n", exit.err)
	}
	return exit.code
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "millrace",
		Short: "Run workflows whose state is written once and only referred to",
		Long: `millrace runs workflows of separate processes. A step writes its state once
into shared memory; the next step maps the same bytes, and only references
cross the channel between them.

  millrace run flow.yaml -i state.json -o result.json

Exit codes: 0 success; 1 a step failed or a limit ended the run; 2 bad usage,
invalid workflow or unusable input; 3 the output could not be written;
130 interrupted; 143 terminated.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionText(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(runCommand(), serveCommand(), validateCommand(), uplinkCommand(), conformanceCommand(), versionCommand(), adaptorsCommand(), benchCommand(), commandExecutorCommand(), lightningDevCommand())
	return root
}
