package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/millrace/millrace/bench/measure"
)

// report is the table: a row for each measure.
type report struct{ rows [][]string }

func newReport() *report {
	return &report{rows: [][]string{{"measure", "result", "", "target", "met"}}}
}

func (r *report) section(name string) { r.rows = append(r.rows, []string{name, "", "", "", ""}) }

// row adds a measure; without a target nothing is to be met.
func (r *report) row(name, result, note, target string, ok bool) {
	met := ""
	if target != "" {
		met = map[bool]string{true: "yes", false: "NO"}[ok]
	}
	r.rows = append(r.rows, []string{"  " + name, result, note, target, met})
}

func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.rows {
		for _, cell := range row {
			fmt.Fprintf(t, "%s\t", cell)
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // the table is for a person's terminal
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
