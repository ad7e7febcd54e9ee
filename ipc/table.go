package ipc

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/shm"
)

// Kind says what a state's table stands for.
type Kind uint8

const (
	// KindAbsent is no state: a message that carries none, or a step that
	// returned nothing.
	KindAbsent Kind = 0
	// KindObject is an object: one row for each top-level key, in order.
	KindObject Kind = 1
	// KindValue is a document that is not an object (an array, a number, …):
	// one row with an empty key.
	KindValue Kind = 2
)

// Row is one top-level key of a state: its value is the concatenation of its
// spans, all of one encoding. There is at least one span.
type Row struct {
	Key   string
	Spans []shm.Ref
}

// Encoding returns the encoding of the row's value.
func (r *Row) Encoding() shm.Encoding { return r.Spans[0].Encoding }

// Size returns the length of the row's value in bytes. A sum past 2^64
// saturates.
func (r *Row) Size() uint64 {
	var n uint64
	for i := range r.Spans {
		s := n + r.Spans[i].Length
		if s < n {
			return ^uint64(0)
		}
		n = s
	}
	return n
}

// Table is a state in flight: an ordered table of references. It is a value:
// copying it costs a slice header, and the methods that change a table copy
// its rows first, so branches of a run can share one. Rows and spans are never
// changed in place.
type Table struct {
	Kind Kind
	Rows []Row
}

// Find returns the index of the key's row, or -1.
func (t Table) Find(key string) int {
	return slices.IndexFunc(t.Rows, func(r Row) bool { return r.Key == key })
}

// Get returns the key's row.
func (t Table) Get(key string) (Row, bool) {
	if i := t.Find(key); i >= 0 {
		return t.Rows[i], true
	}
	return Row{}, false
}

// With returns the table with the key's value replaced, or added at the end.
func (t Table) With(row Row) Table {
	rows := slices.Clone(t.Rows)
	if i := t.Find(row.Key); i >= 0 {
		rows[i] = row
	} else {
		rows = append(rows, row)
	}
	return Table{Kind: KindObject, Rows: rows}
}

// Without returns the table without the keys named.
func (t Table) Without(keys ...string) Table {
	drop := func(r Row) bool { return slices.Contains(keys, r.Key) }
	if !slices.ContainsFunc(t.Rows, drop) {
		return t
	}
	return Table{Kind: t.Kind, Rows: slices.DeleteFunc(slices.Clone(t.Rows), drop)}
}

// Size returns the sum of all rows' sizes in bytes: what the state weighs, a
// block that two rows share counted twice. A sum past 2^64 saturates.
func (t Table) Size() uint64 {
	var n uint64
	for i := range t.Rows {
		s := n + t.Rows[i].Size()
		if s < n {
			return ^uint64(0)
		}
		n = s
	}
	return n
}

// check verifies what no table may break, whoever made it.
func (t Table) check() error {
	if t.Kind == KindValue && t.Rows[0].Key != "" {
		return fmt.Errorf("a bare value has the key %q", t.Rows[0].Key)
	}
	// A map costs more than it saves for the handful of keys a state has.
	if len(t.Rows) <= 16 {
		for i := range t.Rows {
			for j := range i {
				if t.Rows[i].Key == t.Rows[j].Key {
					return fmt.Errorf("key %q twice", t.Rows[i].Key)
				}
			}
		}
		return nil
	}
	seen := make(map[string]struct{}, len(t.Rows))
	for i := range t.Rows {
		if _, ok := seen[t.Rows[i].Key]; ok {
			return fmt.Errorf("key %q twice", t.Rows[i].Key)
		}
		seen[t.Rows[i].Key] = struct{}{}
	}
	return nil
}
