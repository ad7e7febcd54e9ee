package engine

import (
	"errors"
	"fmt"
	"slices"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// stream hands the step's state over to the next steps. It does not wait.
func (s *session) stream(id uint64, m *ipc.Stream, table ipc.Table) error {
	if id == 0 {
		return errors.New("a stream without an id")
	}
	if held, err := s.publish(id, m.Blocks, table); !held {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended { // it crossed the end of the step
		s.run.account.Release(table)
		return nil
	}
	state := s.run.clean(table)
	forward, err := s.streamable(m, state)
	var st *stream
	var row ipc.Row
	if err == nil {
		st, row, err = s.openStream(m)
	}
	if err != nil {
		s.run.account.Release(state)
		s.refusePosted(id, err)
		return nil
	}
	if old, ok := state.Get(m.Key); ok {
		s.run.account.Release(rows(old))
	}
	state = state.With(row)
	s.slot.Published(shm.Length(m.Blocks))
	s.handOver(id, st, state, forward)
	return nil
}

// streamable checks a hand-over, and returns the step that it goes to, nil for
// along the edges. mu is held.
func (s *session) streamable(m *ipc.Stream, state ipc.Table) (*stage, error) {
	step := s.stage.step.ID
	fail := func(format string, args ...any) (*stage, error) {
		return nil, &StepError{Run: s.run.ID, Step: step, Status: StatusFail, Name: "StreamError", Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.fed != nil:
		return fail("step %q feeds a stream already: put the items of both into it", step)
	case state.Kind == ipc.KindValue:
		return fail("step %q streams under state.%s, but its state is not an object", step, m.Key)
	case !m.Encoding.Valid():
		return fail("step %q streams items of an unknown encoding, %d", step, uint8(m.Encoding))
	case len(private(rows(ipc.Row{Key: m.Key}), s.run.program.plan.Options.DropKeys)) > 0:
		return fail("step %q streams under state.%s, a key that no step passes on: choose another", step, m.Key)
	}
	return s.forwardedLocked()
}

// handOver starts the branch that goes on with the state, which it takes over,
// and has the step go on to feed the stream in it. mu is held.
func (s *session) handOver(id uint64, st *stream, state ipc.Table, forward *stage) {
	s.fed = st
	s.slot.Feed()
	ring, err := st.ring(id, new(ipc.StreamRing))
	if err != nil {
		s.refusePosted(id, err)
	} else {
		s.x.Post(ring)
	}
	if s.run.options.Observe != nil {
		// For the event of the step's end. It does not hold the stream.
		shown, keys, err := s.run.settled(state)
		if err == nil && s.run.account.Retain(shown) == nil {
			s.shown, s.shownStreams = shown, keys
		}
	}
	s.handedBytes = state.Size()
	next := *s.branch
	next.state, next.lastEnd = state, monotonic()
	s.branch.scope.branches.Go(func() { next.goOn(s.onward, s.stage, stepEnd{forward: forward}) })
}

// consume answers a step that wants to read a stream of its input.
func (s *session) consume(id uint64, m *ipc.Consume) error {
	if id == 0 {
		return errors.New("a consume without an id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	if err := s.read(id, m.Stream); err != nil {
		s.refusePosted(id, err)
	}
	return nil
}

// read makes the step the stream's reader, and answers. mu is held.
func (s *session) read(id uint64, wanted shm.SegmentID) error {
	step := s.stage.step
	fail := func(format string, args ...any) error {
		return &StepError{Run: s.run.ID, Step: step.ID, Status: StatusFail, Name: "StreamError", Message: fmt.Sprintf(format, args...)}
	}
	live := streamRows(s.input)
	i := slices.IndexFunc(live, func(row ipc.Row) bool { return row.Spans[0].Segment == wanted })
	st := s.run.streams.get(wanted)
	if i < 0 || st == nil {
		return fail("step %q asks for a stream, %d, that its input does not have", step.ID, wanted)
	}
	key := live[i].Key
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.reader != nil:
		return fail("step %q reads state.%s, which step %q has read already: a stream can be read once", step.ID, key, st.reader.stage.step.ID)
	case st.fed != nil && st.fed.Name != "":
		return &StepError{Run: s.run.ID, Step: step.ID, Status: severity(st.fed.Severity), Name: st.fed.Name, Message: st.fed.Message}
	}
	ring, err := st.ring(id, &ipc.StreamRing{MaxDemand: uint32(step.MaxDemand), MinDemand: uint32(step.MinDemand), Manual: step.ManualDemand})
	if err != nil {
		return err
	}
	st.reader = s
	s.reading = append(s.reading, reading{key, st})
	s.x.Post(ring)
	if st.fed != nil {
		s.x.Post(&ipc.Envelope{Message: st.fed})
	}
	return nil
}

// reading is a stream that the step has begun to read, and its key in the
// step's input.
type reading struct {
	key    string
	stream *stream
}

// streamNamed returns the step's end of a stream, nil when it has none.
func (s *session) streamNamed(id shm.SegmentID) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fed != nil && s.fed.memory.ID == id {
		return s.fed
	}
	for _, r := range s.reading {
		if r.stream.memory.ID == id {
			return r.stream
		}
	}
	return nil
}

// streamEnd enters that the step is finished with its end of a stream.
func (s *session) streamEnd(m *ipc.StreamEnd) {
	st := s.streamNamed(m.Stream)
	switch {
	case st == nil:
		return // it has ended
	case st.feeder == s && m.Name == "":
		st.fedEnd(ipc.StreamEnd{})
	case st.feeder == s:
		st.fedEnd(s.failedEnd("feeds", ipc.Severity(severity(m.Severity)), m.Name, s.run.scrub(m.Message)))
	case m.Name == "":
		st.readEnd(ipc.StreamEnd{})
	default:
		st.readEnd(s.failedEnd("reads", ipc.Severity(severity(m.Severity)), m.Name, s.run.scrub(m.Message)))
	}
}

// endStreams tells the other sides how the step ended.
func (s *session) endStreams(err error) {
	s.mu.Lock()
	feeds, reads := s.fed, slices.Clone(s.reading)
	s.mu.Unlock()
	if feeds != nil {
		feeds.fedEnd(s.endOf("feeds", err))
	}
	for _, r := range reads {
		r.stream.readEnd(s.endOf("reads", err))
	}
}

// once returns why the step cannot be tried again, or "".
func (s *session) once() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fed != nil:
		return "it had handed its state over, and the next steps have begun to read the stream in it"
	case len(s.reading) > 0:
		r := s.reading[0]
		return fmt.Sprintf("it has read state.%s, a stream of step %q, and what was read of a stream is not kept; have the items put into the state, or try again inside of the step", r.key, r.stream.feeder.stage.step.ID)
	}
	return ""
}
