package bench

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultSizes are the payload sizes, in bytes, that the full benchmark runs.
var DefaultSizes = []int{1 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20, 256 << 20}

var units = []struct {
	name string
	size int
}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}}

// FormatSize writes a number of bytes in the largest binary unit that keeps it
// at one or above, with at most one decimal.
func FormatSize(bytes int) string {
	for _, u := range units {
		if bytes >= u.size {
			text := strconv.FormatFloat(float64(bytes)/float64(u.size), 'f', 1, 64)
			return strings.TrimSuffix(text, ".0") + " " + u.name
		}
	}
	return strconv.Itoa(bytes) + " B"
}

// ParseSize reads "64MB", "64 MB", "64M" or a plain number of bytes.
func ParseSize(text string) (int, error) {
	s := strings.ToUpper(strings.TrimSpace(text))
	factor := 1
	for _, u := range units {
		if rest, ok := cutUnit(s, u.name); ok {
			s, factor = rest, u.size
			break
		}
	}
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n <= 0 || n > (1<<40)/factor {
		return 0, fmt.Errorf("size %q: want a positive number with KB, MB or GB, such as 64MB", text)
	}
	return n * factor, nil
}

func cutUnit(s, unit string) (string, bool) {
	if rest, ok := strings.CutSuffix(s, unit); ok {
		return rest, true
	}
	return strings.CutSuffix(s, unit[:1])
}
