package jsonscan

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrEmpty is returned for a document of no bytes, or of white space only.
	ErrEmpty = errors.New("the JSON document is empty")
	// ErrBOM is returned for a document that starts with a byte order mark,
	// which RFC 8259 forbids.
	ErrBOM = errors.New("the JSON document starts with a byte order mark (EF BB BF): write it as UTF-8 without one")
)

// A SyntaxError says where a document stops being JSON in UTF-8. Lines and
// columns count from where the scan began: the document, or for a [Value] deep
// in one that value.
type SyntaxError struct {
	Offset int64  // bytes before the offending one, from 0
	Line   int    // from 1
	Column int    // in bytes, from 1
	Msg    string // what was found and what was expected
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at offset %d (line %d, column %d): %s", e.Offset, e.Line, e.Column, e.Msg)
}

// A DepthError is returned for arrays and objects nested deeper than the
// limit, see [Options.MaxDepth].
type DepthError struct {
	Offset int64 // of the bracket that is too deep
	Depth  int
	Limit  int
}

func (e *DepthError) Error() string {
	return fmt.Sprintf("JSON nested %d deep at offset %d: the limit is %d", e.Depth, e.Offset, e.Limit)
}

// A MembersError is returned for an object with more members than the limit,
// see [Options.MaxMembers].
type MembersError struct {
	Offset  int64 // of the first member too many
	Members int   // members counted, this one included
	Limit   int
}

func (e *MembersError) Error() string {
	return fmt.Sprintf("JSON object has at least %d members (offset %d): the limit is %d", e.Members, e.Offset, e.Limit)
}

// A SizeError is returned where a piece of a document must be held in memory
// and is larger than the limit for that.
type SizeError struct {
	Size  int64 // at least so many bytes; what follows was not read
	Limit int64
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("JSON text of at least %d bytes must be held in memory: the limit is %d bytes", e.Size, e.Limit)
}

// A KindError is returned by an operation that the value's kind does not have,
// such as the length of a number.
type KindError struct {
	Op   string
	Kind Kind
}

func (e *KindError) Error() string {
	return fmt.Sprintf("%s of a JSON %s", e.Op, e.Kind)
}

// fail records that c at offset is not what the state expects.
func (m *machine) fail(st state, c byte, offset int64) {
	if st == stUTF8 {
		m.err = m.syntaxError(m.mark, "invalid UTF-8 in a string")
		return
	}
	found := fmt.Sprintf("%q", c)
	if c < ' ' || c >= 0x7F {
		found = fmt.Sprintf("byte 0x%02X", c)
	}
	m.err = m.syntaxError(offset, "found "+found+", expected "+m.expected(st))
}

func (m *machine) syntaxError(offset int64, msg string) *SyntaxError {
	return &SyntaxError{Offset: offset, Line: m.lines + 1, Column: int(offset-m.lineStart) + 1, Msg: msg}
}

func (m *machine) expected(st state) string {
	switch st {
	case stArrayFirst:
		return "a value or ']'"
	case stObjectFirst:
		return "a key in double quotes or '}'"
	case stKey:
		return "a key in double quotes"
	case stColon:
		return "':' after the key"
	case stAfter:
		switch {
		case m.depth == 0:
			return "the end of the document"
		case m.inObject:
			return "',' or '}'"
		}
		return "',' or ']'"
	case stString:
		return "the rest of the string (control characters must be escaped)"
	case stEscape:
		return `one of "\/bfnrtu after the backslash`
	case stHex:
		return `four hexadecimal digits after \u`
	case stUTF8:
		return "the rest of a UTF-8 sequence"
	case stZero:
		return "no digit after a leading zero"
	case stMinus, stDot, stExpSign, stInt, stFrac, stExpInt:
		return "a digit"
	case stExp:
		return "a sign or a digit"
	case stLiteral:
		return fmt.Sprintf("%q of %q", m.literal[m.litPos:], m.literal)
	}
	return "a value"
}

// kindNames are indexed by Kind.
var kindNames = strings.Fields("invalid object array string number true false null")
