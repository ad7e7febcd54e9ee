package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
)

// benchFlags are the flags of `millrace bench`.
type benchFlags struct {
	inputs      []string
	nodes       []string
	runs        int
	adaptorRepo string
}

func benchCommand() *cobra.Command {
	f := benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench WORKFLOW",
		Short: "Run a workflow several times and compare, for example two Node.js binaries",
		Long: `Run a workflow several times and print the time and memory it takes. With --node
given more than once the binaries take turns, so that a drift of the machine
hits them alike, and each is compared with the first: a build of Node.js with
pointer compression, say, with the usual one.`,
		Example: `  millrace bench flow.yaml -i state.json
  millrace bench flow.yaml -i state.json --node node --node ~/node-pointer-compression/bin/node`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeWorkflows,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.inputs, "input", "i", nil, "initial state, as for run")
	flags.StringArrayVar(&f.nodes, "node", []string{"node"}, "Node.js binary (repeatable)")
	flags.IntVarP(&f.runs, "runs", "n", 5, "runs of each, after one to warm up")
	flags.StringVar(&f.adaptorRepo, "adaptor-repo", defaultAdaptorRepo(), "folder in which OpenFn adaptors are installed")
	return cmd
}

// contender is one binary's measurements.
type contender struct {
	node     string
	duration []float64 // of the steps' code and between, in microseconds
	memory   []float64 // executors' peak, in bytes
}

func (f *benchFlags) run(ctx context.Context, out, progress io.Writer, workflow string) error {
	p, err := plan.Load(workflow, engine.PlanOptions())
	if err != nil {
		return usageError(err)
	}
	if f.runs < 1 {
		return usageError(fmt.Errorf("--runs %d: at least one", f.runs))
	}
	input, err := parseInputs(f.inputs)
	if err != nil {
		return usageError(err)
	}
	if slices.Contains(f.inputs, "-") {
		return usageError(fmt.Errorf("-i -: standard input can be read once, and each run needs it"))
	}
	if needed := adaptorsOf(p); len(needed) > 0 {
		if err := installAdaptors(f.nodes[0], f.adaptorRepo, needed); err != nil {
			return usageError(err)
		}
	}
	contenders := make([]*contender, len(f.nodes))
	for i, node := range f.nodes {
		contenders[i] = &contender{node: node}
	}
	for round := range f.runs + 1 {
		for _, c := range contenders {
			fmt.Fprintf(progress, "\rrun %d of %d: %s\x1b[K", round, f.runs, c.node)
			stats, err := f.once(ctx, p, input, c.node)
			if err != nil {
				fmt.Fprintln(progress)
				return err
			}
			if round == 0 {
				continue // to warm the page cache up
			}
			c.duration = append(c.duration, stats.DurationUS)
			c.memory = append(c.memory, float64(stats.PeakRSSBytes.Executors))
		}
	}
	fmt.Fprint(progress, "\r\x1b[K")
	return printContenders(out, contenders)
}

// once runs the workflow with fresh executors, so that their peaks are this
// run's.
func (f *benchFlags) once(ctx context.Context, p *plan.Plan, input engine.Input, node string) (engine.Stats, error) {
	eng, err := engine.New(engine.Options{Node: []string{node}, AdaptorRepo: f.adaptorRepo})
	if err != nil {
		return engine.Stats{}, err
	}
	defer eng.Close()
	if err := eng.Check(p); err != nil {
		return engine.Stats{}, usageError(err)
	}
	run, err := eng.Submit(ctx, p, input, engine.RunOptions{})
	if err != nil {
		return engine.Stats{}, usageError(err)
	}
	defer run.Close()
	defer cancelOnSignal(run).stop()
	result, err := run.Wait(context.Background())
	if err != nil {
		return engine.Stats{}, err
	}
	if result.Err != nil {
		return engine.Stats{}, &exitError{code: exitFailed, err: result.Err}
	}
	return run.Stats(), nil
}

func printContenders(out io.Writer, contenders []*contender) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "node\tduration, median (least to most)\t× first\texecutors' memory, median (least to most)\t× first")
	first := contenders[0]
	for _, c := range contenders {
		fmt.Fprintf(w, "%s\t%s (%s to %s)\t%.2f\t%s (%s to %s)\t%.2f\n", c.node,
			duration(median(c.duration)), duration(slices.Min(c.duration)), duration(slices.Max(c.duration)), median(c.duration)/median(first.duration),
			size(uint64(median(c.memory))), size(uint64(slices.Min(c.memory))), size(uint64(slices.Max(c.memory))), median(c.memory)/median(first.memory))
	}
	return w.Flush()
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
