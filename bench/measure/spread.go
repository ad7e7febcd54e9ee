package measure

import (
	"math"
	"slices"
)

// Spread is a sample's median with the tenth and ninetieth percentile around
// it.
type Spread struct {
	Median float64 `json:"median"`
	P10    float64 `json:"p10"`
	P90    float64 `json:"p90"`
}

// SpreadOf summarises the samples; it is zero when there are none. The
// samples are sorted in place.
func SpreadOf(samples []float64) Spread {
	if len(samples) == 0 {
		return Spread{}
	}
	slices.Sort(samples)
	return Spread{Median: Quantile(samples, 0.5), P10: Quantile(samples, 0.1), P90: Quantile(samples, 0.9)}
}

// Quantile returns the q-th quantile, 0 to 1, of a sorted, non-empty sample,
// interpolating between neighbours.
func Quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}
