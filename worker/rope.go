package worker

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

const (
	// ropeCopy is up to which length a piece is copied instead of referred to: a
	// reference and its comma take 64 bytes of every message that names them.
	ropeCopy = 4 << 10
	// ropeTail is how much is gathered in one block, bytes.
	ropeTail = 8 << 20
	// Where in the glue, which is "[,]", they are.
	glueComma, glueClose = 1, 2
)

// rope is a row that is appended to: an array made of the elements of others,
// or raw bytes. It is kept without its closing bracket. What is short goes into
// a block of its own, the tail; the rest is referred to where it lies.
type rope struct {
	encoding Encoding
	spans    []shm.Ref
	tail     *shm.BlockWriter // what comes behind spans; nil: nothing yet
	elements bool             // there is one, so the next one needs a comma
	dirty    bool             // the row does not show it all
	err      error            // stays: something is missing
}

// Append appends v, encoded as JSON, to the array under key, which is made when
// there is none. It costs the element's own bytes, whatever the array has
// already.
func (s *State) Append(key string, v any) error {
	e, err := newEncoding(s.step.executor.arena, v)
	if err != nil {
		return keyed(key, err)
	}
	defer e.release()
	var ref shm.Ref
	if long := e.block != nil || len(e.buf) > ropeCopy; long {
		if ref, err = e.publish(); err != nil {
			return keyed(key, err)
		}
		s.step.executor.held.Add(int64(ref.Length))
	}
	s.mu.Lock()
	defer s.step.unlock()
	h := holdsBlock(s.step.newBlock(ref.Block()))
	i, r, err := s.rope(key, JSON)
	switch {
	case err != nil:
		err = errors.Join(err, h.drop())
	case ref.Length > 0:
		s.step.encoded += ref.Length
		err = s.attach(i, r, []shm.Ref{ref}, h)
	default:
		s.step.encoded += uint64(len(e.buf))
		err = s.copyIn(i, r, e.buf)
	}
	return ropeError(key, err)
}

// AppendFrom appends the JSON value that from has under fromKey, as one
// element, to the array under key. Nothing of it is read, and a long value is
// not copied.
func (s *State) AppendFrom(key string, from *State, fromKey string) error {
	return s.join(key, from, fromKey, JSON, false)
}

// Extend appends the elements of the array that from has under fromKey to the
// array under key. Only the brackets are looked at: the elements become part of
// the new array where they lie, and only short arrays are copied. So a thousand
// pages make one array without a page being copied.
func (s *State) Extend(key string, from *State, fromKey string) error {
	return s.join(key, from, fromKey, JSON, true)
}

// AppendRaw appends bytes to the raw value under key, which is made when there
// is none: frames of a compressed stream, for instance.
func (s *State) AppendRaw(key string, p []byte) error {
	s.mu.Lock()
	defer s.step.unlock()
	i, r, err := s.rope(key, Raw)
	if err == nil {
		err = s.copyIn(i, r, p)
	}
	return ropeError(key, err)
}

func ropeError(key string, err error) error {
	if err == nil {
		return nil
	}
	return keyed(key, err)
}

func (s *State) join(key string, from *State, fromKey string, enc Encoding, elements bool) error {
	s.mu.Lock()
	defer s.step.unlock()
	j, err := from.lookupFor(s, fromKey)
	if err != nil {
		return err
	}
	if is := from.table.Rows[j].Encoding(); is != enc {
		return &KeyError{Key: fromKey, Err: fmt.Errorf("its encoding is %s, not %s", is, enc)}
	}
	spans := from.table.Rows[j].Spans
	if elements {
		if spans, err = from.trimArray(spans); err != nil {
			return &KeyError{Key: fromKey, Err: err}
		}
	}
	h := from.holdRow(j) // first: from may be s
	i, r, err := s.rope(key, enc)
	if err != nil {
		return ropeError(key, errors.Join(err, h.drop()))
	}
	return ropeError(key, s.attach(i, r, spans, h))
}

