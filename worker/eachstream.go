package worker

import (
	"context"
	"io"
	"iter"
)

// EachStream is [Each] for the items of a stream. It takes one when a call may
// begin, and yields replies also while none is there. The stream is closed when
// the loop ends.
func EachStream(ctx context.Context, s *State, name string, r *StreamReader, o EachOptions) iter.Seq2[*Reply, error] {
	return func(yield func(*Reply, error) bool) {
		defer r.Close()
		e := newEach(ctx, s, name, o, yield)
		e.signal = r.signal // news of either
		defer e.end()
		more := true
		for more || len(e.running) > 0 {
			if !more || len(e.running) >= e.options.Concurrency || e.ready() {
				if !e.next() {
					return
				}
				continue
			}
			if err := e.beginFrom(r); err != nil {
				if err != io.EOF {
					e.failed(err)
					return
				}
				more = false
			}
		}
	}
}

// beginFrom makes the call for a stream's next item, or waits for that or an
// answer. It returns io.EOF at the end.
func (e *each) beginFrom(r *StreamReader) error {
	r.mu.Lock()
	item, ok, err := r.poll()
	if !ok && err == nil {
		err = r.await(e.ctx, e.ready, func() bool { return e.ready() || r.news() })
	}
	r.mu.Unlock()
	if ok {
		err = e.begin(Encoded{Encoding: r.encoding, Bytes: item})
	}
	return err
}
