package plan

import (
	"strconv"
	"strings"
)

// path is a place in a document: a string for a key, an int for an index.
type path []any

// with returns a longer path and never writes into the receiver's array.
func (p path) with(more ...any) path {
	return append(p[:len(p):len(p)], more...)
}

// String writes the path as people do: steps[2].next.b, env["a b"].
func (p path) String() string {
	var b strings.Builder
	for _, part := range p {
		switch part := part.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(part) + "]")
		case string:
			switch {
			case !plainKey(part):
				b.WriteString("[" + strconv.Quote(part) + "]")
			case b.Len() == 0:
				b.WriteString(part)
			default:
				b.WriteString("." + part)
			}
		}
	}
	return b.String()
}

func plainKey(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '$' {
			return false
		}
	}
	return s != ""
}
