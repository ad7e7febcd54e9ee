package standin

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// clipReader takes a dataclip's value out of a message in either form, checks
// that it is JSON, and counts, checksums and keeps it.
type clipReader struct {
	clip  Dataclip
	keep  bool
	first byte // of the JSON text
	check jsonscan.Validator
	un    unescaper
	err   error // of the text: a violation, which does not end the reading
}

// write gets the value's text as it lies in the message.
func (c *clipReader) write(b []byte) error {
	if c.clip.Wire == 0 {
		c.clip.Form = "object"
		if b[0] == '"' {
			c.clip.Form = "string"
		}
	}
	c.clip.Wire += int64(len(b))
	if c.clip.Form == "string" {
		c.un.write(b, c.text)
		return nil
	}
	c.text(b)
	return nil
}

// text gets the JSON text itself.
func (c *clipReader) text(b []byte) {
	if c.clip.Size == 0 && len(b) > 0 {
		c.first = b[0]
	}
	c.clip.Size += int64(len(b))
	c.clip.CRC = crc32.Update(c.clip.CRC, crc32.IEEETable, b)
	if c.keep {
		c.clip.Text = append(c.clip.Text, b...)
	}
	if c.err == nil {
		c.err = c.check.Feed(b)
	}
}

// finish returns the dataclip, or what is wrong with it. object: it must be one.
func (c *clipReader) finish(object bool) (*Dataclip, error) {
	err := errors.Join(c.err, c.un.err)
	if err == nil {
		err = c.check.Finish()
	}
	if err != nil {
		return &c.clip, fmt.Errorf("the %s is not JSON: %w", c.clip.Form, err)
	}
	if object && c.first != '{' {
		return &c.clip, fmt.Errorf("it begins with %q: it must be an object", c.first)
	}
	return &c.clip, nil
}

// unescaper undoes the escapes of a JSON string that comes in pieces, quotes
// included.
type unescaper struct {
	opened  bool
	escape  int // bytes of an escape seen: 1 after the backslash, up to 5 of \uXXX
	hex     rune
	high    rune // a high surrogate that waits for its other half
	err     error
	scratch [utf8.UTFMax]byte
}

func (u *unescaper) write(b []byte, to func([]byte)) {
	for len(b) > 0 {
		if u.escape > 0 {
			u.escaped(b[0], to)
			b = b[1:]
			continue
		}
		n := bytes.IndexByte(b, '\\')
		if n < 0 {
			n = len(b)
		}
		plain := b[:n]
		if !u.opened && n > 0 {
			u.opened, plain = true, plain[1:] // the opening quote
		}
		if k := len(plain); k > 0 && plain[k-1] == '"' {
			plain = plain[:k-1] // the closing one: an inner quote is escaped
		}
		if len(plain) > 0 {
			u.lone()
			to(plain)
		}
		if n < len(b) {
			u.escape = 1
			n++
		}
		b = b[n:]
	}
}

// lone notes a high surrogate without its other half: it has no UTF-8.
func (u *unescaper) lone() {
	if u.high != 0 && u.err == nil {
		u.err = fmt.Errorf("\\u%04x is half of a character", u.high)
	}
	u.high = 0
}

var plainEscapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (u *unescaper) escaped(c byte, to func([]byte)) {
	if u.escape == 1 {
		if c == 'u' {
			u.escape, u.hex = 2, 0
			return
		}
		u.escape = 0
		u.lone()
		u.scratch[0] = plainEscapes[c] // the message's validator refuses others
		to(u.scratch[:1])
		return
	}
	u.hex = u.hex<<4 | rune(hexValue(c))
	if u.escape++; u.escape < 6 {
		return
	}
	u.escape = 0
	switch r := u.hex; {
	case u.high != 0 && r >= 0xdc00 && r < 0xe000:
		r = utf16.DecodeRune(u.high, r)
		u.high = 0
		to(utf8.AppendRune(u.scratch[:0], r))
	case r >= 0xd800 && r < 0xdc00:
		u.lone()
		u.high = r
	default:
		u.lone()
		if utf16.IsSurrogate(r) && u.err == nil {
			u.err = fmt.Errorf("\\u%04x is half of a character", r)
		}
		to(utf8.AppendRune(u.scratch[:0], r))
	}
}

func hexValue(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
