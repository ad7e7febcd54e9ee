package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// state is what the machine expects next. It is saved only where a chunk ends
// or an event is reported; within a chunk the program counter is the state.
type state uint8

const (
	stStart       state = iota // the first byte of the document
	stBOM1                     // second byte of a possible byte order mark
	stBOM2                     // third byte of a possible byte order mark
	stValue                    // a value
	stArrayFirst               // a value or ]
	stObjectFirst              // a key or }
	stKey                      // a key
	stColon                    // the colon after a key
	stAfter                    // what may follow a value
	stString                   // the rest of a string
	stEscape                   // the character after a backslash
	stHex                      // hex digits of \u; machine.need are missing
	stUTF8                     // bytes of a UTF-8 sequence; machine.need are missing
	stMinus                    // a digit after -
	stZero                     // what may follow a leading 0
	stInt                      // digits before a point
	stDot                      // the first digit after a point
	stFrac                     // more digits after the point
	stExp                      // sign or digit after e
	stExpSign                  // the first digit of the exponent
	stExpInt                   // more digits of the exponent
	stLiteral                  // the rest of machine.literal, from machine.litPos
)

// event is why step returned before the end of its chunk.
type event uint8

const (
	evNone  event = iota // the chunk is consumed, or an error is set
	evKey                // a key's opening quote is the last byte consumed
	evColon              // a key's closing quote is the last byte consumed
	evBegin              // a value's first byte is the last byte consumed
	evEnd                // a value ends before the next byte
)

// machine is the one state machine behind everything here. Its zero value
// scans a document with DefaultMaxDepth and reports no events.
type machine struct {
	state    state
	inObject bool // the innermost container is an object
	isKey    bool // the string being scanned is a key
	kind     Kind // of the value whose evBegin was reported last
	need     uint8
	lo, hi   byte // range of the next byte of a UTF-8 sequence
	litPos   uint8
	literal  string

	// depth is the number of open containers. Events are reported for keys
	// and values with fewer than watch containers around them: 0 for none, 1
	// for the document itself, 2 for its members too.
	depth, watch int
	maxDepth     int
	stack        []uint64 // a bit for each open container: 1 for an object

	base      int64 // offset of the next chunk's first byte
	mark      int64 // offset of the UTF-8 sequence being scanned
	lines     int   // newlines seen
	lineStart int64 // offset after the last one
	err       error
}

