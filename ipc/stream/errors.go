package stream

import "fmt"

// BreachError is what the other end, or who made the ring, did against its
// rules. The stream is of no further use.
type BreachError struct {
	// Msg says what was found.
	Msg string
}

// Error implements error.
func (e *BreachError) Error() string { return "the other end of the stream broke its rules: " + e.Msg }

func breachf(format string, args ...any) error {
	return &BreachError{Msg: fmt.Sprintf(format, args...)}
}

// ItemSizeError is an item that the ring is too small for: it takes at most
// half of the capacity. Nothing was written.
type ItemSizeError struct {
	Size, Limit int
}

// Error implements error.
func (e *ItemSizeError) Error() string {
	return fmt.Sprintf("an item of %d bytes is over the stream's limit of %d: write smaller items, or give the stream a larger capacity", e.Size, e.Limit)
}
