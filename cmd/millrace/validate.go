package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate WORKFLOW...",
		Short: "Check workflow files and say what is wrong, where",
		Long: `Check workflow files (YAML or JSON) against the published schema and for what
a schema cannot tell: targets that do not exist, ids used twice, conditions
that do not parse. Every problem is listed with file, line and path.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bad := 0
			for _, path := range args {
				p, err := plan.Load(path, engine.PlanOptions())
				if err != nil {
					bad++
					fmt.Fprintln(cmd.ErrOrStderr(), err)
					continue
				}
				for _, w := range p.Warnings {
					fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", w)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: valid, %d steps, %d edges\n", path, len(p.Steps), len(p.Edges))
			}
			if bad > 0 {
				return &exitError{code: exitUsage, err: errors.New("invalid workflow"), shown: true}
			}
			return nil
		},
	}
}