// step consumes bytes of data until an event, an error (m.err) or the end of
// data, and returns how many it consumed.
//
// It is one long function because its labels are its states: jumping from one
// to the next needs no dispatch for each byte, and keeps what it works with in
// registers.
func (m *machine) step(data []byte) (int, event) {
	var (
		i      int
		n      = len(data)
		c      byte
		x, hit uint64
		size   int
		r      rune
		ev     event
		st     state
		depth  = m.depth
		watch  = m.watch
		inObj  = m.inObject
	)
	if m.err != nil {
		return 0, evNone
	}
	switch m.state {
	case stStart, stBOM1, stBOM2:
		i, st = m.start(data)
		if m.err != nil || st != stValue {
			goto suspend
		}
		goto value
	case stValue:
		goto value
	case stArrayFirst:
		goto arrayFirst
	case stObjectFirst:
		goto objectFirst
	case stKey:
		goto key
	case stColon:
		goto colon
	case stAfter:
		goto after
	case stString:
		goto str
	case stEscape:
		goto escape
	case stHex:
		goto hex
	case stUTF8:
		goto multibyte
	case stMinus:
		goto minus
	case stZero:
		goto zero
	case stInt:
		goto integer
	case stDot:
		goto dot
	case stFrac:
		goto fraction
	case stExp:
		goto exponent
	case stExpSign:
		goto exponentSign
	case stExpInt:
		goto exponentInt
	default:
		goto literal
	}

value:
	if st = stValue; i >= n {
		goto suspend
	}
	if c = data[i]; c == ' ' {
		i++
		goto value
	}
anyValue:
	switch {
	case c == '"':
		i++
		m.isKey = false
		if depth < watch {
			m.kind, ev, st = String, evBegin, stString
			goto emit
		}
		goto str
	case c-'1' < 9:
		i++
		if depth < watch {
			m.kind, ev, st = Number, evBegin, stInt
			goto emit
		}
		goto integer
	case c == '{':
		i++
		if !m.push(depth, true, int64(i)) {
			goto suspend
		}
		depth++
		inObj = true
		if depth <= watch {
			m.kind, ev, st = Object, evBegin, stObjectFirst
			goto emit
		}
		goto objectFirst
	case c == '[':
		i++
		if !m.push(depth, false, int64(i)) {
			goto suspend
		}
		depth++
		inObj = false
		if depth <= watch {
			m.kind, ev, st = Array, evBegin, stArrayFirst
			goto emit
		}
		goto arrayFirst
	case c == '0':
		i++
		if depth < watch {
			m.kind, ev, st = Number, evBegin, stZero
			goto emit
		}
		goto zero
	case c == '-':
		i++
		if depth < watch {
			m.kind, ev, st = Number, evBegin, stMinus
			goto emit
		}
		goto minus
	case c == 't', c == 'f', c == 'n':
		i++
		m.beginLiteral(c)
		if depth < watch {
			ev, st = evBegin, stLiteral
			goto emit
		}
		goto literal
	case c <= ' ':
		if size = m.space(data[i:], int64(i)); size > 0 {
			if i += size; st == stArrayFirst {
				goto arrayFirst
			}
			goto value
		}
	}
	goto fail

arrayFirst:
	if st = stArrayFirst; i >= n {
		goto suspend
	}
	if c = data[i]; c == ']' {
		i++
		goto pop
	}
	goto anyValue

objectFirst:
	if st = stObjectFirst; i >= n {
		goto suspend
	}
	switch c = data[i]; {
	case c == '"':
		goto beginKey
	case c == '}':
		i++
		goto pop
	case c <= ' ':
		if size = m.space(data[i:], int64(i)); size > 0 {
			i += size
			goto objectFirst
		}
	}
	goto fail

key:
	if st = stKey; i >= n {
		goto suspend
	}
	if c = data[i]; c != '"' {
		if size = m.space(data[i:], int64(i)); size > 0 {
			i += size
			goto key
		}
		goto fail
	}
beginKey:
	i++
	m.isKey = true
	if depth < watch {
		ev, st = evKey, stString
		goto emit
	}

str:
	for i+8 <= n {
		x = binary.LittleEndian.Uint64(data[i:])
		if hit = stringHit(x); hit != 0 {
			i += bits.TrailingZeros64(hit) >> 3
			c = data[i]
			goto special
		}
		i += 8
	}
	for ; i < n; i++ {
		if c = data[i]; stringSpecial[c] {
			goto special
		}
	}
	st = stString
	goto suspend

special:
	if c == '"' {
		i++
		if m.isKey {
			if depth < watch {
				ev, st = evColon, stColon
				goto emit
			}
			goto colon
		}
		goto endValue
	}
	if c == '\\' {
		i++
		goto escape
	}
	if c < ' ' {
		st = stString
		goto fail
	}
	// A run of multi-byte characters, as in most of the world's languages.
	for n-i >= utf8.UTFMax {
		if r, size = utf8.DecodeRune(data[i:]); r == utf8.RuneError && size == 1 {
			m.mark, st = m.base+int64(i), stUTF8
			goto fail
		}
		if i += size; i >= n || data[i] < utf8.RuneSelf {
			goto str
		}
	}
	m.mark = m.base + int64(i)
	m.need, m.lo, m.hi = utf8Lead(data[i])
	if m.need == 0 {
		st = stUTF8
		goto fail
	}
	i++

multibyte:
	for m.need > 0 {
		if st = stUTF8; i >= n {
			goto suspend
		}
		if c = data[i]; c < m.lo || c > m.hi {
			goto fail
		}
		m.need, m.lo, m.hi = m.need-1, 0x80, 0xBF
		i++
	}
	goto str

escape:
	if st = stEscape; i >= n {
		goto suspend
	}
	switch c = data[i]; c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		i++
		goto str
	case 'u':
		i++
		m.need = 4
	default:
		goto fail
	}