// rope returns the rope that a key is, having made one of its value.
func (s *State) rope(key string, enc Encoding) (int, *rope, error) {
	if !utf8.ValidString(key) {
		return 0, nil, errKeyNotUTF8
	}
	if err := s.writable(key); err != nil {
		return 0, nil, err
	}
	i := s.find(key)
	if i >= 0 && s.ropes[i] != nil {
		r := s.ropes[i]
		if r.encoding != enc {
			return 0, nil, fmt.Errorf("it holds %s, and %s cannot be appended to that", r.encoding, enc)
		}
		return i, r, r.err
	}
	r := &rope{encoding: enc}
	if i < 0 {
		// Something must stand for the value until it is asked for.
		ref, h := shm.Ref{Encoding: enc}, holds{}
		if enc == JSON {
			var err error
			if ref, h, err = s.glue(); err != nil {
				return 0, nil, err
			}
			r.spans = []shm.Ref{ref}
		}
		if err := s.putSpans(key, []shm.Ref{ref}, h); err != nil {
			return 0, nil, err
		}
		i = s.find(key)
	} else if err := s.begin(i, r); err != nil {
		return 0, nil, err
	}
	r.dirty = true
	if s.ropes == nil {
		s.ropes = make(map[int]*rope)
	}
	s.ropes[i] = r
	return i, r, r.err
}

// begin makes what a row holds the start of a rope.
func (s *State) begin(row int, r *rope) error {
	spans := s.table.Rows[row].Spans
	if is := s.table.Rows[row].Encoding(); is != r.encoding {
		return fmt.Errorf("it holds %s, and %s cannot be appended to that", is, r.encoding)
	}
	if r.encoding != JSON {
		s.ownRows()
		r.spans = slices.Clone(spans)
		return nil
	}
	elements, err := s.trimArray(spans)
	if err != nil {
		return err
	}
	open, h, err := s.glue()
	if err != nil {
		return err
	}
	s.ownRows()
	before := s.held[row]
	r.spans, s.held[row] = []shm.Ref{open}, h
	if err := s.attach(row, r, elements, before); err != nil {
		r.err = err // what the row held is lost
	}
	return nil
}

// glue returns a reference to the opening bracket of the step's glue, and a
// hold on it; the comma and the closing bracket are next to it.
func (s *State) glue() (shm.Ref, holds, error) {
	st := s.step
	if st.glue == nil || st.glue.rows == 0 {
		ref, err := st.executor.arena.Write(JSON, []byte("[,]"))
		if err != nil {
			return shm.Ref{}, holds{}, err
		}
		st.executor.held.Add(int64(ref.Length))
		st.glue = st.newBlock(ref.Block())
	} else {
		st.glue.hold()
	}
	return shm.Ref{Segment: st.glue.ref.Segment, Offset: st.glue.ref.Offset, Length: 1, Encoding: JSON}, holdsOf(st.glue), nil
}

// glued returns the reference to another character of a rope's glue. The rope
// has a hold on it for its opening bracket.
func (r *rope) glued(at uint64) shm.Ref {
	ref := r.spans[0]
	ref.Offset += at
	return ref
}

// attach appends a piece by reference, taking over the holds on it; a short one
// is copied.
func (s *State) attach(row int, r *rope, piece []shm.Ref, h holds) error {
	size := (&ipc.Row{Spans: piece}).Size()
	switch {
	case len(piece) == 0:
		return h.drop()
	case size <= ropeCopy:
		p, err := s.gather(piece, size)
		if err == nil {
			err = s.copyIn(row, r, p)
		}
		return errors.Join(err, h.drop())
	}
	r.dirty = true
	if r.encoding == JSON && r.elements {
		if r.tail == nil {
			r.spans = append(r.spans, r.glued(glueComma))
		} else if err := r.tail.WriteByte(','); err != nil {
			return errors.Join(err, h.drop())
		}
	}
	if err := s.endTail(row, r); err != nil {
		return errors.Join(err, h.drop())
	}
	for _, span := range piece {
		if span.Length > 0 {
			r.spans = append(r.spans, span)
		}
	}
	r.elements = true
	s.held[row].add(h)
	return nil
}

// copyIn appends a piece by copying it. On an error nothing of it is there.
func (s *State) copyIn(row int, r *rope, p []byte) error {
	if r.tail != nil && r.tail.Len() > ropeTail {
		if err := s.endTail(row, r); err != nil {
			return err
		}
	}
	if r.tail == nil {
		r.tail = s.step.executor.arena.NewBlock(0)
	}
	r.dirty = true
	if r.encoding != JSON {
		_, err := r.tail.Write(p)
		return err
	}
	b, err := r.tail.Reserve(len(p) + 1)
	if err != nil {
		return err
	}
	n := 0
	if r.elements {
		b[0] = ','
		n = 1
	}
	r.tail.Advance(n + copy(b[n:], p))
	r.elements = true
	return nil
}

