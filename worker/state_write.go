package worker

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

var (
	errKeyNotUTF8 = errors.New("a key must be valid UTF-8")
	errForeign    = errors.New("it is a state of another step")
)

// Set encodes v as JSON, by the rules of encoding/json but without escaping
// <, > and &, straight into shared memory. The key keeps its place, a new one
// goes to the end. A bare value is replaced by an object. An error names the
// key and where in v the trouble is, and changes nothing.
func (s *State) Set(key string, v any) error {
	if !utf8.ValidString(key) {
		return &KeyError{Key: key, Err: errKeyNotUTF8}
	}
	ref, err := s.encode(v)
	if err != nil {
		return &KeyError{Key: key, Err: err}
	}
	return s.putBlock(key, ref)
}

// SetRaw sets a key to bytes that are encoded already, copying them. JSON is
// validated.
func (s *State) SetRaw(key string, enc Encoding, b []byte) error {
	return s.setRaw(key, Encoded{Encoding: enc, Bytes: b})
}

func (s *State) setRaw(key string, v Encoded) error {
	w, err := s.Create(key, v.Encoding, int64(len(v.Bytes)))
	if err != nil {
		return err
	}
	defer w.Abort()
	if v.Checked && len(v.Bytes) > 0 { // no JSON is empty, whoever says so
		w.json = nil
	}
	if _, err := w.Write(v.Bytes); err != nil {
		return err
	}
	return w.Close()
}

// Delete removes a key. One that is not there is none the less gone.
func (s *State) Delete(key string) error {
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.writable(key); err != nil {
		return err
	}
	if i := s.find(key); i >= 0 {
		return s.remove(i)
	}
	return nil
}

// Clear removes all keys: the state is an empty object then.
func (s *State) Clear() error {
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.writable(""); err != nil {
		return err
	}
	return s.clear()
}

func (s *State) clear() error {
	for i := range s.table.Rows {
		if err := s.remove(i); err != nil {
			return err
		}
	}
	s.table = ipc.Table{Kind: Object}
	s.held, s.index, s.whole = nil, nil, nil
	return nil
}

// SetValue makes v, encoded as JSON, the whole state: an object's members
// become its keys, anything else is a bare value.
func (s *State) SetValue(v any) error {
	ref, err := s.encode(v)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	doc, err := s.bytes(ref)
	if err == nil {
		var outline jsonscan.Document
		if outline, err = jsonscan.Top(doc, jsonscan.Options{}); err == nil {
			return s.putDocument(ref, outline)
		}
	}
	return errors.Join(fmt.Errorf("state: %w", err), s.step.executor.free(ref.Block()))
}

// encode writes v as a new block of the arena.
func (s *State) encode(v any) (shm.Ref, error) {
	ref, err := encodeJSON(s.step.executor.arena, v)
	if err != nil {
		return shm.Ref{}, err
	}
	s.step.executor.held.Add(int64(ref.Length))
	s.mu.Lock()
	s.step.encoded += ref.Length
	s.mu.Unlock()
	return ref, nil
}

// putDocument makes the members of a document the whole state; ref covers the
// document, which is a published block.
func (s *State) putDocument(ref shm.Ref, doc jsonscan.Document) error {
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.writable(""); err != nil {
		return errors.Join(err, s.step.executor.free(ref.Block()))
	}
	if err := s.clear(); err != nil {
		return errors.Join(err, s.step.executor.free(ref.Block()))
	}
	if doc.Kind != jsonscan.Object {
		s.table.Kind = Value
	}
	b := s.step.newBlock(ref.Block())
	s.live = len(doc.Members)
	rows, spans := make([]ipc.Row, s.live), make([]shm.Ref, s.live)
	s.held = make([]holds, s.live)
	for i := range doc.Members {
		m := &doc.Members[i]
		spans[i] = shm.Ref{Segment: ref.Segment, Offset: ref.Offset + uint64(m.Offset), Length: uint64(m.Length), Encoding: JSON}
		rows[i] = ipc.Row{Key: m.Key, Spans: spans[i : i+1 : i+1]}
		s.held[i] = holdsOf(b)
	}
	b.rows = s.live
	s.table.Rows = rows
	return nil
}

// putBlock sets a key to a whole published block.
func (s *State) putBlock(key string, ref shm.Ref) error {
	return s.put(key, ref.Block(), ref)
}

// put sets a key to a reference into a published block that the step does not
// know yet. A block without bytes was not published.
func (s *State) put(key string, pub shm.Block, ref shm.Ref) error {
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.writable(key); err != nil {
		if pub.Length > 0 {
			err = errors.Join(err, s.step.executor.free(pub))
		}
		return err
	}
	return s.putSpans(key, []shm.Ref{ref}, holdsBlock(s.step.newBlock(pub)))
}

// putSpans sets a key to spans, taking over the holds on them.
func (s *State) putSpans(key string, spans []shm.Ref, h holds) error {
	if s.table.Kind != Object {
		if err := s.clear(); err != nil {
			return err
		}
	}
	row := ipc.Row{Key: key, Spans: spans}
	i := s.find(key)
	s.ownRows()
	if i < 0 {
		s.table.Rows = append(s.table.Rows, row)
		s.held = append(s.held, h)
		s.live++
		if s.index != nil {
			s.index[key] = len(s.table.Rows) - 1
		}
		return nil
	}
	was := s.held[i]
	s.table.Rows[i], s.held[i] = row, h
	return errors.Join(s.unread(i), was.drop())
}

// unread forgets what was made of a row's former value.
func (s *State) unread(row int) error {
	delete(s.whole, row)
	return s.dropRope(row)
}

// SetFrom sets a key to the value that from has under fromKey, by reference:
// nothing is read or copied. from is a state of the same step: its own, a fork,
// or the result of a call, whose bytes stay for as long as they are referred to.
func (s *State) SetFrom(key string, from *State, fromKey string) error {
	if !utf8.ValidString(key) {
		return &KeyError{Key: key, Err: errKeyNotUTF8}
	}
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.writable(key); err != nil {
		return err
	}
	i, err := from.lookupFor(s, fromKey)
	if err != nil {
		return err
	}
	return s.putSpans(key, from.table.Rows[i].Spans, from.holdRow(i))
}

// lookupFor is lookup for another state, whose step must be the same.
func (s *State) lookupFor(other *State, key string) (int, error) {
	if s.step != other.step {
		return -1, &KeyError{Key: key, Err: errForeign}
	}
	return s.lookup(key)
}

// ownRows makes the rows the state's own to change: those that came with the
// message are shared.
func (s *State) ownRows() {
	if s.held == nil {
		s.table.Rows = slices.Clone(s.table.Rows)
		s.held = make([]holds, len(s.table.Rows), len(s.table.Rows)+4)
	}
}

// remove deletes a row. It leaves a row without spans, so that those behind it
// keep their numbers.
func (s *State) remove(i int) error {
	if len(s.table.Rows[i].Spans) == 0 {
		return nil
	}
	s.ownRows()
	if s.index != nil {
		delete(s.index, s.table.Rows[i].Key)
	}
	s.table.Rows[i].Spans = nil
	s.live--
	return errors.Join(s.unread(i), s.held[i].drop())
}
