// Command flow measures calls, fan-out, streams and demand: records in pages
// through two steps a page, a call's round trip, the items of streams, and shard
// builders under limits. It prints a table with ratios, all of one run.
//
//	go run ./bench/flow [-quick] [-data data]
//
// The program is its own worker. See README.md for the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/worker"
)

// asWorker is the argument with which the program is started as a worker.
const asWorker = "worker"

func main() {
	if len(os.Args) > 1 && os.Args[1] == asWorker {
		worker.Main(functions)
		return
	}
	log.SetFlags(0)
	log.SetPrefix("bench/flow: ")
	if len(os.Args) == 5 && os.Args[1] == asPipe {
		if err := pipeEnd(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			log.Fatal(err)
		}
		return
	}
	quick := flag.Bool("quick", false, "fewer records, calls and snapshots: under a minute")
	only := flag.String("only", "", "measure only these, of pages,calls,streams,builders")
	data := flag.String("data", "data", "the folder that make data fills")
	root := flag.String("root", ".", "the repository's folder")
	out := flag.String("out", "", "a folder for flow.txt and flow.json")
	flag.Parse()
	b := &flow{quick: *quick, data: *data, root: *root, report: newReport()}
	if err := b.run(*only); err != nil {
		log.Fatal(err)
	}
	err := b.report.print(os.Stdout)
	if *out != "" {
		err = errors.Join(err, b.report.files(*out))
	}
	if err != nil {
		log.Fatal(err)
	}
}

type flow struct {
	quick      bool
	data, root string
	self       string
	report     *report
}

func (b *flow) run(only string) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func() error
	}{{"pages", b.pages}, {"calls", b.calls}, {"streams", b.streams}, {"builders", b.builders}} {
		if only != "" && !strings.Contains(","+only+",", ","+part.name+",") {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// step is a step of this program.
func (b *flow) step(function string, configuration string) *plan.Step {
	s := &plan.Step{ID: function, Worker: &plan.Worker{Argv: []string{b.self, asWorker}, Function: function}}
	if configuration != "" {
		s.Configuration = []byte(configuration)
	}
	return s
}

func (b *flow) engine(o engine.Options) (*engine.Engine, error) {
	root, err := filepath.Abs(b.root)
	if err != nil {
		return nil, err
	}
	o.NodeExecutor = []string{filepath.Join(root, "worker/node/bin/millrace-node-worker.js")}
	return engine.New(o)
}

// once runs a plan to its end, and hands the run to look before it is closed.
func once(eng *engine.Engine, p *plan.Plan, input string, look func(*engine.Run, *engine.Result) error) error {
	ctx := context.Background()
	run, err := eng.Submit(ctx, p, engine.FromBytes([]byte(input)), engine.RunOptions{})
	if err != nil {
		return err
	}
	defer run.Close()
	res, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	if res.Err != nil {
		return res.Err
	}
	return look(run, res)
}
