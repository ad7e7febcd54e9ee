package ledger

import (
	"os"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Stream is a live stream of a run: its ring's memory, which counts as the
// run's state until Close, and the rows of live states that stand for it.
type Stream struct {
	// ID stands in the rows, Encoding is that of every item. Immutable, as
	// Capacity, the ring's in bytes.
	ID       shm.SegmentID
	Encoding shm.Encoding
	Capacity uint64

	account *Account
	file    *os.File
	unused  func()

	// Guarded by the ledger's lock.
	entry  *block // counts the rows
	over   bool   // no row is left
	closed bool
}

// OpenStream makes a stream's memory and enters it. The caller holds the row
// with the key given, and closes the stream when both its ends are finished.
// unused is called once, in a goroutine of its own, when no table with the row
// is held any more: nobody can come to read it. It fails with a *BudgetError.
func (a *Account) OpenStream(key string, enc shm.Encoding, want uint64, unused func()) (*Stream, ipc.Row, error) {
	l := a.ledger
	s := &Stream{ID: l.NextHostSegment(), Encoding: enc, Capacity: shm.StreamCapacity(want), account: a, unused: unused}
	s.entry = &block{account: a, refs: 1, stream: s}
	l.mu.Lock()
	if a.limit > 0 && a.bytes+s.Capacity > a.limit {
		err := &BudgetError{Run: a.Run, Key: key, KeySize: s.Capacity, Size: a.bytes + s.Capacity, Limit: a.limit}
		l.mu.Unlock()
		return nil, ipc.Row{}, err
	}
	a.bytes += s.Capacity
	a.peak = max(a.peak, a.bytes)
	l.bytes.Add(s.Capacity)
	l.streams[s.ID] = s
	l.mu.Unlock()
	var err error
	if s.file, err = shm.CreateStreamMemory(s.Capacity); err != nil {
		s.unused = func() {}
		s.Close()
		return nil, ipc.Row{}, err
	}
	return s, ipc.Row{Key: key, Spans: []shm.Ref{{Segment: s.ID, Encoding: enc, Flags: shm.FlagStream}}}, nil
}

// Open returns a descriptor of the memory, the caller's to close. It fails with
// shm.ErrClosed after Close.
func (s *Stream) Open() (*os.File, error) {
	s.account.ledger.mu.Lock()
	defer s.account.ledger.mu.Unlock()
	if s.closed {
		return nil, shm.ErrClosed
	}
	return shm.DupFile(s.file)
}

// Close gives the memory up, as far as this process holds it. Rows that still
// stand for the stream show as before and can be held, but not read. A second
// Close does nothing.
func (s *Stream) Close() {
	l := s.account.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.account.bytes -= s.Capacity
	l.bytes.Add(-s.Capacity)
	l.freed()
	if s.file != nil {
		_ = s.file.Close() // a memfd's last word is nobody's loss
	}
	if s.over {
		delete(l.streams, s.ID)
	}
}

// dropStream enters that no row stands for the stream any more.
func (l *Ledger) dropStream(s *Stream) {
	s.over = true
	if s.closed {
		delete(l.streams, s.ID)
	}
	go s.unused()
}
