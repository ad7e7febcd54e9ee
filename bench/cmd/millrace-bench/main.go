// Command millrace-bench compares ways of passing a state through a chain of
// step processes. It prints a table and, with -out, writes results.json and
// plots. bench/README.md says what is measured and how.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/child"
	"github.com/millrace/millrace/bench/report"
	"github.com/millrace/millrace/bench/subject"
	"github.com/millrace/millrace/bench/workload"
)

const usage = `Compares ways of passing a state through a chain of three step processes.

  millrace-bench [-quick] [-sizes LIST] [-cases LIST] [-data FILE] [-out DIR]

Exit codes: 0 done, 1 failed, 2 wrong usage.

`

// quickLargest is the largest size of a quick benchmark, bytes: JSON alone
// would take a minute for the next.
const quickLargest = 64 << 20

func main() {
	child.Main()
	subject.Main()
	os.Exit(run())
}

// options are the parsed flags.
type options struct {
	quick            bool
	sizes, cases     string
	dataFile, outDir string
}

func run() int {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "take under two minutes: fewer runs, and nothing above 64 MB unless -sizes asks for it")
	flag.StringVar(&o.sizes, "sizes", "", "sizes of the state, separated by commas (default 1KB,64KB,1MB,16MB,64MB,256MB)")
	flag.StringVar(&o.cases, "cases", "", "names of the cases, separated by commas (default all)")
	flag.StringVar(&o.dataFile, "data", "data/flights-200k.json", "records to build the states from; generated where the file is missing")
	flag.StringVar(&o.outDir, "out", "", "folder to write results.json, results.txt and the plots to (default none)")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	cfg, err := o.config()
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "millrace-bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.measure(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "millrace-bench:", err)
		return 1
	}
	return 0
}

// config checks the flags; its error is the user's.
func (o *options) config() (bench.Config, error) {
	cfg := bench.Config{Quick: o.quick}
	for _, size := range bench.DefaultSizes {
		if !o.quick || size <= quickLargest {
			cfg.Sizes = append(cfg.Sizes, size)
		}
	}
	var err error
	if o.sizes != "" {
		if cfg.Sizes, err = parseSizes(o.sizes); err != nil {
			return cfg, err
		}
	}
	chosen := allCases()
	if err = chosen.pick(o.cases); err != nil {
		return cfg, err
	}
	cfg.Cases, cfg.Pings, cfg.Figures = chosen.cases, chosen.pings, chosen.figures
	cfg.Records, cfg.Data, err = workload.LoadRecords(o.dataFile)
	return cfg, err
}

func (o *options) measure(ctx context.Context, cfg bench.Config) error {
	p := newProgress()
	cfg.Progress = p.show
	result, err := bench.Run(ctx, cfg)
	p.done()
	if err != nil {
		return err
	}
	if err := report.Table(os.Stdout, result); err != nil {
		return err
	}
	if o.outDir == "" {
		return nil
	}
	return report.Files(o.outDir, result)
}
