package testhost

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/stream"
	"github.com/millrace/millrace/shm"
)

// StreamSettings are those of all streams of an executor.
type StreamSettings struct {
	Capacity  uint64 // 0: what the producer asks for
	MaxDemand uint32
	MinDemand uint32
	Manual    bool
	// Refuse fails each request with it.
	Refuse *ipc.Fail
}

// Stream is one that an executor has opened, or the test.
type Stream struct {
	ID       shm.SegmentID
	Key      string
	Encoding shm.Encoding
	// State is what was handed over, with the stream's row.
	State    ipc.Table
	Settings StreamSettings
	// Blocks are those that the message published.
	Blocks []shm.Block

	world *World
	file  *os.File
	ends  [2]streamSide // the producer's and the consumer's
}

// streamSide is one end: an executor's, or the test's own.
type streamSide struct {
	executor *Executor
	woken    chan struct{} // the test's own end is to look
	ended    chan ipc.StreamEnd
}

const producer, consumer = 0, 1

// newStream makes a stream whose producer is an executor, or with nil the test.
func (w *World) newStream(x *Executor, key string, enc shm.Encoding, s StreamSettings) (*Stream, error) {
	s.Capacity = shm.StreamCapacity(s.Capacity)
	f, err := shm.CreateStreamMemory(s.Capacity)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastHost++
	st := &Stream{ID: shm.SegmentID(w.lastHost), Key: key, Encoding: enc, Settings: s, world: w, file: f}
	for i := range st.ends {
		st.ends[i] = streamSide{woken: make(chan struct{}, 1), ended: make(chan ipc.StreamEnd, 4)}
	}
	st.ends[producer].executor = x
	if w.streams == nil {
		w.streams = make(map[shm.SegmentID]*Stream)
	}
	w.streams[st.ID] = st
	w.t.Cleanup(func() { _ = f.Close() })
	return st, nil
}

// NewStream makes a stream whose producer is the test.
func (w *World) NewStream(key string, enc shm.Encoding, s StreamSettings) *Stream {
	w.t.Helper()
	st, err := w.newStream(nil, key, enc, s)
	if err != nil {
		w.t.Fatal(err)
	}
	st.State = ipc.Table{Kind: ipc.KindObject}.With(st.Row())
	return st
}

// Row is what stands for the stream in a state.
func (st *Stream) Row() ipc.Row {
	return ipc.Row{Key: st.Key, Spans: []shm.Ref{{Segment: st.ID, Encoding: st.Encoding, Flags: shm.FlagStream}}}
}

func (st *Stream) ring() *ipc.StreamRing {
	s := &st.Settings
	return &ipc.StreamRing{Stream: st.ID, Capacity: s.Capacity, MaxDemand: s.MaxDemand, MinDemand: s.MinDemand, Manual: s.Manual}
}

// streamed acts on an executor's stream message.
func (x *Executor) streamed(id uint64, m *ipc.Stream, state ipc.Table) error {
	if x.streams == nil {
		return x.breach(errors.New("a stream, which was not granted"))
	}
	if err := x.World.publish(x, m.Blocks, state); err != nil {
		return x.breach(fmt.Errorf("stream %q: %w", m.Key, err))
	}
	if state.Kind != ipc.KindObject || state.Find(m.Key) >= 0 {
		return x.breach(fmt.Errorf("stream %q: handed over with a table that has it, or is no object", m.Key))
	}
	settings := *x.streams
	if settings.Refuse != nil {
		return x.Send(&ipc.Envelope{ID: id, Message: settings.Refuse})
	}
	if settings.Capacity == 0 {
		settings.Capacity = m.Capacity
	}
	st, err := x.World.newStream(x, m.Key, m.Encoding, settings)
	if err != nil {
		return err
	}
	st.State, st.Blocks = state.With(st.Row()), m.Blocks
	if err := x.Send(&ipc.Envelope{ID: id, Message: st.ring(), File: st.file}); err != nil {
		return err
	}
	select {
	case x.opened <- st:
		return nil
	default:
		return x.breach(errors.New("more streams than a test has asked for"))
	}
}

// Streamed returns the next stream that the executor has opened.
func (x *Executor) Streamed() *Stream {
	x.t.Helper()
	select {
	case st := <-x.opened:
		return st
	case <-time.After(10 * time.Second):
		x.t.Fatal("the executor opens no stream")
		return nil
	}
}

// consumed acts on an executor's consume message.
func (x *Executor) consumed(id uint64, m *ipc.Consume) error {
	w := x.World
	w.mu.Lock()
	st := w.streams[m.Stream]
	taken := st != nil && st.ends[consumer].executor != nil
	if st != nil && !taken {
		st.ends[consumer].executor = x
	}
	w.mu.Unlock()
	switch {
	case x.streams == nil || st == nil:
		return x.breach(fmt.Errorf("consume of stream %d", m.Stream))
	case x.streams.Refuse != nil:
		return x.Send(&ipc.Envelope{ID: id, Message: x.streams.Refuse})
	case taken:
		return x.Send(&ipc.Envelope{ID: id, Message: &ipc.Fail{Severity: ipc.SeverityException, Name: "StreamError", Message: "it has a reader"}})
	}
	return x.Send(&ipc.Envelope{ID: id, Message: st.ring(), File: st.file})
}

