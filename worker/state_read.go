package worker

import (
	"encoding/json"
	"fmt"
	"io"
	"math"

	"github.com/millrace/millrace/shm"
)

// Get decodes the JSON value of a key.
func Get[T any](s *State, key string) (T, error) {
	var v T
	err := s.Decode(key, &v)
	return v, err
}

// Decode decodes the JSON value of a key into v, by the rules of
// encoding/json. A key of another encoding is an error; so is a missing one
// (ErrNoKey).
func (s *State) Decode(key string, v any) error {
	if enc := s.Encoding(key); enc != 0 && enc != JSON {
		return &KeyError{Key: key, Err: fmt.Errorf("its encoding is %s, not json: read it with Raw or Reader, an Arrow stream with package arrowstate", enc)}
	}
	b, err := s.Raw(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.step.decoded += uint64(len(b))
	s.mu.Unlock()
	if err := json.Unmarshal(b, v); err != nil {
		return &KeyError{Key: key, Err: err}
	}
	return nil
}

// Raw returns the bytes of a key's value as they are encoded, in the mapping
// and without a copy; only a value of several spans is copied, once, into the
// heap. The bytes are read-only: writing to them fails the step. They are
// valid until the function returns.
func (s *State) Raw(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.lookup(key)
	if err != nil {
		return nil, err
	}
	s.markRead(i)
	spans := s.table.Rows[i].Spans
	if len(spans) == 1 {
		b, err := s.bytes(spans[0])
		if err != nil {
			return nil, &KeyError{Key: key, Err: err}
		}
		return b, nil
	}
	if b, ok := s.whole[i]; ok {
		return b, nil
	}
	size := s.table.Rows[i].Size()
	if size > math.MaxInt64/2 {
		return nil, &KeyError{Key: key, Err: fmt.Errorf("its spans claim %d bytes", size)}
	}
	// Each span is checked before its bytes are counted on.
	pieces := make([][]byte, len(spans))
	for j, span := range spans {
		if pieces[j], err = s.bytes(span); err != nil {
			return nil, &KeyError{Key: key, Err: err}
		}
	}
	b := make([]byte, 0, size)
	for _, p := range pieces {
		b = append(b, p...)
	}
	if s.whole == nil {
		s.whole = make(map[int][]byte)
	}
	s.whole[i] = b
	return b, nil
}

// Reader returns a reader of a key's value as it is encoded, span after span,
// without gathering them. A missing key is an error of the first Read. It is
// valid until the function returns.
func (s *State) Reader(key string) *Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.lookup(key)
	if err != nil {
		return &Reader{err: err}
	}
	s.markRead(i)
	return &Reader{state: s, key: key, spans: s.table.Rows[i].Spans}
}

// markRead keeps blocks that this step wrote until the step is over, because
// their bytes are in somebody's hands.
func (s *State) markRead(row int) {
	if s.held == nil {
		return
	}
	s.held[row].each(func(h holder) {
		if b, ok := h.(*block); ok {
			b.read = true
		}
	})
}

func (s *State) bytes(ref shm.Ref) ([]byte, error) { return s.step.executor.segments.slice(ref) }

// bytesNow is bytes for a reader that was made earlier.
func (s *State) bytesNow(key string, ref shm.Ref) ([]byte, error) {
	if s.source != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.usable(key); err != nil {
			return nil, err
		}
	}
	return s.bytes(ref)
}

// Reader reads one value. It is an io.Reader and an io.WriterTo, for one
// goroutine.
type Reader struct {
	state *State
	key   string
	spans []shm.Ref // not begun yet
	rest  []byte
	err   error
}

// Next returns the next piece of the value in the mapping, never empty; io.EOF
// at the end.
func (r *Reader) Next() ([]byte, error) {
	if err := r.next(); err != nil {
		return nil, err
	}
	p := r.rest
	r.rest = nil
	return p, nil
}

// next makes rest the next bytes, or returns an error.
func (r *Reader) next() error {
	for len(r.rest) == 0 {
		if r.err == nil && len(r.spans) == 0 {
			r.err = io.EOF
		}
		if r.err != nil {
			return r.err
		}
		b, err := r.state.bytesNow(r.key, r.spans[0])
		if err != nil {
			r.err = keyed(r.key, err)
			return r.err
		}
		r.rest, r.spans = b, r.spans[1:]
	}
	return nil
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: each span is one Write, straight from the
// mapping.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		r.rest = r.rest[n:]
		if err != nil {
			return total, err
		}
	}
}
