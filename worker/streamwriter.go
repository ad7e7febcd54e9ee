package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"unicode/utf8"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/stream"
	"github.com/millrace/millrace/shm"
)

// StreamOptions change a stream; the zero value is fine.
type StreamOptions struct {
	// Encoding of each item: JSON by default.
	Encoding Encoding
	// Capacity of the stream's memory in bytes, of which an item may take half:
	// a power of two from 64 KiB to 1 GiB, rounded up. 0 is the supervisor's
	// default.
	Capacity uint64
}

// StreamWriter writes the items of a stream, straight into the memory that its
// reader reads. A write waits until the reader has asked for another item and
// there is room for it. Several goroutines may call its methods, but nothing may
// be written between a Reserve and its Commit.
type StreamWriter struct {
	streamEnd
	writing  sync.Mutex // held by a write, also while it waits; before mu
	ring     *stream.Writer
	encoding Encoding
	maxItem  int
	reserved int // the size that a wait is for
	spin     func() bool
	sleep    func() (bool, error)

	json *json.Encoder // writes to text; made when first used
	text bytes.Buffer
}

// Stream hands the state over to the next steps now, with a stream under key
// that this step goes on to feed while they run: what would be the function's
// result is theirs already, and can only be read from here on. It is the step's
// own state, not a Fork, and a step can feed one stream.
//
// ctx ends the waits of Stream and of each write. When the function returns, its
// stream ends: well if it returns nil, else with its error, which fails whoever
// reads it.
//
// Errors: ErrNoStreams; a *StreamError when the supervisor refuses the stream;
// ctx's error. The step fails after the last two, whatever the function returns.
func (s *State) Stream(ctx context.Context, key string, o StreamOptions) (*StreamWriter, error) {
	st := s.step
	if o.Encoding == 0 {
		o.Encoding = JSON
	}
	switch {
	case !st.executor.streams:
		return nil, keyed(key, ErrNoStreams)
	case s != &st.state:
		return nil, keyed(key, errors.New("only the step's own state can be handed over with a stream"))
	case !utf8.ValidString(key):
		return nil, keyed(key, errKeyNotUTF8)
	case st.executor.isPrivate(key):
		return nil, keyed(key, errors.New("it would be dropped: a key that starts with _ or is configured to be dropped never leaves a step"))
	case !o.Encoding.Valid():
		return nil, keyed(key, fmt.Errorf("%w: %d", shm.ErrInvalidEncoding, uint8(o.Encoding)))
	}
	w := &StreamWriter{encoding: o.Encoding}
	w.init(ctx, st, key)
	handed := false
	err := w.openRing(w, func(take func(*ipc.Envelope, error)) error {
		err := st.handOverState(&ipc.Stream{Key: key, Encoding: o.Encoding, Capacity: o.Capacity}, take)
		handed = err == nil
		return err
	}, func(m *ipc.StreamRing, f *os.File) (err error) {
		w.ring, err = stream.NewWriter(f, m.Capacity, w.sendWake)
		return err
	})
	if err != nil {
		err = keyed(key, err)
		if handed {
			st.mu.Lock()
			st.streamErr = err
			st.mu.Unlock()
		}
		return nil, err
	}
	w.maxItem = w.ring.MaxItem()
	w.spin = w.ring.Spin
	w.sleep = func() (bool, error) { return w.ring.Sleep(w.reserved) }
	return w, nil
}

// handOverState sends the step's state without its private keys.
func (st *step) handOverState(m *ipc.Stream, take func(*ipc.Envelope, error)) error {
	st.sending.Lock()
	defer st.sending.Unlock()
	// Nothing is to be forgotten about it: it is only what the blocks are lent to.
	c := newCall(st, "")
	table, blocks, held, err := st.state.rowsToHandOver(m.Key, c)
	if err != nil {
		return err
	}
	m.Blocks = refsOf(blocks)
	_, err = st.executor.peer.StartFunc(&ipc.Envelope{Message: m, State: table}, nil, take)
	st.mu.Lock()
	defer st.unlock()
	st.state.handed = err == nil
	return sent(err, blocks, held)
}

// rowsToHandOver returns what the next steps get beside the stream, lent to c.
func (s *State) rowsToHandOver(key string, c *call) (table ipc.Table, blocks []*block, held []holds, err error) {
	s.mu.Lock()
	defer s.step.unlock()
	if err := s.writable(key); err != nil {
		return table, nil, nil, err
	}
	for w := range s.open {
		return table, nil, nil, &KeyError{Key: w.key, Err: errNotClosed}
	}
	if err := s.settle(); err != nil {
		return table, nil, nil, err
	}
	f := s.fork()
	if f.table.Kind != Object {
		err = f.clear()
	} else if err = f.dropPrivate(); err == nil {
		if i := f.find(key); i >= 0 {
			err = f.remove(i)
		}
	}
	if err == nil {
		table, blocks, held, err = c.lendAll(f)
	}
	if err != nil {
		err = errors.Join(err, f.release())
	}
	return table, blocks, held, err
}

