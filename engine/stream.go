package engine

import (
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/engine/demand"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// stream is a live stream of a run: the ring's memory, the step that feeds it
// and the one that reads it. The items pass between the two; here goes only who
// is woken and how each side ended.
type stream struct {
	run    *Run
	memory *ledger.Stream
	feeder *session

	mu     sync.Mutex
	reader *session       // nil: nobody has asked to read it
	fed    *ipc.StreamEnd // how its feeder ended, as the reader is told
	read   *ipc.StreamEnd // how its reader ended, as the feeder is told
	unused bool           // no state has it any more
}

// streams are the live streams of a run.
type streams struct {
	mu   sync.Mutex
	live map[shm.SegmentID]*stream
}

func (s *streams) get(id shm.SegmentID) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[id]
}

// openStream makes the stream that a step goes on to feed, and the row that
// stands for it, which the caller holds.
func (s *session) openStream(m *ipc.Stream) (*stream, ipc.Row, error) {
	st := &stream{run: s.run, feeder: s}
	memory, row, err := s.run.account.OpenStream(m.Key, m.Encoding, m.Capacity, func() { st.dropped() })
	if err != nil {
		return nil, ipc.Row{}, err
	}
	st.memory = memory
	live := &s.run.streams
	live.mu.Lock()
	defer live.mu.Unlock()
	if live.live == nil {
		live.live = make(map[shm.SegmentID]*stream)
	}
	live.live[memory.ID] = st
	return st, row, nil
}

// ring answers a request with the memory: it completes m, which has what else
// the answer says.
func (st *stream) ring(id uint64, m *ipc.StreamRing) (*ipc.Envelope, error) {
	f, err := st.memory.Open()
	if err != nil {
		return nil, err
	}
	m.Stream, m.Capacity = st.memory.ID, st.memory.Capacity
	return &ipc.Envelope{ID: id, Message: m, File: f}, nil
}

// wake passes a wake on to the other side.
func (st *stream) wake(from *session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	to := st.feeder
	if from == to {
		to = st.reader
	}
	if to == nil || st.read != nil || st.fed != nil {
		return // who has ended needs no wake, and an end is one
	}
	to.x.Post(&ipc.Envelope{Message: &ipc.Wake{Stream: st.memory.ID}})
}

// fedEnd enters how the feeder ended, and tells the reader. The first one counts.
func (st *stream) fedEnd(end ipc.StreamEnd) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.fed != nil {
		return
	}
	end.Stream = st.memory.ID
	st.fed = &end
	if st.reader != nil && st.read == nil {
		st.reader.x.Post(&ipc.Envelope{Message: st.fed})
	}
	st.settle()
}

// readEnd enters how the reader ended, and tells the feeder. The first one
// counts.
func (st *stream) readEnd(end ipc.StreamEnd) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.readEndLocked(end)
}

func (st *stream) readEndLocked(end ipc.StreamEnd) {
	if st.read != nil {
		return
	}
	end.Stream = st.memory.ID
	st.read = &end
	if st.fed == nil {
		st.feeder.x.Post(&ipc.Envelope{Message: st.read})
	}
	st.settle()
}

// dropped enters that no state has the stream any more.
func (st *stream) dropped() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.unused = true
	if st.reader == nil {
		st.readEndLocked(ipc.StreamEnd{})
	}
	st.settle()
}

// settle gives the memory back when both ends are finished. Until no state has
// the stream it is known all the same, for who asks for it too late.
func (st *stream) settle() {
	if st.fed == nil || st.read == nil {
		return
	}
	st.memory.Close()
	if st.unused {
		live := &st.run.streams
		live.mu.Lock()
		delete(live.live, st.memory.ID)
		live.mu.Unlock()
	}
}

// failedReading reports whether the feeder was told that its reader failed: what
// the feeder says after that is not its own failure.
func (st *stream) failedReading() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.read != nil && st.read.Name != ""
}

// endOf is how a step that feeds or reads a stream ended, for the other side
// to hear.
func (s *session) endOf(does string, err error) ipc.StreamEnd {
	if err == nil {
		return ipc.StreamEnd{}
	}
	e := s.run.stepError(s.stage.step.ID, err)
	return s.failedEnd(does, ipc.Severity(e.Status), e.Name, e.Message)
}

func (s *session) failedEnd(does string, severity ipc.Severity, name, message string) ipc.StreamEnd {
	return ipc.StreamEnd{Severity: severity, Name: name, Message: fmt.Sprintf("step %q, which %s the stream, failed: %s", s.stage.step.ID, does, message)}
}

// feeders returns the places of the steps that still feed streams of a step's
// input.
func (r *Run) feeders(input ipc.Table) []*demand.Slot {
	var slots []*demand.Slot
	for _, row := range streamRows(input) {
		st := r.streams.get(row.Spans[0].Segment)
		if st == nil {
			continue
		}
		st.mu.Lock()
		if st.fed == nil && !slices.Contains(slots, st.feeder.slot) {
			slots = append(slots, st.feeder.slot)
		}
		st.mu.Unlock()
	}
	return slots
}
