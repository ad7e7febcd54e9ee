package condition

import "time"

const (
	// DefaultTime is the time that an evaluation may take, besides scanning.
	DefaultTime = 500 * time.Millisecond
	// DefaultText is the number of bytes of strings, numbers and keys that an
	// evaluation may build from the state, and of the longest of them.
	DefaultText = 64 << 20
	// DefaultItems is the number of members of an object that can be listed,
	// and of elements of an array that can be changed.
	DefaultItems = 1 << 18
	// DefaultMemory is by how many bytes the live heap may grow.
	DefaultMemory = 128 << 20

	// MaxExpression is the length of a condition in bytes. It also bounds how
	// deep the parser recurses.
	MaxExpression = 16 << 10

	// scanRate is what scanning adds to the time limit: a second for so many
	// bytes, counting no byte of the state more than scanPasses times.
	scanRate   = 256 << 20
	scanPasses = 4

	pollEvery    = 5 * time.Millisecond
	grace        = 100 * time.Millisecond
	maxCallStack = 1000
	maxCached    = 1 << 16 // objects and arrays kept for an array's elements
)

// Limits bound an evaluation. Zero or less means the default.
type Limits struct {
	Time   time.Duration
	Text   int64
	Items  int
	Memory int64
}

func (l Limits) withDefaults() Limits {
	l.Time = orDefault(l.Time, DefaultTime)
	l.Text = orDefault(l.Text, DefaultText)
	l.Items = orDefault(l.Items, DefaultItems)
	l.Memory = orDefault(l.Memory, DefaultMemory)
	return l
}

func orDefault[T int | int64 | time.Duration](n, standard T) T {
	if n <= 0 {
		return standard
	}
	return n
}
