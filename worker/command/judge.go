package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/worker"
)

// name is what the command is called in messages.
func (e *execution) name() string { return filepath.Base(e.spec.Argv[0]) }

// startError says why a program that was found could not be started.
func (e *execution) startError(err error) error {
	message := fmt.Sprintf("%s could not be started: %v", e.name(), err)
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		message = fmt.Sprintf("%s is not a program that can be executed: a script needs a first line such as #!/bin/sh", e.program)
	case errors.Is(err, syscall.ENOENT):
		message = fmt.Sprintf("%s could not be started: the interpreter that its first line names, or the loader it needs, does not exist", e.program)
	}
	return e.crash(message, nil)
}

// judge turns the command's end into an error, or nil.
func (e *execution) judge(status *os.ProcessState) error {
	if size := e.over.Load(); size > 0 {
		return e.state.BudgetError(e.spec.Stdout.key, size)
	}
	wait, ok := status.Sys().(syscall.WaitStatus)
	failed := !status.Success()
	if cause := e.ctx.Err(); cause != nil && failed {
		return fmt.Errorf("%s was ended: %w", e.name(), cause)
	}
	if !failed {
		if e.feedErr != nil && !errors.Is(e.feedErr, syscall.EPIPE) && !errors.Is(e.feedErr, os.ErrDeadlineExceeded) {
			return fmt.Errorf("write the input of %s: %w", e.name(), e.feedErr)
		}
		return nil
	}
	tail, last := e.log.tailText()
	details := map[string]any{"argv0": e.spec.Argv[0], "stderr": tail, "exit_code": status.ExitCode()}
	message := fmt.Sprintf("%s exited with code %d", e.name(), status.ExitCode())
	if ok && wait.Signaled() {
		name := unix.SignalName(wait.Signal())
		details["signal"], details["exit_code"] = name, nil
		message = fmt.Sprintf("%s was killed by %s", e.name(), name)
		if wait.Signal() == syscall.SIGKILL {
			message += " (perhaps because memory ran out)"
		}
	}
	if last != "" {
		message += ": " + last
	}
	return &worker.Error{Name: "CommandError", Message: message, Details: details}
}
