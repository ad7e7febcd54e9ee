package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// streamText is how a stream shows in a document.
const streamText = `"[stream]"`

var (
	// ErrNoStreams is returned where the supervisor does not offer streams.
	ErrNoStreams = errors.New("the supervisor does not offer streams: it is older than this library, or this executor is not for them")
	// ErrStream is the error of reading a key as a value that is a stream.
	ErrStream = errors.New("it is a stream, which only OpenStream reads")
	// ErrNotStream is returned where a key is opened as a stream and is none.
	ErrNotStream = errors.New("it is no stream: read it as a value")
	// ErrReaderDone is returned to the writer of a stream whose reader wants no
	// more. A function that returns it has ended well.
	ErrReaderDone = errors.New("the reader of the stream wants no more items")

	errStreamClosed = errors.New("the stream is closed")
)

// StreamError is how a stream ended that did not end well: the step at the other
// end failed or died, or the supervisor refused the stream. A function that
// returns it fails with the same name and severity.
type StreamError struct {
	Key string
	// Severity, Name and Message are those of the other step's error; the message
	// names the step.
	Severity      ipc.Severity
	Name, Message string
	// Err is the cause on this side, or nil: a *stream.BreachError of another
	// end that broke the rules of their memory.
	Err error
}

// Error implements error.
func (e *StreamError) Error() string {
	return fmt.Sprintf("stream %q: %s: %s", e.Key, e.Name, e.Message)
}

// Unwrap returns the cause.
func (e *StreamError) Unwrap() error { return e.Err }

// ItemSizeError is an item that its stream is too small for. Nothing was
// written.
type ItemSizeError struct {
	Key         string
	Item        uint64 // its number, from 0
	Size, Limit int    // bytes
}

// Error implements error.
func (e *ItemSizeError) Error() string {
	return fmt.Sprintf("item %d of stream %q has %d bytes, and at most %d fit: write smaller items, or give the stream a larger capacity", e.Item, e.Key, e.Size, e.Limit)
}

// IsStream reports whether a key is a stream.
func (s *State) IsStream(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(key)
	return i >= 0 && isStream(&s.table.Rows[i])
}

func isStream(r *ipc.Row) bool { return r.Spans[0].Flags&shm.FlagStream != 0 }

// streamUser is a StreamWriter or a StreamReader.
type streamUser interface {
	base() *streamEnd
	// finish gives the ring up, and tells the other end so if it is not finished
	// itself. The end's mu is held.
	finish(end *ipc.StreamEnd)
}

// ring is either end's memory.
type ring interface {
	Slept()
	Close() error
}

// streamEnd is what both ends of a stream have.
type streamEnd struct {
	step   *step
	ctx    context.Context // of whoever opened it
	key    string
	id     shm.SegmentID
	signal chan struct{} // has room for one: there are news
	woken  atomic.Bool
	// ended says that the other end is finished; failure, set before, why if not
	// well.
	ended   atomic.Bool
	failure *StreamError
	gone    chan struct{} // closed then

	mu     sync.Mutex // held while the ring is used; not while waiting for the other end
	mapped bool       // there is a ring
	closed bool
	err    error // what every use returns once closed
}

func (e *streamEnd) init(ctx context.Context, st *step, key string) {
	e.ctx, e.step, e.key = ctx, st, key
	e.signal, e.gone = make(chan struct{}, 1), make(chan struct{})
}

func (e *streamEnd) base() *streamEnd { return e }

// heard acts on news of a stream; end is nil for a wake. What is not open any
// more is ignored.
func (x *executor) heard(id shm.SegmentID, end *ipc.StreamEnd) {
	s := x.current.Load()
	if s == nil {
		return
	}
	s.mu.Lock()
	user := s.streams[id]
	s.mu.Unlock()
	if user != nil {
		user.base().hear(end)
	}
}

func (e *streamEnd) hear(end *ipc.StreamEnd) {
	switch {
	case end == nil:
		e.woken.Store(true)
	case !e.ended.Load():
		if end.Name != "" {
			e.failure = &StreamError{Key: e.key, Severity: end.Severity, Name: end.Name, Message: end.Message}
		}
		e.ended.Store(true)
		close(e.gone)
	}
	e.notify()
}

// notify has whoever waits look for news.
func (e *streamEnd) notify() {
	select {
	case e.signal <- struct{}{}:
	default:
	}
}

// news reports whether there is cause to look at the ring again.
func (e *streamEnd) news() bool { return e.woken.Load() || e.ended.Load() }

// wait waits for the other end, until news reports true: spin and sleep are the
// ring's. mu is held, but not meanwhile.
func (e *streamEnd) wait(ctx context.Context, r ring, spin func() bool, sleep func() (bool, error), news func() bool) error {
	if spin() {
		return nil
	}
	e.woken.Store(false)
	asleep, err := sleep()
	if !asleep || err != nil {
		return err
	}
	e.mu.Unlock()
	e.step.await(ctx, news, e.signal)
	e.mu.Lock()
	if e.closed {
		return nil // whoever waited finds out
	}
	r.Slept()
	if news() {
		return nil
	}
	return e.cancelled(ctx)
}

