package arrowipc

import (
	"errors"
	"fmt"
)

// ErrNoRecord is returned, wrapped, for a record index outside the stream.
var ErrNoRecord = errors.New("arrowipc: no such record")

// ErrClosed is returned by a Reader that was closed.
var ErrClosed = errors.New("arrowipc: reader is closed")

// A FormatError says that the bytes are not a valid Arrow stream or file, or
// use something this package refuses.
type FormatError struct {
	// Offset is where it was found, in bytes from the start of the slice given
	// to NewReader.
	Offset int64
	// Msg says what is wrong, with the column where there is one.
	Msg string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("arrowipc: invalid Arrow data at byte %d: %s", e.Offset, e.Msg)
}

// A LimitError says that the bytes may be valid, but ask for more than is
// allowed.
type LimitError struct {
	Offset int64  // as in FormatError
	What   string // what is too large, and what raises the limit
	Size   int64  // asked for
	Limit  int64  // allowed
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("arrowipc: at byte %d: %s: %d is over the limit of %d", e.Offset, e.What, e.Size, e.Limit)
}

func formatErrorf(at int64, format string, args ...any) *FormatError {
	return &FormatError{Offset: at, Msg: fmt.Sprintf(format, args...)}
}

// guard turns a panic of arrow's constructors, which is how they refuse bad
// data, into an error about the message at the given offset.
func guard(at int64, err *error) {
	if p := recover(); p != nil {
		*err = formatErrorf(at, "arrow refuses it: %v", p)
	}
}

// noMessage is the error where a message of some kind must be: err, if reading
// it gave one.
func noMessage(at int64, err error) error {
	if err != nil {
		return err
	}
	return formatErrorf(at, "not the expected message: the file's footer is wrong, or the bytes changed")
}
