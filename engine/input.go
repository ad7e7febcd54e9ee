package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// Input is the state that a run starts with. It is read once, when the run
// begins, by the run's own goroutine.
type Input func(document.Store) (ipc.Table, error)

// EmptyInput is the state {}.
func EmptyInput() Input {
	return func(document.Store) (ipc.Table, error) { return ipc.Table{Kind: ipc.KindObject}, nil }
}

// FromReader is the state that r holds as one JSON document. r is read to its
// end and not closed.
func FromReader(r io.Reader) Input {
	return func(s document.Store) (ipc.Table, error) { return s.Read(r) }
}

// FromBytes is the state that b holds as one JSON document.
func FromBytes(b []byte) Input { return FromReader(bytes.NewReader(b)) }

// FromFile is the state in a file.
func FromFile(path string) Input {
	return func(s document.Store) (ipc.Table, error) {
		f, err := open(path)
		if err != nil {
			return ipc.Table{}, err
		}
		defer f.Close()
		t, err := s.Read(f)
		if err != nil {
			return t, fmt.Errorf("%s: %w", path, err)
		}
		return t, nil
	}
}

// WithFile is the state of rest with one key added: the content of a file, as
// JSON, Arrow or raw bytes by what it starts with.
func WithFile(rest Input, key, path string) Input {
	return func(s document.Store) (ipc.Table, error) {
		t, err := rest(s)
		if err != nil {
			return t, err
		}
		row, err := readKey(s, key, path)
		if err != nil {
			s.Account.Release(t)
			return ipc.Table{}, err
		}
		if old, ok := t.Get(key); ok {
			s.Account.Release(ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{old}})
		}
		return t.With(row), nil
	}
}

func readKey(s document.Store, key, path string) (ipc.Row, error) {
	f, err := open(path)
	if err != nil {
		return ipc.Row{}, err
	}
	defer f.Close()
	start := make([]byte, 512)
	n, err := f.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ipc.Row{}, fmt.Errorf("%s: %w", path, err)
	}
	row, err := s.ReadValue(key, document.Detect(start[:n]), f)
	if err != nil {
		return row, fmt.Errorf("%s: %w", path, err)
	}
	return row, nil
}

func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("it is a directory, not a file")}
	}
	return f, nil
}

// merge returns an object row made of several: a later object's member wins
// over a former one's of the same name. nil rows count as absent. No value is
// built: the result is a rope of spans of the objects it is made of, and of
// small pieces that the account writes. Everything it refers to is held by the
// caller through the row; the objects themselves stay held as they were. When
// the last object is not an object it wins whole, as an assignment would.
func merge(s document.Store, key string, objects []*ipc.Row) (ipc.Row, error) {
	type member struct {
		text []byte // the key in JSON
		row  *ipc.Row
		from jsonscan.Member
	}
	var members []member
	index := make(map[string]int)
	var last *ipc.Row
	for _, o := range objects {
		if o == nil {
			continue
		}
		last = o
		v, err := s.Ledger.Value(*o)
		if err != nil {
			return ipc.Row{}, err
		}
		if o.Encoding() != shm.JSON {
			members, index = nil, make(map[string]int)
			continue
		}
		doc, err := jsonscan.TopReader(v.Reader(), jsonscan.Options{})
		if err != nil {
			return ipc.Row{}, fmt.Errorf("key %q: %w", key, err)
		}
		if doc.Kind != jsonscan.Object {
			members, index = nil, make(map[string]int)
			continue
		}
		for _, m := range doc.Members {
			entry := member{text: jsonscan.AppendString(nil, m.Key), row: o, from: m}
			if i, ok := index[m.Key]; ok {
				members[i] = entry
				continue
			}
			index[m.Key] = len(members)
			members = append(members, entry)
		}
		last = nil // an object: merged so far
	}
	if last != nil {
		row := ipc.Row{Key: key, Spans: last.Spans}
		return row, s.Account.Retain(rows(row))
	}
	out := ipc.Row{Key: key}
	glue := []byte("{")
	seal := func() error {
		piece, err := s.Account.Write(key, shm.JSON, glue)
		if err != nil {
			return err
		}
		out.Spans = append(out.Spans, piece.Spans...)
		glue = nil
		return nil
	}
	for i, m := range members {
		if i > 0 {
			glue = append(glue, ',')
		}
		glue = append(append(glue, m.text...), ':')
		if err := seal(); err != nil {
			return ipc.Row{}, err
		}
		part := ipc.Row{Key: key, Spans: slice(m.row.Spans, uint64(m.from.Offset), uint64(m.from.Length))}
		if err := s.Account.Retain(rows(part)); err != nil {
			return ipc.Row{}, err
		}
		out.Spans = append(out.Spans, part.Spans...)
	}
	glue = append(glue, '}')
	return out, seal()
}

// slice returns the spans of a part of a rope.
func slice(spans []shm.Ref, offset, length uint64) []shm.Ref {
	var out []shm.Ref
	for _, r := range spans {
		if length == 0 {
			break
		}
		if offset >= r.Length {
			offset -= r.Length
			continue
		}
		r.Offset += offset
		r.Length = min(r.Length-offset, length)
		offset = 0
		length -= r.Length
		out = append(out, r)
	}
	return out
}

func rows(r ...ipc.Row) ipc.Table { return ipc.Table{Kind: ipc.KindObject, Rows: r} }
