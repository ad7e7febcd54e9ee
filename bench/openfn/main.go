// Command openfn measures OpenFn workflows on millrace against the npm package
// @openfn/runtime, in one process and behind the hops of OpenFn's own worker,
// and prints a table with ratios.
//
//	go run ./bench/openfn [-quick]
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench/openfn: ")
	quick := flag.Bool("quick", false, "smaller states and fewer rounds: under 90 seconds")
	root := flag.String("root", ".", "the repository's folder")
	flag.Parse()
	if err := run(*root, *quick); err != nil {
		log.Fatal(err)
	}
}

func run(root string, quick bool) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "millrace-bench-openfn-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p := peers{
		folder:  filepath.Join(root, "bench/openfn/peer"),
		runtime: filepath.Join(root, "engine/differential/node_modules/@openfn/runtime/dist/index.js"),
		worker:  filepath.Join(root, "worker/node/bin/millrace-node-worker.js"),
	}
	if err := install(filepath.Join(root, "engine/differential"), p.runtime); err != nil {
		return err
	}
	large, calls, rounds := int64(100e6), 10_000, 20
	if quick {
		large, calls, rounds = 30e6, 2_000, 5
	}
	tasks, err := p.tasks(dir, large)
	if err != nil {
		return err
	}
	report := newReport()
	for _, t := range tasks {
		ours, err := p.millrace(t, rounds)
		if err != nil {
			return fmt.Errorf("millrace, %s: %w", t.name, err)
		}
		one, err := p.baseline("one.mjs", t)
		if err != nil {
			return fmt.Errorf("one process, %s: %w", t.name, err)
		}
		host, err := p.baseline("host.mjs", t)
		if err != nil {
			return fmt.Errorf("forked worker, %s: %w", t.name, err)
		}
		report.add(t, ours, one, host)
	}
	for _, length := range []int{calls / 100, calls} {
		small, err := p.small(dir, calls, length)
		if err != nil {
			return err
		}
		report.small(calls, length, small)
	}
	first, err := p.first(dir, rounds)
	if err != nil {
		return err
	}
	report.first(first)
	report.print(os.Stdout)
	return nil
}

// tasks writes the plans and states of the comparisons.
func (p *peers) tasks(dir string, large int64) ([]task, error) {
	stamp := filepath.Join(p.folder, "stamp")
	touching, err := writePlan(dir, "touch", planOf(touch, 3, stamp))
	if err != nil {
		return nil, err
	}
	changing, err := writePlan(dir, "change", planOf(change, 3, stamp))
	if err != nil {
		return nil, err
	}
	state := func(size int64) (string, error) {
		path := filepath.Join(dir, fmt.Sprintf("state-%d.json", size))
		return path, writeState(path, size)
	}
	ten, err := state(10e6)
	if err != nil {
		return nil, err
	}
	hundred, err := state(large)
	if err != nil {
		return nil, err
	}
	mb := large / 1e6
	return []task{
		{name: "touch a small key beside 10 MB", plan: touching, state: ten},
		{name: fmt.Sprintf("touch a small key beside %d MB", mb), plan: touching, state: hundred},
		{name: fmt.Sprintf("change %d MB in every step", mb), plan: changing, state: hundred, big: true},
	}, nil
}

// install makes sure that the reference is there.
func install(dir, entry string) error {
	if _, err := os.Stat(entry); err == nil {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("npm ci in %s: %w", dir, err)
	}
	return nil
}