hex:
	for m.need > 0 {
		if st = stHex; i >= n {
			goto suspend
		}
		if c = data[i]; hexDigit[c] == notHex {
			goto fail
		}
		m.need--
		i++
	}
	goto str

colon:
	if st = stColon; i >= n {
		goto suspend
	}
	if c = data[i]; c == ':' {
		i++
		goto value
	}
	if size = m.space(data[i:], int64(i)); size > 0 {
		i += size
		goto colon
	}
	goto fail

endValue:
	if depth < watch {
		ev, st = evEnd, stAfter
		goto emit
	}
after:
	if st = stAfter; i >= n {
		goto suspend
	}
	if c = data[i]; c == ',' && depth > 0 {
		i++
		if inObj {
			goto key
		}
		goto value
	}
	if depth > 0 && (inObj && c == '}' || !inObj && c == ']') {
		i++
		goto pop
	}
	if size = m.space(data[i:], int64(i)); size > 0 {
		i += size
		goto after
	}
	goto fail

pop:
	depth--
	if depth > 0 {
		inObj = m.stack[(depth-1)>>6]>>((depth-1)&63)&1 != 0
	}
	goto endValue

minus:
	if st = stMinus; i >= n {
		goto suspend
	}
	if c = data[i]; c == '0' {
		i++
		goto zero
	}
	if c-'1' >= 9 {
		goto fail
	}
	i++

integer:
	for i+8 <= n {
		x = binary.LittleEndian.Uint64(data[i:])
		if hit = digitsEnd(x); hit != 0 {
			i += bits.TrailingZeros64(hit) >> 3
			c = data[i]
			goto endInteger
		}
		i += 8
	}
	for ; i < n; i++ {
		if c = data[i]; c-'0' >= 10 {
			goto endInteger
		}
	}
	st = stInt
	goto suspend

zero:
	if st = stZero; i >= n {
		goto suspend
	}
	if c = data[i]; c-'0' < 10 {
		goto fail
	}

endInteger:
	if c == ',' && depth >= watch {
		goto after
	}
	if c == '.' {
		i++
		goto dot
	}
	if c|0x20 == 'e' {
		i++
		goto exponent
	}
	goto endValue

dot:
	if st = stDot; i >= n {
		goto suspend
	}
	if c = data[i]; c-'0' >= 10 {
		goto fail
	}
	i++

fraction:
	for i+8 <= n {
		x = binary.LittleEndian.Uint64(data[i:])
		if hit = digitsEnd(x); hit != 0 {
			i += bits.TrailingZeros64(hit) >> 3
			c = data[i]
			goto endFraction
		}
		i += 8
	}
	for ; i < n; i++ {
		if c = data[i]; c-'0' >= 10 {
			goto endFraction
		}
	}
	st = stFrac
	goto suspend

endFraction:
	if c|0x20 == 'e' {
		i++
		goto exponent
	}
	goto endValue

exponent:
	if st = stExp; i >= n {
		goto suspend
	}
	if c = data[i]; c == '+' || c == '-' {
		i++
		goto exponentSign
	}
	if c-'0' >= 10 {
		goto fail
	}
	i++
	goto exponentInt

exponentSign:
	if st = stExpSign; i >= n {
		goto suspend
	}
	if c = data[i]; c-'0' >= 10 {
		goto fail
	}
	i++

exponentInt:
	for ; i < n; i++ {
		if data[i]-'0' >= 10 {
			goto endValue
		}
	}
	st = stExpInt
	goto suspend

literal:
	for int(m.litPos) < len(m.literal) {
		if st = stLiteral; i >= n {
			goto suspend
		}
		if c = data[i]; c != m.literal[m.litPos] {
			goto fail
		}
		m.litPos++
		i++
	}
	goto endValue

fail:
	m.depth, m.inObject = depth, inObj
	m.fail(st, c, m.base+int64(i))
suspend:
	ev = evNone
emit:
	m.state, m.depth, m.inObject = st, depth, inObj
	m.base += int64(i)
	return i, ev
}
