package plan

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// kind of a node, as JSON knows them.
type nodeKind uint8

const (
	isNull nodeKind = iota
	isBool
	isNumber
	isString
	isArray
	isObject
)

// position counts from 1, columns in characters. The zero value is unknown.
type position struct{ line, column int }

// node is a value of the file with its place. YAML and JSON both become nodes,
// so that everything after them is written once. An alias shares the node it
// stands for: nodes form a graph without cycles, and must not be changed.
type node struct {
	kind nodeKind
	// text is a string's value, a number as JSON writes it, true or false.
	text string
	// source is how a plain YAML scalar or a JSON number was written: 0x1F, 1.10.
	source  string
	items   []*node
	members []member
	// index of members by key, made when a large object is first searched.
	index map[string]int
	pos   position
	// raw is the JSON text of the value when the file is JSON.
	raw string
	// values and size are what the value holds with every alias expanded.
	values, size int
}

type member struct {
	key   string
	pos   position
	value *node
}

// get returns the member's value, or nil.
func (n *node) get(key string) *node {
	if m := n.member(key); m != nil {
		return m.value
	}
	return nil
}

func (n *node) member(key string) *member {
	if n == nil || n.kind != isObject {
		return nil
	}
	if len(n.members) > 16 {
		if n.index == nil {
			n.index = make(map[string]int, len(n.members))
			for i := range n.members {
				n.index[n.members[i].key] = i
			}
		}
		if i, ok := n.index[key]; ok {
			return &n.members[i]
		}
		return nil
	}
	for i := range n.members {
		if n.members[i].key == key {
			return &n.members[i]
		}
	}
	return nil
}

// measure sets values and size from the children's, which are measured already.
func (n *node) measure() {
	n.values, n.size = 1, len(n.text)
	for _, item := range n.items {
		n.values, n.size = n.values+item.values, n.size+item.size
	}
	for _, m := range n.members {
		n.values, n.size = n.values+m.value.values, n.size+m.value.size+len(m.key)
	}
}

// locate finds the place of a path, or of the closest part of it that exists.
// onKey asks for the key's place rather than its value's.
func (n *node) locate(at path, onKey bool) position {
	pos := n.pos
	for i, part := range at {
		switch part := part.(type) {
		case int:
			if n.kind != isArray || part >= len(n.items) {
				return pos
			}
			n = n.items[part]
			pos = n.pos
		case string:
			m := n.member(part)
			if m == nil {
				return pos
			}
			n, pos = m.value, m.value.pos
			if onKey && i == len(at)-1 {
				pos = m.pos
			}
		}
	}
	return pos
}

// instance gives the value in the form that the schema validator takes.
func (n *node) instance() any {
	switch n.kind {
	case isBool:
		return n.text == "true"
	case isNumber:
		return json.Number(n.text)
	case isString:
		return n.text
	case isArray:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.instance()
		}
		return list
	case isObject:
		object := make(map[string]any, len(n.members))
		for _, m := range n.members {
			object[m.key] = m.value.instance()
		}
		return object
	}
	return nil
}

// json gives the value as compact JSON text, key order and numbers kept.
func (n *node) json() json.RawMessage {
	var b bytes.Buffer
	if n.raw != "" && json.Compact(&b, []byte(n.raw)) == nil {
		return b.Bytes()
	}
	n.encode(&b)
	return b.Bytes()
}

func (n *node) encode(b *bytes.Buffer) {
	switch n.kind {
	case isNull:
		b.WriteString("null")
	case isBool, isNumber:
		b.WriteString(n.text)
	case isString:
		encodeString(b, n.text)
	case isArray:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.encode(b)
		}
		b.WriteByte(']')
	case isObject:
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			encodeString(b, m.key)
			b.WriteByte(':')
			m.value.encode(b)
		}
		b.WriteByte('}')
	}
}

func encodeString(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string always has a JSON form
	}
	b.Truncate(b.Len() - 1) // the encoder ends with a line break
}

// string returns a string node's value.
func (n *node) string() (string, bool) {
	if n == nil || n.kind != isString {
		return "", false
	}
	return n.text, true
}

// argument returns a scalar as a program's argument: as it is written.
func (n *node) argument() (string, bool) {
	switch {
	case n == nil || n.kind == isNull || n.kind == isArray || n.kind == isObject:
		return "", false
	case n.source != "":
		return n.source, true
	}
	return n.text, true
}

// int returns an integer node's value; 1.0 and 1e3 are integers too.
func (n *node) int() (int, bool) {
	if n == nil || n.kind != isNumber {
		return 0, false
	}
	if i, err := strconv.Atoi(n.text); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil || f != float64(int64(f)) || f > 1<<53 || f < -(1<<53) {
		return 0, false
	}
	return int(f), true
}
