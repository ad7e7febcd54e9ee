package ipc

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

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

// With returns an object with the key's value replaced, or added at the end.
// A bare value has no keys to keep: of it nothing is left.
func (t Table) With(row Row) Table {
	if t.Kind != KindObject {
		return Table{Kind: KindObject, Rows: []Row{row}}
	}
	rows := slices.Clone(t.Rows)
	if i := t.Find(row.Key); i >= 0 {
		rows[i] = row
	} else {
		rows = append(rows, row)
	}
	return Table{Kind: KindObject, Rows: rows}
}

// Without returns the object without the keys named; anything else has no keys
// and stays as it is.
func (t Table) Without(keys ...string) Table {
	if t.Kind != KindObject {
		return t
	}
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

// check verifies the form that every table on the wire has, whoever made it.
func (t Table) check() error {
	switch {
	case t.Kind > KindValue:
		return fmt.Errorf("unknown table kind %d", uint8(t.Kind))
	case t.Kind == KindAbsent && len(t.Rows) != 0:
		return fmt.Errorf("%d rows in a message without a state", len(t.Rows))
	case t.Kind == KindValue && len(t.Rows) != 1:
		return fmt.Errorf("a bare value has 1 row, not %d", len(t.Rows))
	case t.Kind == KindValue && t.Rows[0].Key != "":
		return fmt.Errorf("a bare value has the key %q", t.Rows[0].Key)
	}
	for i := range t.Rows {
		if err := t.Rows[i].check(); err != nil {
			return fmt.Errorf("row %q: %w", t.Rows[i].Key, err)
		}
	}
	return t.checkKeys()
}

func (r *Row) check() error {
	if len(r.Spans) == 0 {
		return errors.New("no spans")
	}
	if !utf8.ValidString(r.Key) {
		return errors.New("key is not UTF-8")
	}
	for i := range r.Spans {
		span := &r.Spans[i]
		switch _, ok := span.End(); {
		case !span.Encoding.Valid():
			return fmt.Errorf("unknown encoding %d", uint8(span.Encoding))
		case span.Encoding != r.Spans[0].Encoding:
			return fmt.Errorf("mixes encodings %s and %s", r.Spans[0].Encoding, span.Encoding)
		case !ok:
			return fmt.Errorf("reference at %d with %d bytes ends past 2^64", span.Offset, span.Length)
		}
	}
	return nil
}

func (t Table) checkKeys() error {
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
