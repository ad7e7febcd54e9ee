package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/measure"
)

// report is the table: sections of measures.
type report struct {
	Machine  bench.Machine `json:"machine"`
	Sections []*section    `json:"sections"`
}

type section struct {
	Name string `json:"name"`
	Rows []row  `json:"rows"`
}

// row is one measure, as it is printed.
type row struct {
	Name   string `json:"name"`
	Result string `json:"result"`
	Note   string `json:"note,omitempty"` // a spread, or what it is compared with
	Target string `json:"target,omitempty"`
	Met    *bool  `json:"met,omitempty"` // with a target
}

func newReport() *report { return &report{Machine: bench.ThisMachine()} }

func (r *report) section(name string) { r.Sections = append(r.Sections, &section{Name: name}) }

// row adds a measure to the last section; without a target nothing is to be met.
func (r *report) row(name, result, note, target string, ok bool) {
	m := row{Name: name, Result: result, Note: note, Target: target}
	if target != "" {
		m.Met = &ok
	}
	s := r.Sections[len(r.Sections)-1]
	s.Rows = append(s.Rows, m)
}

func (r *report) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%s · %d cores · %.1f GB · %s · %s\n\n", m.CPU, m.Cores, float64(m.MemoryBytes)/1e9, m.Kernel, m.Go)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tresult\t\ttarget\tmet\t")
	for _, s := range r.Sections {
		fmt.Fprintf(t, "%s\t\t\t\t\t\n", s.Name)
		for _, m := range s.Rows {
			met := ""
			if m.Met != nil {
				met = map[bool]string{true: "yes", false: "NO"}[*m.Met]
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t\n", m.Name, m.Result, m.Note, m.Target, met)
		}
	}
	return t.Flush()
}

// files writes flow.txt and flow.json into a folder.
func (r *report) files(dir string) error {
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "flow.txt"), table.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "flow.json"), append(data, '\n'), 0o644))
}

func spread(s measure.Spread) string {
	return fmt.Sprintf("%s to %s", duration(s.P10), duration(s.P90))
}

func duration(ns float64) string {
	switch {
	case ns < 10e3:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	}
	return fmt.Sprintf("%.1f ms", ns/1e6)
}

func size(bytes float64) string {
	switch {
	case bytes < 1e6:
		return fmt.Sprintf("%.0f kB", bytes/1e3)
	case bytes < 1e9:
		return fmt.Sprintf("%.1f MB", bytes/1e6)
	}
	return fmt.Sprintf("%.2f GB", bytes/1e9)
}
