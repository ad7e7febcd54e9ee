package worker

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// segments are those that this process can read: the ones that the supervisor
// handed over, and its own. A segment is mapped, read-only, when a step first
// reads from it.
type segments struct {
	mu       sync.Mutex
	readable map[shm.SegmentID]*shm.Segment
	own      map[shm.SegmentID]*shm.Segment // the arena's
	gone     []func()                       // to be done by retire, in order
	retiring bool
}

// attach takes a descriptor over.
func (t *segments) attach(m *ipc.Attach, f *os.File) error {
	if f == nil {
		return fmt.Errorf("segment %d was attached without a descriptor", uint64(m.Segment))
	}
	if m.Size > 1<<62 {
		f.Close()
		return fmt.Errorf("segment %d of %d bytes", uint64(m.Segment), m.Size)
	}
	s, err := shm.Open(m.Segment, f, int64(m.Size))
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readable[m.Segment] != nil || t.own[m.Segment] != nil {
		return errors.Join(fmt.Errorf("segment %d was attached twice", uint64(m.Segment)), s.Close())
	}
	t.enter(s)
	return nil
}

func (t *segments) enter(s *shm.Segment) {
	if t.readable == nil {
		t.readable = make(map[shm.SegmentID]*shm.Segment)
	}
	t.readable[s.ID()] = s
}

// addOwn enters a segment of the arena's.
func (t *segments) addOwn(s *shm.Segment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own == nil {
		t.own = make(map[shm.SegmentID]*shm.Segment)
	}
	t.own[s.ID()] = s
}

// drop unmaps and closes the reader's side of a segment. No slice of it is in
// use: the supervisor detaches what no state refers to any more, and the arena
// drops what holds no block.
func (t *segments) drop(id shm.SegmentID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.readable[id]; s != nil {
		// Unmapping takes a millisecond for 10 MB: not while the next step
		// waits. Nothing hangs on whether it fails.
		t.later(func() { _ = s.Close() })
	}
	delete(t.readable, id)
	delete(t.own, id)
}

// afterDrops calls f once all segments that were dropped are closed.
func (t *segments) afterDrops(f func()) {
	t.mu.Lock()
	if t.retiring {
		t.later(f)
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	f()
}

// later has f called by retire. mu is held.
func (t *segments) later(f func()) {
	t.gone = append(t.gone, f)
	if !t.retiring {
		t.retiring = true
		go t.retire()
	}
}

func (t *segments) retire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.gone) > 0 {
		all := t.gone
		t.gone = nil
		t.mu.Unlock()
		for _, f := range all {
			f()
		}
		t.mu.Lock()
	}
	t.retiring = false
}

// find returns the segment to read from. A segment of the arena is opened a
// second time, read-only: its own mapping can be written, and published bytes
// must not be.
func (t *segments) find(id shm.SegmentID) (*shm.Segment, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.readable[id]; s != nil {
		return s, nil
	}
	own := t.own[id]
	if own == nil {
		return nil, fmt.Errorf("segment %d was not handed over", uint64(id))
	}
	f, err := shm.DupFile(own.File())
	if err != nil {
		return nil, fmt.Errorf("reopen segment %d: %w", uint64(id), err)
	}
	s, err := shm.Open(id, f, own.Size())
	if err != nil {
		return nil, err
	}
	t.enter(s)
	return s, nil
}

// slice returns the bytes of a reference in the mapping.
func (t *segments) slice(ref shm.Ref) ([]byte, error) {
	if ref.Flags&shm.FlagStream != 0 {
		return nil, ErrStream
	}
	if ref.Length == 0 {
		return []byte{}, nil
	}
	s, err := t.find(ref.Segment)
	if err != nil {
		return nil, err
	}
	return s.Slice(ref)
}

func (t *segments) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, s := range t.readable {
		errs = append(errs, s.Close())
	}
	t.readable, t.own = nil, nil
	return errors.Join(errs...)
}
