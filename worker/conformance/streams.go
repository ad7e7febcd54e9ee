package conformance

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/stream"
	"github.com/millrace/millrace/shm"
)

// streams is what a session knows of the streams of its program.
type streams struct {
	asked chan *streamRequest // in order

	mu     sync.Mutex
	by     map[shm.SegmentID]*streamLink
	lastID shm.SegmentID
}

// streamRequest is a stream or consume message that waits for its ring.
type streamRequest struct {
	id     uint64
	stream *ipc.Stream // nil for a consume
	link   *streamLink // of a consume
	state  ipc.Table   // that is handed over
}

// streamLink is what the program says of one stream.
type streamLink struct {
	id    shm.SegmentID
	key   string
	woken chan struct{}       // room for one
	ended chan *ipc.StreamEnd // room for one
}

func newStreams() *streams {
	// Apart from the ids of segments.
	return &streams{asked: make(chan *streamRequest, 1), by: make(map[shm.SegmentID]*streamLink), lastID: 1 << 40}
}

func (k *streams) add(key string) *streamLink {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastID++
	l := &streamLink{id: k.lastID, key: key, woken: make(chan struct{}, 1), ended: make(chan *ipc.StreamEnd, 1)}
	k.by[l.id] = l
	return l
}

func (k *streams) get(id shm.SegmentID) (*streamLink, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.by[id]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("there is no stream %#x", uint64(id))
}

// streamed takes a message of the program's about streams. An error is a breach.
func (s *session) streamed(e *ipc.Envelope) error {
	if !s.grantsStreams {
		return fmt.Errorf("%s without the capability streams", e.Message.Type())
	}
	request := &streamRequest{id: e.ID}
	switch m := e.Message.(type) {
	case *ipc.Stream:
		if _, err := s.check.book.publish(s, m.Blocks, e.State); err != nil {
			return fmt.Errorf("stream %q: %w", m.Key, err)
		}
		if err := s.check.book.checkValues(e.State); err != nil {
			return fmt.Errorf("stream %q: %w", m.Key, err)
		}
		request.stream, request.state = m, e.State
	case *ipc.Consume:
		l, err := s.streams.get(m.Stream)
		if err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		request.link = l
	case *ipc.Wake:
		l, err := s.streams.get(m.Stream)
		if err != nil {
			return fmt.Errorf("wake: %w", err)
		}
		select {
		case l.woken <- struct{}{}:
		default:
		}
		return nil
	case *ipc.StreamEnd:
		l, err := s.streams.get(m.Stream)
		if err != nil {
			return fmt.Errorf("stream-end: %w", err)
		}
		select {
		case l.ended <- m:
		default:
			return fmt.Errorf("a second stream-end of the stream under %q", l.key)
		}
		return nil
	}
	if e.ID == 0 {
		return fmt.Errorf("%s without an id", e.Message.Type())
	}
	select {
	case s.streams.asked <- request:
		return nil
	default:
		return fmt.Errorf("%s while another one waits for its answer", e.Message.Type())
	}
}

// nextStream waits for the program to ask for a ring.
func (s *session) nextStream() *streamRequest {
	return await(s, s.streams.asked, "it asked for no stream's ring")
}

// await waits for something of the program's.
func await[T any](s *session, came <-chan T, not string) T {
	select {
	case v := <-came:
		return v
	case <-time.After(s.check.options.Timeout / 2):
		s.lost(not, errors.New("nothing came in time"))
	case <-s.check.ctx.Done():
		s.lost(not, s.check.ctx.Err())
	case <-s.process.exited:
		s.lost(not, errors.New("it ended"))
	}
	panic("unreachable") // lost ends the case
}

// streamRow is a row for items that the case writes.
func streamRow(l *streamLink) ipc.Row {
	return ipc.Row{Key: l.key, Spans: []shm.Ref{{Segment: l.id, Encoding: shm.JSON, Flags: shm.FlagStream}}}
}

// grant answers a request with a ring, and returns its memory for the other end.
func (s *session) grant(r *streamRequest, l *streamLink, capacity uint64, d stream.Demand) *os.File {
	f, err := shm.CreateStreamMemory(capacity)
	s.check.must(err)
	defer f.Close()
	ours, err := shm.DupFile(f)
	s.check.must(err)
	s.send(&ipc.Envelope{ID: r.id, File: f, Message: &ipc.StreamRing{
		Stream: l.id, Capacity: capacity, MaxDemand: d.Max, MinDemand: d.Min, Manual: d.Manual,
	}})
	return ours
}

