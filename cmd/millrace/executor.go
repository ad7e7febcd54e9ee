package main

import (
	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/worker/command"
)

// commandExecutorCommand is what the engine starts for command steps.
func commandExecutorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    engine.CommandExecutorArgument,
		Short:  "Serve command steps (started by a supervisor, not by hand)",
		Args:   cobra.NoArgs,
		Hidden: true,
		Run:    func(*cobra.Command, []string) { command.Main() },
	}
}
