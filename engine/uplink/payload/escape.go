package payload

import (
	"encoding/binary"
	"io"
	"math/bits"
)

// escapeBuffer is how many bytes of escaped text are gathered before a write.
const escapeBuffer = 64 << 10

// escaper writes what goes through it as the inside of a JSON string. The text
// is UTF-8 already: only quotes, backslashes and control characters change.
type escaper struct {
	w   io.Writer
	buf []byte // of length escapeBuffer
	n   int    // used
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
	// longest is how many bytes one step adds at most: seven plain ones and
	// \u00XX.
	longest = 16
)

// hits marks the bytes of a word that need an escape. The lowest mark is
// exact; those above it may be false.
func hits(x uint64) uint64 {
	quote, slash := x^(ones*'"'), x^(ones*'\\')
	return ((quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x) & highs
}

// Write implements io.Writer.
func (e *escaper) Write(p []byte) (int, error) {
	i := 0
	for i < len(p) {
		if e.n > len(e.buf)-longest {
			if err := e.flush(); err != nil {
				return i, err
			}
		}
		out, n := e.buf, e.n
		// As many words as surely fit.
		for i+8 <= len(p) && n <= len(out)-longest {
			x := binary.LittleEndian.Uint64(p[i:])
			binary.LittleEndian.PutUint64(out[n:], x)
			hit := hits(x)
			if hit == 0 {
				i += 8
				n += 8
				continue
			}
			k := bits.TrailingZeros64(hit) >> 3
			i += k
			n += k
			n += escape(out[n:], p[i])
			i++
		}
		if n > len(out)-longest {
			e.n = n
			continue
		}
		for i+8 > len(p) && i < len(p) && n <= len(out)-longest {
			if c := p[i]; c < ' ' || c == '"' || c == '\\' {
				n += escape(out[n:], c)
			} else {
				out[n] = c
				n++
			}
			i++
		}
		e.n = n
	}
	return len(p), nil
}

// flush writes what was gathered.
func (e *escaper) flush() error {
	_, err := e.w.Write(e.buf[:e.n])
	e.n = 0
	return err
}

// escape writes one character's escape and returns its length.
func escape(to []byte, c byte) int {
	to = to[:6]
	to[0] = '\\'
	if short := shortEscape[c]; short != 0 {
		to[1] = short
		return 2
	}
	const hex = "0123456789abcdef"
	to[1], to[2], to[3], to[4], to[5] = 'u', '0', '0', hex[c>>4], hex[c&15]
	return 6
}

var shortEscape = [256]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

// escapeCounter counts what an escaper would write.
type escapeCounter int64

// Write implements io.Writer.
func (e *escapeCounter) Write(p []byte) (int, error) {
	const low = highs ^ ^uint64(0)
	extra, i := 0, 0
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		quote, slash, control := x^(ones*'"'), x^(ones*'\\'), x&(ones*0xE0)
		// A byte is zero where neither it nor its low bits plus 0x7f reach
		// the high bit; unlike hits, this is exact for every byte.
		q := ^((quote&low + low) | quote | low)
		s := ^((slash&low + low) | slash | low)
		if ^((control&low + low) | control | low) != 0 {
			for _, c := range p[i : i+8] {
				extra += more(c)
			}
			continue
		}
		extra += bits.OnesCount64(q | s)
	}
	for _, c := range p[i:] {
		extra += more(c)
	}
	*e += escapeCounter(len(p) + extra)
	return len(p), nil
}

// more is by how much an escape is longer than its character.
func more(c byte) int {
	switch {
	case shortEscape[c] != 0:
		return 1
	case c < ' ':
		return 5
	}
	return 0
}
