package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// jsonReader turns JSON text which is known to be valid into nodes. JSON has
// its own reader because it must be taken exactly as JSON (escapes, numbers,
// duplicate keys), which YAML parsers only almost do.
type jsonReader struct {
	src      string
	at       int
	line     int // of at
	counted  int // offset up to which column is known
	column   int // of counted, from 1
	values   int
	problems []*Problem
}

func parseJSON(src string) (*node, []*Problem, error) {
	var ignored json.RawMessage
	if err := json.Unmarshal([]byte(src), &ignored); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			pos := offsetPosition(src, max(0, int(syntax.Offset)-1))
			return nil, nil, &treeError{pos: pos, message: "JSON syntax: " + syntax.Error()}
		}
		return nil, nil, &treeError{message: "JSON syntax: " + err.Error()}
	}
	r := &jsonReader{src: src, line: 1, column: 1}
	n, err := r.value(0)
	return n, r.problems, err
}

func validJSON(src []byte) bool { return json.Valid(src) }

// offsetPosition counts lines and characters up to a byte offset.
func offsetPosition(src string, offset int) position {
	before := src[:min(offset, len(src))]
	bol := strings.LastIndexByte(before, '\n') + 1
	return position{1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[bol:])}
}

// skip passes white space and the separators: the text is valid, so they stand
// where they must.
func (r *jsonReader) skip() {
	for r.at < len(r.src) {
		switch r.src[r.at] {
		case '\n':
			r.line, r.column, r.counted = r.line+1, 1, r.at+1
		case ' ', '\t', '\r', ',', ':':
		default:
			return
		}
		r.at++
	}
}

// here is the position of at. It counts only what is new since the last call:
// a minified file is one long line.
func (r *jsonReader) here() position {
	r.column += utf8.RuneCountInString(r.src[r.counted:r.at])
	r.counted = r.at
	return position{r.line, r.column}
}

func (r *jsonReader) value(depth int) (*node, error) {
	r.skip()
	n := &node{pos: r.here()}
	if r.values++; r.values > maxValues {
		return nil, &treeError{pos: n.pos, message: fmt.Sprintf(
			"too much in one workflow file, the limit is %d values", maxValues),
			hint: handOver}
	}
	if depth > maxDepth {
		return nil, &treeError{pos: n.pos, message: fmt.Sprintf("nested too deeply, the limit is %d levels", maxDepth)}
	}
	start := r.at
	switch r.src[r.at] {
	case '{':
		if err := r.object(n, depth); err != nil {
			return nil, err
		}
	case '[':
		n.kind = isArray
		r.at++
		for r.skip(); r.src[r.at] != ']'; r.skip() {
			item, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		r.at++
	case '"':
		n.kind, n.text = isString, r.string()
	case 't':
		r.at += len("true")
		n.kind, n.text = isBool, "true"
	case 'f':
		r.at += len("false")
		n.kind, n.text = isBool, "false"
	case 'n':
		r.at += len("null")
	default:
		n.kind = isNumber
		for r.at < len(r.src) && strings.IndexByte("+-.eE0123456789", r.src[r.at]) >= 0 {
			r.at++
		}
		n.text = r.src[start:r.at]
		n.source = n.text
	}
	n.raw = r.src[start:r.at]
	n.measure()
	return n, nil
}

func (r *jsonReader) object(n *node, depth int) error {
	n.kind = isObject
	seen := map[string]int{}
	r.at++
	for r.skip(); r.src[r.at] != '}'; r.skip() {
		pos := r.here()
		key := r.string()
		value, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if i, dup := seen[key]; dup {
			r.problems = append(r.problems, &Problem{Line: pos.line, Column: pos.column, Message: fmt.Sprintf(
				"duplicate key %q: already used at line %d", key, n.members[i].pos.line)})
			continue
		}
		seen[key] = len(n.members)
		n.members = append(n.members, member{key, pos, value})
	}
	r.at++
	return nil
}

// string reads a string at its opening quote.
func (r *jsonReader) string() string {
	start := r.at
	for r.at++; r.src[r.at] != '"'; r.at++ {
		if r.src[r.at] == '\\' {
			r.at++
		}
	}
	r.at++
	var s string
	if json.Unmarshal([]byte(r.src[start:r.at]), &s) != nil {
		return r.src[start+1 : r.at-1] // the text was found valid before
	}
	return s
}
