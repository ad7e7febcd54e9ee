package plan

import (
	"fmt"
	"strings"
)

// suggester finds what a misspelt word was probably meant to be. It answers a
// bounded number of questions: with thousands of unknown words against
// thousands of candidates nobody reads the answers.
type suggester struct{ asked int }

const (
	maxSuggestions   = 100
	maxSuggestLength = 64
)

// hint is `did you mean "x"?`, or empty when nothing comes close.
func (s *suggester) hint(word string, candidates []string) string {
	if s.asked++; s.asked > maxSuggestions || len(word) > maxSuggestLength {
		return ""
	}
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if len(c) > maxSuggestLength {
			continue
		}
		d := distance(fold(word), fold(c))
		if d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// fold makes dropKeys, drop-keys and drop_keys the same.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make b of a.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	older, old, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range old {
		old[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, old, row = old, row, older
	}
	return old[len(y)]
}
