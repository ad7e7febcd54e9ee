package bench

import (
	"slices"

	"github.com/millrace/millrace/bench/measure"
)

// How many times the payload's size a case needs, as long as no smaller size
// has shown it: the baseline decodes into heaps, the others hold buffers.
const (
	baselineGuess = 48
	otherGuess    = 9
)

// tellingSize is the smallest payload, in bytes, from which a larger one's
// memory can be told: below, the processes themselves outweigh it.
const tellingSize = 16 << 20

// fitting returns the cases that fit into the machine's memory together, since
// swapping would be measured otherwise. The hungriest are left out first, with
// a note.
func (h *harness) fitting(size int) []Case {
	free, err := measure.Available()
	if err != nil {
		h.note("available memory is unknown: %v", err)
		return h.Cases
	}
	free = free / 10 * 9
	cases := slices.Clone(h.Cases)
	for {
		var sum, most int64
		hungriest := -1
		for i, c := range cases {
			need := h.estimate(c.Info(), size)
			if sum += need; need > most {
				hungriest, most = i, need
			}
		}
		if sum <= free || hungriest < 0 {
			return cases
		}
		h.note("%s left out at %s: it would need about %s, and all cases together have %s",
			cases[hungriest].Info().Title, FormatSize(size), FormatSize(int(most)), FormatSize(int(free)))
		cases = slices.Delete(cases, hungriest, hungriest+1)
	}
}

// estimate returns the bytes that a case will need at a size: scaled from the
// largest size that it was measured at.
func (h *harness) estimate(c Info, size int) int64 {
	need := int64(otherGuess) * int64(size)
	if c.Role == Baseline {
		need = baselineGuess * int64(size)
	}
	largest := tellingSize
	for _, p := range h.result.Points {
		if p.Case == c.Name && p.Size >= largest {
			largest = p.Size
			need = int64(float64(p.PeakBytes) * float64(size) / float64(p.Size))
		}
	}
	return need
}
