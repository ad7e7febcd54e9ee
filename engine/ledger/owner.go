package ledger

import (
	"fmt"
	"os"
	"sync"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// eagerBytes and eagerCount are when what is owed to an executor is sent
// without waiting for its next step.
const (
	eagerBytes = 256 << 10
	eagerCount = 256
)

// Owner is an executor as the ledger sees it: a writer of segments and a
// reader of others'.
type Owner struct {
	// Prefix is the upper half of the ids of its segments.
	Prefix uint32

	ledger *Ledger
	notify func()

	closed bool // guarded by the ledger's lock

	mu        sync.Mutex // taken after the ledger's
	blocks    []shm.Block
	detach    []shm.SegmentID
	owedBytes uint64
	// leaving are the segments that it has not said to have closed yet. An id
	// stands for one after the other, if its writer uses it again.
	leaving map[shm.SegmentID][]*departure
}

// AddOwner registers an executor. notify is called, maybe with locks held, when
// there is something to send to it (see Owed) that should not wait for its next
// step; it must not block.
func (l *Ledger) AddOwner(prefix uint32, notify func()) *Owner {
	if prefix == HostOwner {
		panic("ledger: the supervisor's own prefix for an executor")
	}
	o := &Owner{Prefix: prefix, ledger: l, notify: notify, leaving: make(map[shm.SegmentID][]*departure)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owners[o] = struct{}{}
	return o
}

// Attach enters a segment that the executor handed over, and takes file over.
// A descriptor that is not a sealed memfd of that size, or an id that is not
// the executor's to give, is an error; file is closed.
func (o *Owner) Attach(id shm.SegmentID, file *os.File, size uint64) error {
	if uint32(uint64(id)>>32) != o.Prefix || size == 0 || size > 1<<62 {
		if file != nil {
			file.Close()
		}
		return &RefError{Ref: shm.Ref{Segment: id, Length: size}, Msg: fmt.Sprintf("not a segment of executor %d", o.Prefix)}
	}
	if file == nil {
		return &RefError{Ref: shm.Ref{Segment: id, Length: size}, Msg: "attached without a descriptor"}
	}
	seg, err := shm.Open(id, file, int64(size))
	if err != nil {
		return err
	}
	l := o.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.enterSegment(seg, o); err != nil {
		_ = seg.Close()
		return err
	}
	return nil
}

// Detach enters that the executor has given segments up. Blocks in them that
// are referred to stay readable.
func (o *Owner) Detach(ids []shm.SegmentID) error {
	l := o.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		s := l.segments[id]
		if s == nil || s.owner != o {
			return &RefError{Ref: shm.Ref{Segment: id}, Msg: "detached a segment that is not its own"}
		}
		s.owner = nil
		l.retire(s)
	}
	return nil
}

// Resident returns the memory in bytes that the executor's segments take.
func (o *Owner) Resident() uint64 {
	l := o.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	var n uint64
	for _, s := range l.segments {
		if s.owner != o {
			continue
		}
		if r, err := s.Segment.Resident(); err == nil {
			n += uint64(r)
		}
	}
	return n
}

// Missing returns the segments the table refers to whose descriptors the
// executor does not have yet, and enters that it has them from now on: the
// caller sends them. One that is gone gets none.
func (o *Owner) Missing(t ipc.Table) []*shm.Segment {
	l := o.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.closed {
		return nil
	}
	var missing []*shm.Segment
	for i := range t.Rows {
		for _, r := range t.Rows[i].Spans {
			s := l.segments[r.Segment]
			if s == nil || s.owner == o || s.readers[o] {
				continue
			}
			s.readers[o] = true
			missing = append(missing, s.Segment)
		}
	}
	return missing
}

// Owed takes what is to be sent to the executor: blocks that are its own again
// and segments to detach, whose memory counts until Detached.
func (o *Owner) Owed() ([]shm.Block, []shm.SegmentID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	blocks, detach := o.blocks, o.detach
	o.blocks, o.detach, o.owedBytes = nil, nil, 0
	return blocks, detach
}

func (o *Owner) owe(b shm.Block) {
	o.mu.Lock()
	o.blocks = append(o.blocks, b)
	o.owedBytes += b.Length
	eager := o.owedBytes >= eagerBytes || len(o.blocks) >= eagerCount
	o.mu.Unlock()
	if eager {
		o.notify()
	}
}

func (o *Owner) oweDetach(id shm.SegmentID, d *departure) {
	o.mu.Lock()
	o.detach = append(o.detach, id)
	o.leaving[id] = append(o.leaving[id], d)
	o.mu.Unlock()
	o.notify()
}

// Detached enters that the executor has closed segments that it was sent a
// detach of.
func (o *Owner) Detached(ids []shm.SegmentID) {
	l := o.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		list := o.leaving[id]
		if len(list) == 0 {
			continue // the executor was entered as gone meanwhile
		}
		l.depart(list[0])
		if o.leaving[id] = list[1:]; len(list) == 1 {
			delete(o.leaving, id)
		}
	}
}

// wake has whatever is owed sent.
func (o *Owner) wake() {
	o.mu.Lock()
	owed := len(o.blocks)+len(o.detach) > 0
	o.mu.Unlock()
	if owed {
		o.notify()
	}
}

// Close enters that the executor is gone. What it published stays readable as
// long as it is referred to.
func (o *Owner) Close() {
	l := o.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.owners, o)
	o.closed = true
	o.mu.Lock()
	for _, list := range o.leaving {
		for _, d := range list {
			l.depart(d)
		}
	}
	o.leaving = nil
	o.mu.Unlock()
	for _, s := range l.segments {
		delete(s.readers, o)
		if s.owner == o {
			s.owner = nil
			l.retire(s)
		}
	}
}
