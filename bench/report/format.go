package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/millrace/millrace/bench"
)

// duration writes nanoseconds with three significant digits.
func duration(ns float64) string {
	switch {
	case ns == 0:
		return "–"
	case ns >= 999.5e6:
		return digits(ns/1e9) + " s"
	case ns >= 999.5e3:
		return digits(ns/1e6) + " ms"
	case ns >= 999.5:
		return digits(ns/1e3) + " µs"
	}
	return digits(ns) + " ns"
}

// digits writes three significant digits without an exponent.
func digits(v float64) string {
	decimals := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	if v == 0 || decimals <= 0 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	text := strconv.FormatFloat(v, 'f', min(decimals, 3), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// ratio writes how many times faster or smaller v is than base: above one is
// better.
func ratio(base, v float64) string {
	if base <= 0 || v <= 0 {
		return "–"
	}
	if r := base / v; r >= 10_000 {
		return count(r) + "×"
	}
	return digits(base/v) + "×"
}

// count writes a number of things, rounded.
func count(v float64) string {
	switch {
	case v >= 1e6:
		return digits(v/1e6) + "M"
	case v >= 1e4:
		return digits(v/1e3) + "k"
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

func size(bytes float64) string {
	if bytes >= 1<<30 {
		return digits(bytes/(1<<30)) + " GB"
	}
	if bytes >= 1<<20 {
		return count(math.Round(bytes/(1<<20))) + " MB"
	}
	return bench.FormatSize(int(bytes))
}

// figure writes a value in its unit.
func figure(unit bench.Unit, v float64) string {
	switch unit {
	case bench.Nanoseconds:
		return duration(v)
	case bench.Bytes:
		return size(v)
	case bench.Times:
		return digits(v) + "×"
	case bench.PerSecond:
		return count(v) + "/s"
	case bench.Cores:
		return fmt.Sprintf("%.2f %%", v*100)
	}
	return digits(v) + " " + string(unit)
}

func spread(p10, p90 float64) string {
	if p10 == 0 && p90 == 0 {
		return "–"
	}
	low, high := duration(p10), duration(p90)
	lowNumber, lowUnit, _ := strings.Cut(low, " ")
	if _, highUnit, _ := strings.Cut(high, " "); lowUnit == highUnit {
		low = lowNumber
	}
	return fmt.Sprintf("%s–%s", low, high)
}