// endTail makes the tail one of the spans.
func (s *State) endTail(row int, r *rope) error {
	if r.err != nil || r.tail == nil {
		return r.err
	}
	tail := r.tail
	r.tail = nil
	if tail.Len() == 0 {
		tail.Abort()
		return nil
	}
	ref, err := tail.Commit(r.encoding)
	if err != nil {
		r.err = err
		return err
	}
	s.step.executor.held.Add(int64(ref.Length))
	s.held[row].add(holdsOf(s.step.newBlock(ref.Block())))
	r.spans = append(r.spans, ref)
	return nil
}

// settle has every row show what was appended to it.
func (s *State) settle() error {
	for i := range s.ropes {
		if err := s.settleRow(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) settleRow(row int) error {
	r := s.ropes[row]
	if r == nil || !r.dirty {
		return nil
	}
	if err := s.endTail(row, r); err != nil {
		return keyed(s.table.Rows[row].Key, err)
	}
	spans := slices.Clone(r.spans)
	switch {
	case r.encoding == JSON:
		spans = append(spans, r.glued(glueClose))
	case len(spans) == 0:
		spans = []shm.Ref{{Encoding: r.encoding}}
	}
	s.table.Rows[row].Spans = spans
	delete(s.whole, row)
	r.dirty = false
	return nil
}

// dropRope forgets that a row is appended to.
func (s *State) dropRope(row int) error {
	if r := s.ropes[row]; r != nil {
		if r.tail != nil {
			r.tail.Abort()
		}
		delete(s.ropes, row)
	}
	return nil
}

// gather copies spans.
func (s *State) gather(spans []shm.Ref, size uint64) ([]byte, error) {
	b := make([]byte, 0, size)
	for _, span := range spans {
		p, err := s.bytes(span)
		if err != nil {
			return nil, err
		}
		b = append(b, p...)
	}
	return b, nil
}

var errNoArray = errors.New("it is no array")

// trimArray returns the elements of an array with the commas between them: none
// for an empty one. It reads what stands before the first element and behind
// the last.
func (s *State) trimArray(spans []shm.Ref) ([]shm.Ref, error) {
	inner, open, err := s.trimLeft(slices.Clone(spans))
	if err != nil {
		return nil, err
	}
	inner, end, err := s.trimRight(inner)
	switch {
	case err != nil:
		return nil, err
	case open != '[' || end != ']':
		return nil, errNoArray
	}
	for ; len(inner) > 0; inner = inner[1:] {
		p, err := s.bytes(inner[0])
		if err != nil {
			return nil, err
		}
		for i, c := range p {
			if !isSpace(c) {
				inner[0].Offset += uint64(i)
				inner[0].Length -= uint64(i)
				return inner, nil
			}
		}
	}
	return nil, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// trimLeft takes off the first character that is no space, and what is before
// it, and returns it; 0 when there is none.
func (s *State) trimLeft(spans []shm.Ref) ([]shm.Ref, byte, error) {
	for ; len(spans) > 0; spans = spans[1:] {
		p, err := s.bytes(spans[0])
		if err != nil {
			return nil, 0, err
		}
		for i, c := range p {
			if !isSpace(c) {
				spans[0].Offset += uint64(i + 1)
				spans[0].Length -= uint64(i + 1)
				return spans, c, nil
			}
		}
	}
	return nil, 0, nil
}

// trimRight is trimLeft from the other end.
func (s *State) trimRight(spans []shm.Ref) ([]shm.Ref, byte, error) {
	for ; len(spans) > 0; spans = spans[:len(spans)-1] {
		last := &spans[len(spans)-1]
		p, err := s.bytes(*last)
		if err != nil {
			return nil, 0, err
		}
		for i := len(p) - 1; i >= 0; i-- {
			if !isSpace(p[i]) {
				last.Length = uint64(i)
				return spans, p[i], nil
			}
		}
	}
	return nil, 0, nil
}
