package standin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// window is the size of the buffer that messages pass through.
const window = 64 << 10

// maxKept is the largest value in bytes, other than a dataclip, that is held in
// memory.
const maxKept = 64 << 20

// scanner reads one message piece by piece: every byte goes once through a
// validator of the whole, and to whoever asked for the value that it is in.
type scanner struct {
	r     *bufio.Reader
	check jsonscan.Validator
	tap   func([]byte)
	sum   uint32 // of what was read since sum was reset
	read  int64
}

func newScanner(r io.Reader, tap func([]byte)) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, window), tap: tap}
}

// take consumes n buffered bytes.
func (s *scanner) take(n int) error {
	b, err := s.r.Peek(n)
	if err != nil {
		return err
	}
	if err := s.check.Feed(b); err != nil {
		return &notJSONError{err}
	}
	s.sum = crc32.Update(s.sum, crc32.IEEETable, b)
	if s.tap != nil {
		s.tap(b)
	}
	s.read += int64(n)
	_, err = s.r.Discard(n)
	return err
}

// buffered returns at least one byte, or why there is none.
func (s *scanner) buffered() ([]byte, error) {
	if _, err := s.r.Peek(1); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return s.r.Peek(s.r.Buffered())
}

// next skips white space and returns the next byte, which stays unread.
func (s *scanner) next() (byte, error) {
	for {
		b, err := s.buffered()
		if err != nil {
			return 0, err
		}
		i := 0
		for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
			i++
		}
		if i < len(b) {
			c := b[i]
			return c, s.take(i)
		}
		if err := s.take(i); err != nil {
			return 0, err
		}
	}
}

// expect consumes one byte, which must be c.
func (s *scanner) expect(c byte) error {
	got, err := s.next()
	if err != nil {
		return err
	}
	if got != c {
		return &notJSONError{fmt.Errorf("%q where %q was expected, at byte %d", got, c, s.read)}
	}
	return s.take(1)
}

// value passes the text of the next value to to, in pieces that are valid
// during the call.
func (s *scanner) value(to func([]byte) error) error {
	c, err := s.next()
	if err != nil {
		return err
	}
	switch c {
	case '{', '[':
		return s.until(to, container())
	case '"':
		return s.until(to, quoted())
	}
	return s.until(to, scalar())
}

// until consumes pieces up to where end says that the value ends.
func (s *scanner) until(to func([]byte) error, end func([]byte) (int, bool)) error {
	for {
		b, err := s.buffered()
		if err != nil {
			return err
		}
		n, done := end(b)
		if n > 0 {
			if err := to(b[:n]); err != nil {
				return err
			}
			if err := s.take(n); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
	}
}

// quoted finds the end of a string.
func quoted() func([]byte) (int, bool) {
	opened, escaped := false, false
	return func(b []byte) (int, bool) {
		for i := 0; i < len(b); i++ {
			switch {
			case escaped:
				escaped = false
			case b[i] == '\\':
				escaped = true
			case b[i] == '"' && opened:
				return i + 1, true
			case b[i] == '"':
				opened = true
			}
		}
		return len(b), false
	}
}

// container finds the end of an object or array.
func container() func([]byte) (int, bool) {
	depth, inString, escaped := 0, false, false
	return func(b []byte) (int, bool) {
		for i, c := range b {
			switch {
			case escaped:
				escaped = false
			case inString:
				if c == '\\' {
					escaped = true
				} else if c == '"' {
					inString = false
				}
			case c == '"':
				inString = true
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					return i + 1, true
				}
			}
		}
		return len(b), false
	}
}

// scalar finds the end of a number or a literal.
func scalar() func([]byte) (int, bool) {
	return func(b []byte) (int, bool) {
		if i := bytes.IndexAny(b, ",]} \t\r\n"); i >= 0 {
			return i, true
		}
		return len(b), false
	}
}

// kept reads the next value into memory.
func (s *scanner) kept() ([]byte, error) {
	var text []byte
	err := s.value(func(b []byte) error {
		if len(text)+len(b) > maxKept {
			return &notJSONError{fmt.Errorf("a value that is no dataclip has more than %d bytes", maxKept)}
		}
		text = append(text, b...)
		return nil
	})
	return text, err
}

// finish reads to the message's end and says whether it was one JSON document.
func (s *scanner) finish() error {
	for {
		b, err := s.buffered()
		if errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := s.take(len(b)); err != nil {
			return err
		}
	}
	if err := s.check.Finish(); err != nil {
		return &notJSONError{err}
	}
	return nil
}

// notJSONError is a message that is not what it must be, as opposed to a
// message that could not be read.
type notJSONError struct{ err error }

func (e *notJSONError) Error() string { return e.err.Error() }
func (e *notJSONError) Unwrap() error { return e.err }
