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
	lows  = highs ^ (1<<64 - 1)
	// longest is how many bytes a step writes at most: a word of eight quotes,
	// and what is written beyond it and overwritten.
	longest = 24
)

// control says whether a word has a byte below the space in it.
func control(x uint64) bool { return (x-ones*' ')&^x&highs != 0 }

// quoted marks, in the lowest bit of each byte, the quotes and backslashes of a
// word.
func quoted(x uint64) uint64 {
	quote, slash := x^(ones*'"'), x^(ones*'\\')
	// A byte is zero where neither it nor its low bits plus 0x7f reach the
	// high bit; this is exact for every byte.
	q := (quote&lows + lows) | quote
	s := (slash&lows + lows) | slash
	return (^(q & s) & highs) >> 7
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
			if control(x) {
				break
			}
			// The word, and from each quote on again, one further. Records have
			// one in nearly every word: to go on with the next word behind it
			// would make each wait for the last.
			binary.LittleEndian.PutUint64(out[n:], x)
			for q := quoted(x); q != 0; q &= q - 1 {
				k := bits.TrailingZeros64(q)
				at := n + k>>3
				out[at] = '\\'
				binary.LittleEndian.PutUint64(out[at+1:], x>>(k&63))
				n++
			}
			i += 8
			n += 8
		}
		for k := 0; k < 8 && i < len(p) && n <= len(out)-longest; k++ {
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
	extra, i := 0, 0
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		if control(x) {
			for _, c := range p[i : i+8] {
				extra += more(c)
			}
			continue
		}
		extra += bits.OnesCount64(quoted(x))
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
