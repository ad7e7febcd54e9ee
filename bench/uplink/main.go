// Command uplink measures the way of states out of the host: a dataclip through
// the Phoenix client, a payload through the raw socket uplink, and runs of a
// `millrace serve` process whose server is a process too. Every figure has a
// baseline of the same run. It prints a table and writes it to bench/results.
//
//	go run ./bench/uplink [-quick] [-only upload,raw,runs,many,logs]
//
// The program is started again as its own children. See README.md for the method.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/bench/child"
)

func main() {
	child.Main()
	log.SetFlags(0)
	log.SetPrefix("bench/uplink: ")
	var b suite
	only := flag.String("only", "", "measure only these, of upload,raw,runs,many,logs")
	out := flag.String("out", "", "folder for uplink.txt and uplink.json; empty: none")
	flag.BoolVar(&b.quick, "quick", false, "smaller payloads and fewer rounds: under two minutes")
	flag.StringVar(&b.root, "root", ".", "the repository's folder")
	flag.Parse()
	begin := time.Now()
	if err := b.run(*only); err != nil {
		log.Fatal(err)
	}
	b.report.Took = time.Since(begin).Round(time.Second).String()
	if err := b.report.print(os.Stdout); err != nil {
		log.Fatal(err)
	}
	if *out != "" {
		if err := b.report.save(*out); err != nil {
			log.Fatal(err)
		}
	}
}

type suite struct {
	quick    bool
	root     string
	dir      string // for this run's files
	millrace string // the built command
	report   *report
}

func (b *suite) run(only string) (err error) {
	if b.root, err = filepath.Abs(b.root); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "millrace-bench-uplink-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.report = newReport()
	for _, part := range []struct {
		name string
		run  func() error
	}{{"upload", b.upload}, {"raw", b.raw}, {"runs", b.runs}, {"many", b.many}, {"logs", b.logs}} {
		if only != "" && !strings.Contains(","+only+",", ","+part.name+",") {
			continue
		}
		log.Printf("measuring %s", part.name)
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// build builds the command, once.
func (b *suite) build() error {
	if b.millrace != "" {
		return nil
	}
	path := filepath.Join(b.dir, "millrace")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/millrace")
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building millrace: %w\n%s", err, out)
	}
	b.millrace = path
	return nil
}

// pick is a number for the whole benchmark, or for the quick one.
func (b *suite) pick(whole, quick int) int {
	if b.quick {
		return quick
	}
	return whole
}