// passOn gives news of a stream to the other end.
func (x *Executor) passOn(id shm.SegmentID, m ipc.Message) error {
	w := x.World
	w.mu.Lock()
	st := w.streams[id]
	side := -1
	if st != nil {
		side = slices.IndexFunc(st.ends[:], func(s streamSide) bool { return s.executor == x })
	}
	w.mu.Unlock()
	if side < 0 {
		return x.breach(fmt.Errorf("%s of stream %d, of which it has no end", m.Type(), id))
	}
	return st.tell(1-side, m)
}

func (st *Stream) tell(side int, m ipc.Message) error {
	st.world.mu.Lock()
	s := st.ends[side]
	st.world.mu.Unlock()
	if s.executor != nil {
		err := s.executor.Send(&ipc.Envelope{Message: m})
		if errors.Is(err, ipc.ErrClosed) || errors.Is(err, ipc.ErrHangUp) {
			return nil
		}
		return err
	}
	if end, ok := m.(*ipc.StreamEnd); ok {
		s.ended <- *end
	}
	select {
	case s.woken <- struct{}{}:
	default:
	}
	return nil
}

// Writer is the test's own producer.
func (st *Stream) Writer() *StreamWriter {
	st.world.t.Helper()
	w, err := stream.NewWriter(st.again(), st.Settings.Capacity, func() { _ = st.tell(consumer, &ipc.Wake{Stream: st.ID}) })
	if err != nil {
		st.world.t.Fatal(err)
	}
	st.world.t.Cleanup(func() { _ = w.Close() })
	return &StreamWriter{Writer: w, stream: st, side: &st.ends[producer]}
}

// Reader is the test's own consumer.
func (st *Stream) Reader() *StreamReader {
	st.world.t.Helper()
	s := st.Settings
	demand := stream.Demand{Max: s.MaxDemand, Min: s.MinDemand, Manual: s.Manual}
	r, err := stream.NewReader(st.again(), s.Capacity, demand, func() { _ = st.tell(producer, &ipc.Wake{Stream: st.ID}) })
	if err != nil {
		st.world.t.Fatal(err)
	}
	st.world.t.Cleanup(func() { _ = r.Close() })
	return &StreamReader{Reader: r, stream: st, side: &st.ends[consumer]}
}

// again opens the stream's memory once more.
func (st *Stream) again() *os.File {
	st.world.t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", st.file.Fd()), os.O_RDWR, 0)
	if err != nil {
		st.world.t.Fatal(err)
	}
	return f
}

// Memory returns the stream's memory, for tests that write what they may not.
func (st *Stream) Memory() *os.File { return st.file }

// StreamWriter is a producer in the test's process.
type StreamWriter struct {
	*stream.Writer
	stream *Stream
	side   *streamSide
}

// Put writes an item, waiting until it can. It reports false, with the news, when
// the consumer has ended.
func (w *StreamWriter) Put(item string) (ipc.StreamEnd, bool) {
	t := w.stream.world.t
	t.Helper()
	for {
		select {
		case end := <-w.side.ended:
			return end, false
		default:
		}
		b, ok, err := w.Reserve(len(item))
		if ok {
			copy(b, item)
			w.Commit(len(item))
			return ipc.StreamEnd{}, true
		}
		asleep := false
		if err == nil {
			asleep, err = w.Sleep(len(item))
		}
		if err != nil {
			t.Fatal(err)
		}
		if asleep {
			w.side.wait(t.Fatal, "the consumer neither reads nor asks")
		}
	}
}

// End says that all is written, or with a name that the producer failed.
func (w *StreamWriter) End(end ipc.StreamEnd) {
	end.Stream = w.stream.ID
	if err := w.stream.tell(consumer, &end); err != nil {
		w.stream.world.t.Error(err)
	}
}

// Ended returns what the consumer ended with.
func (w *StreamWriter) Ended() ipc.StreamEnd { return w.side.end(w.stream.world.t.Fatal) }

// StreamReader is a consumer in the test's process.
type StreamReader struct {
	*stream.Reader
	stream *Stream
	side   *streamSide
	last   *ipc.StreamEnd // the producer's
}

// Take reads an item, waiting until there is one. It reports false at the end,
// with what the producer ended with.
func (r *StreamReader) Take() (string, ipc.StreamEnd, bool) {
	t := r.stream.world.t
	t.Helper()
	for {
		select {
		case e := <-r.side.ended:
			r.last = &e
		default:
		}
		b, ok, err := r.Next()
		if ok {
			return string(b), ipc.StreamEnd{}, true
		}
		if r.last != nil {
			return "", *r.last, false
		}
		asleep := false
		if err == nil {
			asleep, err = r.Sleep()
		}
		if err != nil {
			t.Fatal(err)
		}
		if asleep {
			r.side.wait(t.Fatal, "the producer writes nothing")
		}
	}
}

// End says that no more is wanted, or with a name that the consumer failed.
func (r *StreamReader) End(end ipc.StreamEnd) {
	end.Stream = r.stream.ID
	if err := r.stream.tell(producer, &end); err != nil {
		r.stream.world.t.Error(err)
	}
}

// Ended returns what the producer ended with.
func (r *StreamReader) Ended() ipc.StreamEnd { return r.side.end(r.stream.world.t.Fatal) }

func (s *streamSide) wait(fatal func(...any), why string) {
	select {
	case <-s.woken:
	case <-time.After(10 * time.Second):
		fatal(why)
	}
}

func (s *streamSide) end(fatal func(...any)) ipc.StreamEnd {
	select {
	case end := <-s.ended:
		return end
	case <-time.After(10 * time.Second):
		fatal("the other end of the stream does not end")
		return ipc.StreamEnd{}
	}
}
