package phoenix

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxName bounds refs, topics, events, statuses and keys, in bytes.
const maxName = 4 << 10

// errFormat is the cause of every message that is not what it should be.
var errFormat = errors.New("not a Phoenix message")

// scanner reads pieces of a JSON text from a message that arrives.
type scanner struct{ r *bufio.Reader }

// peek returns the next byte that is not white space, without taking it.
func (s scanner) peek() (byte, error) {
	for {
		c, err := s.r.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, s.r.UnreadByte()
		}
	}
}

// expect takes one punctuation mark.
func (s scanner) expect(want byte) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != want {
		return fmt.Errorf("%w: %q where %q belongs", errFormat, c, want)
	}
	_, err = s.r.ReadByte()
	return err
}

// name takes a short string; null is "".
func (s scanner) name() (string, error) {
	raw, err := s.value(maxName)
	if err != nil {
		return "", err
	}
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", fmt.Errorf("%w: %.40q where a string belongs", errFormat, raw)
	}
	if text == nil {
		return "", nil
	}
	return *text, nil
}

// value takes any value of at most limit bytes. Whether it is valid is for its
// decoder to say; where it ends follows from quotes and brackets.
func (s scanner) value(limit int64) ([]byte, error) {
	c, err := s.peek()
	if err != nil {
		return nil, err
	}
	var b []byte
	depth, inString, escaped := 0, false, false
	scalar := c != '"' && c != '{' && c != '['
	for {
		if c, err = s.r.ReadByte(); err != nil {
			return nil, unexpected(err)
		}
		if scalar && (c == ',' || c == ']' || c == '}' || c == ' ' || c == '\n' || c == '\r' || c == '\t') {
			return b, s.r.UnreadByte()
		}
		if int64(len(b)) >= limit {
			return nil, &tooLarge{limit}
		}
		b = append(b, c)
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if !scalar && depth == 0 && !inString {
			return b, nil
		}
	}
}

// bytes takes an array of byte values and writes them to w.
func (s scanner) bytes(w io.Writer) (int64, error) {
	if err := s.expect('['); err != nil {
		return 0, err
	}
	if c, err := s.peek(); err != nil {
		return 0, err
	} else if c == ']' {
		return 0, s.expect(']')
	}
	out := make([]byte, 0, 32<<10)
	var total int64
	for value, digits := 0, 0; ; {
		c, err := s.r.ReadByte()
		if err != nil {
			return total, unexpected(err)
		}
		switch {
		case c-'0' < 10 && digits < 3:
			value = value*10 + int(c-'0')
			digits++
			continue
		case c == ',' || c == ']':
		case digits == 0 && (c == ' ' || c == '\n' || c == '\r' || c == '\t'):
			continue
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
			if c, err = s.peek(); err != nil {
				return total, err
			}
			if c != ',' && c != ']' {
				return total, fmt.Errorf("%w: %q after a byte value", errFormat, c)
			}
			continue
		default:
			return total, fmt.Errorf("%w: %q in an array of byte values", errFormat, c)
		}
		if digits == 0 || value > 255 {
			return total, fmt.Errorf("%w: an array of byte values has an empty element, or %d", errFormat, value)
		}
		out = append(out, byte(value))
		value, digits = 0, 0
		if len(out) == cap(out) || c == ']' {
			n, err := w.Write(out)
			total += int64(n)
			if err != nil {
				return total, &intoError{err}
			}
			out = out[:0]
		}
		if c == ']' {
			return total, nil
		}
	}
}

// tooLarge is a value over its limit.
type tooLarge struct{ limit int64 }

func (e *tooLarge) Error() string { return fmt.Sprintf("larger than the limit of %d bytes", e.limit) }

// intoError is an error of the caller's writer.
type intoError struct{ error }

func (e *intoError) Unwrap() error { return e.error }

func unexpected(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: it ends too early", errFormat)
	}
	return err
}

// bytesFollow says whether an array of byte values comes next, as far as its
// first element tells.
func (s scanner) bytesFollow() bool {
	if c, err := s.peek(); err != nil || c != '[' {
		return false
	}
	for n := 2; n <= 64; n++ {
		b, err := s.r.Peek(n)
		if err != nil {
			return false
		}
		switch c := b[n-1]; {
		case c == ' ' || c == '\n' || c == '\r' || c == '\t':
		default:
			return c-'0' < 10 || c == ']'
		}
	}
	return false
}