// Write writes an item, copying it: its bytes as they are encoded. JSON is not
// validated; whoever reads it finds out.
//
// Errors, of all that write: ErrReaderDone when the reader wants no more; a
// *StreamError when it failed; an *ItemSizeError, after which the next item can
// be written; ctx's error.
func (w *StreamWriter) Write(item []byte) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.write(item)
}

func (w *StreamWriter) write(item []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.reserve(len(item))
	if err != nil {
		return err
	}
	w.ring.Commit(copy(b, item))
	return nil
}

// Encode writes v as a JSON item, by the rules of Set.
func (w *StreamWriter) Encode(v any) error {
	if w.encoding != JSON {
		return keyed(w.key, fmt.Errorf("its items are %s: Write them", w.encoding))
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	if w.json == nil {
		w.json = json.NewEncoder(&w.text)
		w.json.SetEscapeHTML(false)
	}
	w.text.Reset()
	if err := w.json.Encode(v); err != nil {
		return keyed(w.key, encodeError(v, err))
	}
	return w.write(bytes.TrimSuffix(w.text.Bytes(), []byte("\n")))
}

// Reserve returns n bytes of the stream's memory for the next item, to be filled
// and published by Commit. What they hold before is undefined. The slice is
// valid until the next call.
func (w *StreamWriter) Reserve(n int) ([]byte, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reserve(n)
}

// Commit writes the first n bytes of what Reserve returned as an item. It panics
// when that was fewer.
func (w *StreamWriter) Commit(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	w.ring.Commit(n)
	return nil
}

// reserve waits for room and demand. mu is held, but not meanwhile.
func (w *StreamWriter) reserve(n int) ([]byte, error) {
	for {
		if err := w.over(); err != nil {
			return nil, err
		}
		b, ok, err := w.ring.Reserve(n)
		if ok {
			return b, nil
		}
		if err == nil {
			w.reserved = n
			err = w.wait(w.ctx, w.ring, w.spin, w.sleep, w.news)
		}
		if err != nil {
			return nil, w.failed(err)
		}
	}
}

// over returns why nothing can be written any more, or nil. mu is held.
func (w *StreamWriter) over() error {
	if !w.closed && w.ended.Load() {
		err := keyed(w.key, ErrReaderDone)
		if w.failure != nil {
			err = w.failure
		}
		w.close(w.ring, nil, err)
	}
	return w.err
}

// Done is closed when the reader wants no more, or has failed, for a function
// that waits for something else than its next write. Err tells which.
func (w *StreamWriter) Done() <-chan struct{} { return w.gone }

// Err returns what every write would fail with now, nil while it would not.
func (w *StreamWriter) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over()
}

// failed is what a write returns for an error of the ring's or of a wait.
func (w *StreamWriter) failed(err error) error {
	var size *stream.ItemSizeError
	var breach *stream.BreachError
	switch {
	case errors.As(err, &size):
		return &ItemSizeError{Key: w.key, Item: w.ring.Items(), Size: size.Size, Limit: size.Limit}
	case errors.As(err, &breach):
		failed, end := w.broken(err)
		w.close(w.ring, end, failed)
		return failed
	}
	return keyed(w.key, err)
}

// MaxItem returns the size of the largest item, in bytes.
func (w *StreamWriter) MaxItem() int { return w.maxItem }

// Items returns how many items were written.
func (w *StreamWriter) Items() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ring.Items()
}

// Close says that all items are written. The function may go on. It returns the
// *StreamError of a reader that has failed by now; a second Close does nothing.
func (w *StreamWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.finish(new(ipc.StreamEnd))
	if w.ended.Load() && w.failure != nil {
		return w.failure
	}
	return nil
}

// CloseWithError ends the stream with an error, at once: the reader fails with
// it. It does nothing after a Close.
func (w *StreamWriter) CloseWithError(err error) {
	f := w.step.fail(err, nil, "")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish(&ipc.StreamEnd{Severity: f.Severity, Name: f.Name, Message: f.Message})
}

func (w *StreamWriter) finish(end *ipc.StreamEnd) {
	w.close(w.ring, end, keyed(w.key, errStreamClosed))
}