// consumer reads what the program feeds.
type consumer struct {
	*stream.Reader
	*streamLink
	session *session
	over    *ipc.StreamEnd // the program's, once it came
}

// read grants the ring to a program that hands its state over, and reads it.
func (s *session) read(r *streamRequest, capacity uint64, d stream.Demand) *consumer {
	if r.stream == nil {
		s.check.failf("it asked for a stream to read, and has none in its input")
	}
	c := &consumer{streamLink: s.streams.add(r.stream.Key), session: s}
	reader, err := stream.NewReader(s.grant(r, c.streamLink, capacity, d), capacity, d, c.wake)
	s.check.must(err)
	c.Reader = reader
	s.check.closers = append(s.check.closers, reader.Close)
	return c
}

func (l *streamLink) wakeBy(s *session) { s.send(&ipc.Envelope{Message: &ipc.Wake{Stream: l.id}}) }

func (c *consumer) wake() { c.wakeBy(c.session) }

// item returns the next item, or false at the end.
func (c *consumer) item() (string, bool) {
	for {
		b, ok, err := c.Next()
		c.session.check.must(err)
		if ok || c.over != nil {
			return string(b), ok
		}
		asleep, err := c.Sleep()
		c.session.check.must(err)
		if !asleep {
			continue
		}
		select {
		case <-c.woken:
		case c.over = <-c.ended:
		case <-time.After(c.session.check.options.Timeout / 2):
			c.session.lost(fmt.Sprintf("no item came after %d, and no end", c.Items()), errors.New("nothing came in time"))
		case <-c.session.process.exited:
			c.session.lost("no item came, and no end", errors.New("it ended"))
		}
		c.Slept()
	}
}

// finish says that no more items are wanted, or what went wrong.
func (l *streamLink) finish(s *session, severity ipc.Severity, name, message string) {
	s.send(&ipc.Envelope{Message: &ipc.StreamEnd{Stream: l.id, Severity: severity, Name: name, Message: message}})
}

// producer writes what the program reads.
type producer struct {
	*stream.Writer
	*streamLink
	session *session
	memory  *os.File
}

// feed grants the ring to a program that reads, and writes it.
func (s *session) feed(r *streamRequest, capacity uint64, d stream.Demand) *producer {
	if r.stream != nil {
		s.check.failf("it handed its state over instead of reading the stream")
	}
	p := &producer{streamLink: r.link, session: s, memory: s.grant(r, r.link, capacity, d)}
	ours, err := shm.DupFile(p.memory)
	s.check.must(err)
	p.Writer, err = stream.NewWriter(ours, capacity, p.wake)
	s.check.must(err)
	s.check.closers = append(s.check.closers, p.Writer.Close, p.memory.Close)
	return p
}

func (p *producer) wake() { p.wakeBy(p.session) }

// try writes an item if it can be written now.
func (p *producer) try(item string) bool {
	b, ok, err := p.Reserve(len(item))
	p.session.check.must(err)
	if ok {
		copy(b, item)
		p.Commit(len(item))
	}
	return ok
}

// write writes an item. It reports false when no more are wanted.
func (p *producer) write(item string) bool {
	for !p.try(item) {
		asleep, err := p.Sleep(len(item))
		p.session.check.must(err)
		if !asleep {
			continue
		}
		select {
		case <-p.woken:
		case end := <-p.ended:
			p.ended <- end
			return false
		case <-time.After(p.session.check.options.Timeout / 2):
			p.session.lost(fmt.Sprintf("it asked for no more than %d items, and gave no end", p.Items()), errors.New("nothing came in time"))
		case <-p.session.process.exited:
			p.session.lost("it asked for no more items", errors.New("it ended"))
		}
		p.Slept()
	}
	return true
}

// startWithStreams starts a process, or skips the case where it has no streams.
func (c *check) startWithStreams(behaviour string) *session {
	return c.startWith(ipc.CapabilityStreams, behaviour)
}
