package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/millrace/millrace/bench"
)

// legend explains the columns.
const legend = `Three steps in a chain, each a process; see bench/README.md for the definitions.
run: median wall time of one run, with its 10th to 90th percentile. × base and × peer: how many times
faster than the baseline, and than the fastest peer (above 1 is better). hand-over: from one step's code
ending to the next one's beginning, median and percentiles. CPU: user and system of all processes, one
run. peak: memory of all processes, shared pages counted once. allocs: heap allocations of one run.
`

// Table writes the result for a terminal.
func Table(w io.Writer, r *bench.Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s · %d cores · %s · Linux %s · %s\n", r.Machine.CPU, r.Machine.Cores,
		bench.FormatSize(int(r.Machine.MemoryBytes)), r.Machine.Kernel, r.Machine.Go)
	fmt.Fprintf(&b, "Data: %s\n\n%s", r.Data, legend)
	for _, size := range r.Sizes {
		pointsTable(&b, r, size)
	}
	roundTripsTable(&b, r)
	figuresTable(&b, r)
	targetsTable(&b, r)
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", n)
	}
	fmt.Fprintf(&b, "Took %s.\n", r.Elapsed.Round(time.Second))
	_, err := io.WriteString(w, b.String())
	return err
}

func pointsTable(b *strings.Builder, r *bench.Result, bytes int) {
	rows := [][]string{{bench.FormatSize(bytes), "run", "p10–p90", "× base", "× peer", "hand-over", "p10–p90", "CPU", "peak", "allocs", "runs"}}
	base, best := r.Point(r.BaselineName(), bytes), r.BestPeer(bytes)
	for _, c := range r.Cases {
		p := r.Point(c.Name, bytes)
		if p == nil {
			continue
		}
		rows = append(rows, []string{
			c.Title, duration(p.Wall.Median), spread(p.Wall.P10, p.Wall.P90), wallRatio(base, p), wallRatio(best, p),
			duration(p.Handover.Median), spread(p.Handover.P10, p.Handover.P90), duration(p.CPU.Median),
			size(float64(p.PeakBytes)), count(p.Mallocs) + " / " + size(p.AllocBytes), count(float64(p.Runs)),
		})
	}
	if len(rows) > 1 {
		b.WriteByte('\n')
		align(b, rows)
	}
}

func wallRatio(base, p *bench.Point) string {
	if base == nil {
		return "–"
	}
	return ratio(base.Wall.Median, p.Wall.Median)
}

func roundTripsTable(b *strings.Builder, r *bench.Result) {
	if len(r.RoundTrips) == 0 {
		return
	}
	rows := [][]string{{"empty step, round trip", "busy", "p10–p90", "× base", "idle", "p10–p90", "× base", "CPU at rest"}}
	var base *bench.RoundTrip
	for i := range r.RoundTrips {
		if r.RoundTrips[i].Info.Role == bench.Baseline {
			base = &r.RoundTrips[i]
			break
		}
	}
	for _, t := range r.RoundTrips {
		busy, idle := "–", "–"
		if base != nil {
			busy, idle = ratio(base.Busy.Median, t.Busy.Median), ratio(base.Idle.Median, t.Idle.Median)
		}
		rows = append(rows, []string{
			t.Info.Title, duration(t.Busy.Median), spread(t.Busy.P10, t.Busy.P90), busy,
			duration(t.Idle.Median), spread(t.Idle.P10, t.Idle.P90), idle, fmt.Sprintf("%.2f %%", t.Resting*100),
		})
	}
	b.WriteByte('\n')
	align(b, rows)
	fmt.Fprintf(b, "idle: after a pause of %s. CPU at rest: of one core, while nothing is asked.\n\n", r.RoundTrips[0].Pause)
}

func figuresTable(b *strings.Builder, r *bench.Result) {
	rows := [][]string{{"further figures", "median", "p10–p90"}}
	for _, f := range r.Figures {
		low, high := figure(f.Unit, f.Spread.P10), figure(f.Unit, f.Spread.P90)
		between := low + "–" + high
		if f.Spread.P10 == 0 && f.Spread.P90 == 0 {
			between = "–"
		}
		rows = append(rows, []string{f.Title, figure(f.Unit, f.Spread.Median), between})
	}
	if len(rows) > 1 {
		align(b, rows)
		b.WriteByte('\n')
	}
}

func targetsTable(b *strings.Builder, r *bench.Result) {
	rows := [][]string{{"targets", "measured", "wanted", ""}}
	for _, f := range r.Targets() {
		wanted, verdict := "≤ ", "met"
		if f.AtLeast {
			wanted = "≥ "
		}
		if !f.Met() {
			verdict = "MISSED"
		}
		rows = append(rows, []string{f.Title, figure(f.Unit, f.Spread.Median), wanted + figure(f.Unit, f.Limit), verdict})
	}
	if len(rows) > 1 {
		align(b, rows)
		b.WriteByte('\n')
	}
}

// align writes the rows in columns, the first to the left and the others to the
// right, with a rule below the head.
func align(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				b.WriteString(cell + pad)
			} else {
				b.WriteString("  " + pad + cell)
			}
		}
		b.WriteByte('\n')
		if n == 0 {
			total := 2 * (len(widths) - 1)
			for _, w := range widths {
				total += w
			}
			b.WriteString(strings.Repeat("─", total) + "\n")
		}
	}
}
