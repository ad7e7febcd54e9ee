package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// document makes a state of a JSON document, which is one block, as the engine
// does with a run's input. An empty text is the absent state.
func (c *check) document(doc string) ipc.Table {
	if doc == "" {
		return ipc.Table{}
	}
	ref, err := c.book.put(shm.JSON, []byte(doc))
	c.must(err)
	outline, err := jsonscan.Top([]byte(doc), jsonscan.Options{})
	c.must(err)
	table := ipc.Table{Kind: ipc.KindObject}
	if outline.Kind != jsonscan.Object {
		table.Kind = ipc.KindValue
	}
	for _, m := range outline.Members {
		part := ref
		part.Offset, part.Length = uint64(m.Offset), uint64(m.Length)
		table.Rows = append(table.Rows, ipc.Row{Key: m.Key, Spans: []shm.Ref{part}})
	}
	return table
}

// row makes a row of which each piece is a segment of its own.
func (c *check) row(key string, enc shm.Encoding, pieces ...string) ipc.Row {
	row := ipc.Row{Key: key}
	for _, p := range pieces {
		ref, err := c.book.put(enc, []byte(p))
		c.must(err)
		row.Spans = append(row.Spans, ref)
	}
	return row
}

func object(rows ...ipc.Row) ipc.Table { return ipc.Table{Kind: ipc.KindObject, Rows: rows} }

// join returns an object of the rows of all of them.
func join(tables ...ipc.Table) ipc.Table {
	t := ipc.Table{Kind: ipc.KindObject}
	for _, other := range tables {
		t.Rows = append(t.Rows, other.Rows...)
	}
	return t
}

// value reads a row.
func (c *check) value(row ipc.Row) string {
	b, err := c.book.bytes(row)
	c.must(err)
	return string(b)
}

// text shows a state in a message.
func (c *check) text(t ipc.Table) string {
	switch t.Kind {
	case ipc.KindAbsent:
		return "no state"
	case ipc.KindValue:
		return "the bare value " + cut(c.value(t.Rows[0]))
	}
	var members []string
	for _, row := range t.Rows[:min(len(t.Rows), 20)] {
		members = append(members, fmt.Sprintf("%q: %s", row.Key, cut(c.value(row))))
	}
	if len(t.Rows) > 20 {
		members = append(members, fmt.Sprintf("… (%d keys)", len(t.Rows)))
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + fmt.Sprintf("… (%d bytes)", len(s))
	}
	return s
}

// wantState fails the case unless the state is, by value, the document; an
// empty text is the absent state. The order of keys counts unless anyOrder.
func (c *check) wantState(t ipc.Table, doc string, anyOrder bool) {
	want := ipc.KindAbsent
	var outline jsonscan.Document
	if doc != "" {
		var err error
		outline, err = jsonscan.Top([]byte(doc), jsonscan.Options{})
		c.must(err)
		want = ipc.KindValue
		if outline.Kind == jsonscan.Object {
			want = ipc.KindObject
		}
	}
	if t.Kind != want {
		c.failf("the result is %s, want %s", c.text(t), cut(doc))
	}
	keys := make([]string, len(outline.Members))
	for i, m := range outline.Members {
		keys[i] = m.Key
	}
	got := keysOf(t)
	if anyOrder {
		slices.Sort(keys)
		slices.Sort(got)
	}
	if !slices.Equal(got, keys) {
		c.failf("the result has the keys %s, want %s", cut(fmt.Sprintf("%q", got)), cut(fmt.Sprintf("%q", keys)))
	}
	for _, m := range outline.Members {
		row, _ := t.Get(m.Key)
		c.wantValue(row, doc[m.Offset:m.Offset+m.Length])
	}
}

// wantValue compares a row with JSON text, by value.
func (c *check) wantValue(row ipc.Row, want string) {
	if enc := row.Encoding(); enc != shm.JSON {
		c.failf("key %q is %s, want JSON", row.Key, enc)
	}
	if got := c.value(row); !sameJSON(got, want) {
		c.failf("key %q is %s, want %s", row.Key, cut(got), cut(want))
	}
}

// wantKept fails the case unless rows are the same references as before.
func (c *check) wantKept(before, after ipc.Table, keys ...string) {
	for _, key := range keys {
		was, _ := before.Get(key)
		is, ok := after.Get(key)
		if !ok {
			c.failf("key %q is gone", key)
		}
		if !slices.Equal(was.Spans, is.Spans) {
			c.failf("key %q was not passed on as it was: it was %v, now it is %v", key, was.Spans, is.Spans)
		}
	}
}

func keysOf(t ipc.Table) []string {
	keys := make([]string, len(t.Rows))
	for i := range t.Rows {
		keys[i] = t.Rows[i].Key
	}
	return keys
}

// sameJSON compares by value: the order of members and the spelling of numbers
// and texts do not count.
func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

func isObject(text string) bool {
	return jsonscan.Validate([]byte(text)) == nil && bytes.HasPrefix(bytes.TrimSpace([]byte(text)), []byte("{"))
}

// quote returns s as JSON text.
func quote(s string) string { return string(jsonscan.AppendString(nil, s)) }
