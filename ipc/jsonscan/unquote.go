package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// appendUnquoted appends the text that a string literal stands for. body is
// what lies between the quotes of a literal that the machine has accepted. A
// lone surrogate becomes U+FFFD.
func appendUnquoted(dst, body []byte) []byte {
	for {
		plain := 0
		for plain < len(body) && body[plain] != '\\' {
			plain++
		}
		dst = append(dst, body[:plain]...)
		if body = body[plain:]; len(body) < 2 {
			return dst
		}
		c := body[1]
		body = body[2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, ok := hex4(body)
			if !ok {
				return dst
			}
			body = body[4:]
			if utf16.IsSurrogate(r) {
				r2, paired := rune(-1), false
				if len(body) >= 6 && body[0] == '\\' && body[1] == 'u' {
					r2, paired = hex4(body[2:])
				}
				if r = utf16.DecodeRune(r, r2); paired && r != utf8.RuneError {
					body = body[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		d := hexDigit[c]
		if d == notHex {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

// AppendString appends s as a JSON string literal, escaped as JSON.stringify
// escapes it: quotes, backslashes and control characters, nothing else. Bytes
// that are not UTF-8 become U+FFFD, so the result is always valid.
func AppendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		start := i
		i = plainEnd(s, i)
		dst = append(dst, s[start:i]...)
		if i == len(s) {
			break
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			_, size := utf8.DecodeRuneInString(s[i:])
			if size == 1 {
				dst = append(dst, "\uFFFD"...)
			} else {
				dst = append(dst, s[i:i+size]...)
			}
			i += size
			continue
		}
		i++
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(dst, '"')
}

// plainEnd returns where the run of plain characters that starts at i ends.
func plainEnd(s string, i int) int {
	for ; i+8 <= len(s); i += 8 {
		var word [8]byte
		copy(word[:], s[i:])
		if hit := stringHit(binary.LittleEndian.Uint64(word[:])); hit != 0 {
			return i + bits.TrailingZeros64(hit)>>3
		}
	}
	for i < len(s) && !stringSpecial[s[i]] {
		i++
	}
	return i
}

// AppendKey appends s as a member's key: a string literal and a colon.
func AppendKey(dst []byte, s string) []byte {
	return append(AppendString(dst, s), ':')
}
