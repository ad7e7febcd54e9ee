package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/stream"
	"github.com/millrace/millrace/shm"
)

// StreamReader reads the items of a stream where their writer has put them. It
// asks for items as they are used up, unless the step's demand is manual. It is
// for one goroutine at a time.
type StreamReader struct {
	streamEnd
	ring     *stream.Reader
	encoding Encoding
	spin     func() bool
	sleep    func() (bool, error)
	text     []byte // a copy of an item while it is decoded
}

// OpenStream begins to read a stream of the step's input, which only one step
// can do. The key is gone from the state then; a stream that nobody opens is
// passed on like any key.
//
// ctx ends the waits of OpenStream and of each Next. When the function returns,
// a stream that is open still ends: nothing more is wanted of it, or with the
// function's error, which fails whoever writes it.
//
// Errors: ErrNoStreams, ErrNoKey, ErrNotStream; a *StreamError when the
// supervisor refuses the stream; ctx's error.
func (s *State) OpenStream(ctx context.Context, key string) (*StreamReader, error) {
	st := s.step
	if !st.executor.streams {
		return nil, keyed(key, ErrNoStreams)
	}
	ref, err := s.streamRef(key)
	if err != nil {
		return nil, err
	}
	r := &StreamReader{encoding: ref.Encoding}
	r.init(ctx, st, key)
	err = r.openRing(r, func(take func(*ipc.Envelope, error)) error {
		return st.consume(ref.Segment, take)
	}, func(m *ipc.StreamRing, f *os.File) (err error) {
		demand := stream.Demand{Max: m.MaxDemand, Min: m.MinDemand, Manual: m.Manual}
		r.ring, err = stream.NewReader(f, m.Capacity, demand, r.sendWake)
		return err
	})
	if err != nil {
		return nil, keyed(key, err)
	}
	r.spin = r.ring.Spin
	r.sleep = r.ring.Sleep
	s.mu.Lock()
	defer s.step.unlock()
	if i := s.find(key); i >= 0 && s.writable(key) == nil {
		err = s.remove(i)
	}
	return r, err
}

// streamRef returns what stands for a stream.
func (s *State) streamRef(key string) (shm.Ref, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.lookup(key)
	if err != nil {
		return shm.Ref{}, err
	}
	if !isStream(&s.table.Rows[i]) {
		return shm.Ref{}, &KeyError{Key: key, Err: ErrNotStream}
	}
	return s.table.Rows[i].Spans[0], nil
}

func (st *step) consume(id shm.SegmentID, take func(*ipc.Envelope, error)) error {
	st.sending.Lock()
	defer st.sending.Unlock()
	st.mu.Lock()
	over := st.over
	st.mu.Unlock()
	if over {
		return errOver
	}
	_, err := st.executor.peer.StartFunc(&ipc.Envelope{Message: &ipc.Consume{Stream: id}}, nil, take)
	return err
}

// Encoding returns that of each item.
func (r *StreamReader) Encoding() Encoding { return r.encoding }

// Next returns the next item, in the stream's memory and without a copy; io.EOF
// after the last. It is valid until the next call, and what a misbehaving writer
// does to it until then is seen.
//
// Errors: a *StreamError when the step that writes it failed, which takes effect
// at once; ctx's error.
func (r *StreamReader) Next() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		b, ok, err := r.poll()
		if ok || err != nil {
			return b, err
		}
		if err := r.await(r.ctx, r.spin, r.news); err != nil {
			return nil, err
		}
	}
}

// await waits for an item, or until news reports true. mu is held.
func (r *StreamReader) await(ctx context.Context, spin, news func() bool) error {
	if r.ring.Manual() && r.ring.Asked() == 0 {
		r.ring.Ask(1) // or it would wait for ever
	}
	if err := r.wait(ctx, r.ring, spin, r.sleep, news); err != nil {
		return r.failed(err)
	}
	return nil
}

// Ready reports whether Next returns at once: there is an item, or an end.
func (r *StreamReader) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed || r.ended.Load() || r.ring.Ready()
}

// poll returns the next item if it is there. mu is held.
func (r *StreamReader) poll() ([]byte, bool, error) {
	if r.closed {
		return nil, false, r.err
	}
	ended := r.ended.Load() // before the look: what was written before is there
	if ended && r.failure != nil {
		r.close(r.ring, nil, r.failure)
		return nil, false, r.err
	}
	b, ok, err := r.ring.Next()
	switch {
	case err != nil:
		return nil, false, r.failed(err)
	case !ok && ended:
		r.close(r.ring, nil, io.EOF)
		return nil, false, io.EOF
	}
	return b, ok, nil
}

// failed is what Next returns for an error of the ring's or of a wait.
func (r *StreamReader) failed(err error) error {
	if breach := (*stream.BreachError)(nil); errors.As(err, &breach) {
		failed, end := r.broken(err)
		r.close(r.ring, end, failed)
		return failed
	}
	return keyed(r.key, err)
}

// Decode decodes the next item, a JSON value, into v by the rules of
// encoding/json. Its errors are Next's, and a *KeyError that tells the item's
// number, after which the next one can be read.
func (r *StreamReader) Decode(v any) error {
	if r.encoding != JSON {
		return keyed(r.key, fmt.Errorf("its items are %s, not json: read them with Next", r.encoding))
	}
	b, err := r.Next()
	if err != nil {
		return err
	}
	// Its writer could change the bytes while they are parsed: not the copy.
	r.text = append(r.text[:0], b...)
	if err := json.Unmarshal(r.text, v); err != nil {
		return keyed(r.key, fmt.Errorf("item %d: %w", r.ring.Items()-1, err))
	}
	return nil
}

// Items yields each item of a stream, decoded from JSON, and a nil error; an
// error is the last thing it yields. A loop that ends early closes the stream.
func Items[T any](r *StreamReader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		defer r.Close()
		for {
			var v T
			err := r.Decode(&v)
			if err == io.EOF || !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// All yields each item as it is encoded, valid until the next one, and a nil
// error; an error is the last thing it yields. A loop that ends early closes the
// stream. To call a step for each use EachStream.
func (r *StreamReader) All() iter.Seq2[Encoded, error] {
	return func(yield func(Encoded, error) bool) {
		defer r.Close()
		for {
			b, err := r.Next()
			if err == io.EOF || !yield(Encoded{Encoding: r.encoding, Bytes: b}, err) || err != nil {
				return
			}
		}
	}
}

// Ask asks for n items more where the step's demand is manual: its writer makes
// none that was not asked for, though a Next that has to wait asks for that one.
// Otherwise it does nothing.
func (r *StreamReader) Ask(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && n > 0 {
		r.ring.Ask(uint64(n))
	}
}

// Close says that no more is wanted: the writer is told so. It never fails, and
// a second Close does nothing.
func (r *StreamReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish(new(ipc.StreamEnd))
	return nil
}

func (r *StreamReader) finish(end *ipc.StreamEnd) {
	r.close(r.ring, end, keyed(r.key, errStreamClosed))
}
