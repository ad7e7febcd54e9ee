package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/bench/measure"
)

// report is all that was measured.
type report struct {
	Machine bench.Machine `json:"machine"`
	Took    string        `json:"took"`
	Rows    []row         `json:"rows"`
}

// row is one measure. Times are in nanoseconds, sizes in bytes.
type row struct {
	Section string          `json:"section"`
	Name    string          `json:"name"`
	Unit    string          `json:"unit"` // time, bytes, ratio or count
	Value   measure.Spread  `json:"value"`
	Base    *measure.Spread `json:"base,omitempty"`
	// Ratio is that of value to base, pair by pair of the same round.
	Ratio  *measure.Spread `json:"ratio,omitempty"`
	Note   string          `json:"note,omitempty"`
	Target string          `json:"target,omitempty"`
	Met    *bool           `json:"met,omitempty"`
}

func newReport() *report { return &report{Machine: bench.ThisMachine()} }

// add adds a row and returns it, for a target.
func (r *report) add(section, name, unit string, values []float64) *row {
	r.Rows = append(r.Rows, row{Section: section, Name: name, Unit: unit, Value: spreadOf(values)})
	return &r.Rows[len(r.Rows)-1]
}

// against sets the baseline: base has a figure for each of values, taken in the
// same round.
func (r *row) against(values, base []float64) *row {
	ratios := make([]float64, min(len(values), len(base)))
	for i := range ratios {
		ratios[i] = values[i] / base[i]
	}
	b, q := spreadOf(base), spreadOf(ratios)
	r.Base, r.Ratio = &b, &q
	return r
}

func (r *row) target(text string, met bool) *row {
	r.Target, r.Met = text, &met
	return r
}

// atMost says that the ratio's median may not be above limit.
func (r *row) atMost(limit float64) *row {
	return r.target(fmt.Sprintf("≤ %.4g ×", limit), r.Ratio.Median <= limit)
}

// spreadOf is measure.SpreadOf without sorting the caller's samples, which are
// in the order of their rounds.
func spreadOf(values []float64) measure.Spread {
	return measure.SpreadOf(append([]float64(nil), values...))
}

func (r *report) print(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%s · %d cores · %.1f GB · Linux %s · %s\n", m.CPU, m.Cores, float64(m.MemoryBytes)/(1<<30), m.Kernel, m.Go)
	fmt.Fprintf(w, "Medians, with 10th to 90th percentile; × is the ratio to the baseline, round by round. See bench/uplink/README.md.\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := ""
	for _, row := range r.Rows {
		if row.Section != section {
			section = row.Section
			fmt.Fprintf(t, "\n%s\tmillrace\t\tbaseline\t×\t\ttarget\tmet\n", section)
		}
		base, ratio, ratios, met := "", "", "", ""
		if row.Base != nil {
			base = show(row.Base.Median, row.Unit)
			ratio = fmt.Sprintf("%.3g", row.Ratio.Median)
			ratios = fmt.Sprintf("%.3g–%.3g", row.Ratio.P10, row.Ratio.P90)
		}
		if row.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*row.Met]
		}
		spread := ""
		if row.Value.P10 != row.Value.P90 {
			spread = show(row.Value.P10, row.Unit) + "–" + show(row.Value.P90, row.Unit)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Name, show(row.Value.Median, row.Unit), spread, base, ratio, ratios, row.Target, met)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nTook %s.\n", r.Took)
	return err
}

func (r *report) save(dir string) error {
	text, err := os.Create(filepath.Join(dir, "uplink.txt"))
	if err != nil {
		return err
	}
	defer text.Close()
	if err := r.print(text); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "uplink.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return text.Close()
}

// The units of rows.
const (
	inTime  = "time"
	inBytes = "bytes"
	inRatio = "ratio"
	inCount = "count"
)

func show(v float64, unit string) string {
	switch unit {
	case inTime:
		switch {
		case v < 1e6:
			return fmt.Sprintf("%.0f µs", v/1e3)
		case v < 1e9:
			return fmt.Sprintf("%.0f ms", v/1e6)
		}
		return fmt.Sprintf("%.2f s", v/1e9)
	case inBytes:
		if v < 10e6 {
			return fmt.Sprintf("%.2f MB", v/1e6)
		}
		return fmt.Sprintf("%.0f MB", v/1e6)
	case inRatio:
		return fmt.Sprintf("%.3g ×", v)
	}
	return fmt.Sprintf("%.0f", v)
}
