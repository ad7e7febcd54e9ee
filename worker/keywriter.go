package worker

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

var (
	errNotClosed = errors.New("its writer was never closed: Close publishes the value, Abort drops it")
	errClosed    = errors.New("its writer is closed")
)

// KeyWriter writes one key's value, encoded by its caller, straight into
// shared memory. It belongs to one goroutine. The state does not change before
// Close.
type KeyWriter struct {
	state    *State
	key      string
	encoding Encoding
	block    *shm.BlockWriter
	json     *jsonscan.Validator // of the bytes so far; nil for other encodings
	reserved []byte              // what Advance may append
	err      error
}

// Create starts writing a key's value. sizeHint is its expected length in
// bytes, 0 when unknown; a good one saves a copy. JSON is validated while it
// is written. Close or Abort must be called before the function returns nil.
func (s *State) Create(key string, enc Encoding, sizeHint int64) (*KeyWriter, error) {
	if !utf8.ValidString(key) {
		return nil, &KeyError{Key: key, Err: errKeyNotUTF8}
	}
	if !enc.Valid() {
		return nil, &KeyError{Key: key, Err: fmt.Errorf("%w: %d", shm.ErrInvalidEncoding, uint8(enc))}
	}
	w := &KeyWriter{state: s, key: key, encoding: enc, block: s.step.executor.arena.NewBlock(sizeHint)}
	if enc == JSON {
		w.json = jsonscan.NewValidator(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(key); err != nil {
		return nil, err
	}
	if s.open == nil {
		s.open = make(map[*KeyWriter]int)
	}
	s.open[w] = 1
	return w, nil
}

// Write appends p.
func (w *KeyWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.reserved = nil
	if err := w.feed(p); err != nil {
		return 0, err
	}
	n, err := w.block.Write(p)
	return n, w.fail(err)
}

// Reserve returns n bytes of shared memory behind the ones written, to be
// filled and appended by Advance. What they hold before is undefined. The
// slice is valid until the next call but Advance.
func (w *KeyWriter) Reserve(n int) ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	b, err := w.block.Reserve(n)
	w.reserved = b
	return b, w.fail(err)
}

// Advance appends the first n bytes of the slice that Reserve returned; the
// rest of it may be advanced over by further calls. It panics beyond that.
func (w *KeyWriter) Advance(n int) error {
	if w.err != nil {
		return w.err
	}
	p := w.reserved[:n]
	w.reserved = w.reserved[n:]
	if err := w.feed(p); err != nil {
		return err
	}
	w.block.Advance(n)
	return nil
}

// Len returns the bytes written so far.
func (w *KeyWriter) Len() int64 { return w.block.Len() }

// feed validates the next bytes. An error stays.
func (w *KeyWriter) feed(p []byte) error {
	if w.json == nil {
		return nil
	}
	return w.fail(w.json.Feed(p))
}

// fail keeps an error: what is missing now would be missed later too.
func (w *KeyWriter) fail(err error) error {
	if err != nil {
		w.err = w.wrap(err)
	}
	return w.err
}

func (w *KeyWriter) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &KeyError{Key: w.key, Err: err}
}

// Close publishes the value and sets the key. On an error the state is as it
// was, and the writer is closed. A second Close does nothing.
func (w *KeyWriter) Close() error {
	if w.err != nil {
		err := w.err
		w.Abort()
		if errors.Is(err, errClosed) {
			return nil
		}
		return err
	}
	if w.json != nil {
		if err := w.json.Finish(); err != nil {
			w.Abort()
			return w.wrap(err)
		}
	}
	ref := shm.Ref{Encoding: w.encoding}
	if w.block.Len() > 0 {
		var err error
		if ref, err = w.block.Commit(w.encoding); err != nil {
			w.Abort()
			return w.wrap(err)
		}
		w.state.step.executor.held.Add(int64(ref.Length))
	}
	// Without bytes there is nothing to publish: the key refers to none.
	w.Abort()
	return w.state.putBlock(w.key, ref)
}

// Abort gives up what was written. It does nothing after Close.
func (w *KeyWriter) Abort() {
	w.block.Abort()
	w.reserved = nil
	w.err = &KeyError{Key: w.key, Err: errClosed}
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	delete(w.state.open, w)
}