// cancelled returns why nothing is to be waited for any more, or nil.
func (e *streamEnd) cancelled(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return e.step.ctx.Err()
}

// sendWake has the other end look at the ring.
func (e *streamEnd) sendWake() { e.send(&ipc.Wake{Stream: e.id}) }

func (e *streamEnd) send(m ipc.Message) {
	if err := e.step.executor.channel.Send(&ipc.Envelope{Message: m}); err != nil {
		e.step.executor.end(err)
	}
}

// close ends this end; every later use returns err. mu is held.
func (e *streamEnd) close(r ring, end *ipc.StreamEnd, err error) {
	if e.closed {
		return
	}
	e.closed, e.err = true, err
	e.woken.Store(true)
	e.notify()
	e.step.executor.peer.Rouse() // it may be another goroutine that waits
	if end != nil && !e.ended.Load() {
		end.Stream = e.id
		e.send(end)
	}
	if e.mapped {
		_ = r.Close() // nothing can be done about it
	}
	st := e.step
	st.mu.Lock()
	defer st.unlock()
	delete(st.streams, e.id)
}

// broken is the error of a ring that the other end has spoilt: this step fails.
func (e *streamEnd) broken(err error) (*StreamError, *ipc.StreamEnd) {
	failed := &StreamError{Key: e.key, Severity: ipc.SeverityException, Name: "StreamError", Message: err.Error(), Err: err}
	return failed, &ipc.StreamEnd{Severity: failed.Severity, Name: failed.Name, Message: failed.Message}
}

// ringRequest asks for a stream's ring.
type ringRequest struct {
	user     streamUser
	done     chan struct{}
	answered atomic.Bool

	// Guarded by the step's mu until answered.
	gone bool // nobody waits any more
	ring *ipc.StreamRing
	file *os.File
	err  error
}

// openRing sends a request for a ring, by send, waits for the answer and has
// enter map it.
func (e *streamEnd) openRing(user streamUser, send func(take func(*ipc.Envelope, error)) error, enter func(*ipc.StreamRing, *os.File) error) error {
	q := &ringRequest{user: user, done: make(chan struct{})}
	if err := send(q.take); err != nil {
		return err
	}
	e.step.await(e.ctx, q.answered.Load, q.done)
	if err := q.result(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed { // the step is over
		return errors.Join(e.err, q.file.Close())
	}
	if err := enter(q.ring, q.file); err != nil {
		failed, end := e.broken(err)
		user.finish(end)
		return failed
	}
	e.mapped = true
	return nil
}

// result returns why there is no ring. A later answer is dropped.
func (q *ringRequest) result() error {
	e := q.user.base()
	e.step.mu.Lock()
	defer e.step.mu.Unlock()
	if q.answered.Load() {
		return q.err
	}
	q.gone = true
	return e.cancelled(e.ctx)
}

// take is given the answer by whoever receives messages.
func (q *ringRequest) take(e *ipc.Envelope, err error) {
	end := q.user.base()
	st := end.step
	st.mu.Lock()
	defer st.unlock()
	if e != nil && e.File != nil && (q.gone || st.over) {
		e.File.Close()
		e.File = nil
	}
	switch {
	case err != nil:
		q.err = err
	case q.gone || st.over:
		q.err = errOver
	default:
		switch m := e.Message.(type) {
		case *ipc.StreamRing:
			end.id = m.Stream
			q.ring, q.file = m, e.File
			if st.streams == nil {
				st.streams = make(map[shm.SegmentID]streamUser)
			}
			st.streams[m.Stream] = q.user
		case *ipc.Fail:
			q.err = &StreamError{Key: end.key, Severity: m.Severity, Name: m.Name, Message: m.Message}
		default:
			q.err = fmt.Errorf("the answer is %s", m.Type())
		}
	}
	q.answered.Store(true)
	close(q.done)
}

// settleStreams decides whether the function has failed on account of its
// stream.
func (st *step) settleStreams() {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case isReaderDone(st.err):
		st.err = nil
	case st.err == nil && st.streamErr != nil:
		// What the step would return is gone.
		st.err = st.streamErr
	}
}

// isReaderDone reports whether an error says that a reader wants no more, and
// nothing else.
func isReaderDone(err error) bool {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return isReaderDone(e.Unwrap())
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !isReaderDone(err) })
	}
	return err == ErrReaderDone
}

// endStreams ends those that are open still: well, or with the step's failure.
func (st *step) endStreams(failed *ipc.Fail) {
	st.mu.Lock()
	users := slices.Collect(maps.Values(st.streams))
	st.mu.Unlock()
	for _, user := range users {
		end := new(ipc.StreamEnd)
		if failed != nil {
			end.Severity, end.Name, end.Message = failed.Severity, failed.Name, failed.Message
		}
		e := user.base()
		e.mu.Lock()
		user.finish(end)
		e.mu.Unlock()
	}
}
