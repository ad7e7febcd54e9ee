package jsonscan

import "unicode/utf8"

// Eight bytes are looked at as one word. A subtraction borrows, and an
// addition carries, only out of a byte that is itself a hit; so the lowest
// hit is exact and those above it may be false. Only the lowest is ever used.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stringHit marks the bytes of a string that are not plain: a quote, a
// backslash, a control character or part of a multi-byte character.
func stringHit(x uint64) uint64 {
	return ((x ^ (ones * '"') - ones) | (x ^ (ones * '\\') - ones) | (x - ones*' ') | x) & highs
}

// digitsEnd marks the bytes that are not decimal digits.
func digitsEnd(x uint64) uint64 {
	return ((x + ones*(0x80-':')) | (x - ones*'0') | x) & highs
}

const notHex = 0xFF

var (
	// stringSpecial is stringHit for a single byte.
	stringSpecial [256]bool
	// hexDigit is the value of a hexadecimal digit, or notHex.
	hexDigit [256]byte
)

func init() {
	for c := range 256 {
		stringSpecial[c] = c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf
		switch {
		case c >= '0' && c <= '9':
			hexDigit[c] = byte(c - '0')
		case c >= 'a' && c <= 'f':
			hexDigit[c] = byte(c - 'a' + 10)
		case c >= 'A' && c <= 'F':
			hexDigit[c] = byte(c - 'A' + 10)
		default:
			hexDigit[c] = notHex
		}
	}
}

// utf8Lead returns how many bytes follow a lead byte, and the range of the
// first of them (it excludes overlong forms, surrogates and code points past
// U+10FFFF). need is 0 for a byte that starts nothing.
func utf8Lead(c byte) (need, lo, hi byte) {
	switch {
	case c < 0xC2:
		return 0, 0, 0
	case c < 0xE0:
		return 1, 0x80, 0xBF
	case c == 0xE0:
		return 2, 0xA0, 0xBF
	case c == 0xED:
		return 2, 0x80, 0x9F
	case c < 0xF0:
		return 2, 0x80, 0xBF
	case c == 0xF0:
		return 3, 0x90, 0xBF
	case c < 0xF4:
		return 3, 0x80, 0xBF
	case c == 0xF4:
		return 3, 0x80, 0x8F
	}
	return 0, 0, 0
}
