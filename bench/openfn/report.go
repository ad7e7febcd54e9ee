package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// report is the table: a row for each measure.
type report struct {
	rows [][]string
}

func newReport() *report {
	return &report{rows: [][]string{{"measure", "millrace", "one process", "forked worker", "× one", "× worker", "target", "met"}}}
}

// row adds a measure for which less is better. ok says whether its target is
// met; target may be empty.
func (r *report) row(name string, show func(float64) string, ours, one, host float64, target string, ok bool) {
	met := map[bool]string{true: "yes", false: "NO"}[ok]
	if target == "" {
		met = ""
	}
	r.rows = append(r.rows, []string{name, show(ours), show(one), show(host), ratio(one, ours), ratio(host, ours), target, met})
}

func (r *report) add(t task, ours, one, host *figures) {
	a, wa := ours.medians()
	b, wb := one.medians()
	c, wc := host.medians()
	pa, pb, pc := float64(ours.Peak), float64(one.Peak), float64(host.Peak)
	if t.big {
		r.row(t.name+": wall", duration, wa, wb, wc, "≤ one, ≤ ½ worker", wa <= wb && wa <= wc/2)
		r.row("  hand-over, median", duration, a, b, c, "", false)
		r.row("  peak memory", size, pa, pb, pc, "≤ ½ worker", pa <= pc/2)
	} else {
		r.row(t.name+": hand-over, median", duration, a, b, c, "≤ 1 ms, 20 ×, 100 ×", a <= 1e6 && b >= 20*a && c >= 100*a)
		r.row("  wall", duration, wa, wb, wc, "", false)
		r.row("  peak memory", size, pa, pb, pc, "≤ ¼ worker", pa <= pc/4)
	}
	r.rows = append(r.rows, []string{"  supervisor above idle", size(float64(ours.Supervisor)), "", "", "", "", "≤ 40 MB", map[bool]string{true: "yes", false: "NO"}[ours.Supervisor <= 40e6]})
}

func (r *report) small(n, length int, all []float64) {
	m := median(all)
	r.rows = append(r.rows, []string{fmt.Sprintf("%d small steps in lines of %d: overhead a step, median", n, length), duration(m), "", "", "", "", "≤ 150 µs", map[bool]string{true: "yes", false: "NO"}[m <= 150e3]})
}

func (r *report) first(all []float64) {
	m := median(all)
	r.rows = append(r.rows, []string{"first step's start, warm pool, median", duration(m), "", "", "", "", "≤ 15 ms", map[bool]string{true: "yes", false: "NO"}[m <= 15e6]})
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

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func duration(ns float64) string {
	switch {
	case ns < 1e6:
		return fmt.Sprintf("%.0f µs", ns/1e3)
	case ns < 1e9:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	}
	return fmt.Sprintf("%.2f s", ns/1e9)
}

func size(b float64) string { return fmt.Sprintf("%.0f MB", b/1e6) }

func ratio(theirs, ours float64) string {
	if ours <= 0 {
		return "—"
	}
	return fmt.Sprintf("%.1f", theirs/ours)
}
