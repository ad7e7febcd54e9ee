package worker

import (
	"errors"
	"os"

	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// Adopted is a memfd that another program filled (see shm.CreateGrowable), as
// a segment of this executor that no state refers to yet. One of SetState,
// SetKey and Close must be called.
type Adopted struct {
	state   *State
	segment *shm.Segment // nil once handed on or closed
}

// Adopt seals f for good and makes a segment of it, for runners whose output
// is written by another process. It takes f over, and closes it on an error;
// shm.ErrEmpty when it holds no byte.
func (s *State) Adopt(f *os.File) (*Adopted, error) {
	seg, err := shm.Adopt(s.step.executor.nextID(), f)
	if err != nil {
		return nil, err
	}
	return &Adopted{state: s, segment: seg}, nil
}

// Bytes returns all of it in the mapping, read-only, valid until the function
// returns.
func (a *Adopted) Bytes() ([]byte, error) { return a.segment.Bytes() }

// DropPages takes the pages that were looked at out of this process's
// resident memory; they are read again when next touched.
func (a *Adopted) DropPages() error { return a.segment.DropPages() }

// SetState makes the document the whole state: doc is its outline as jsonscan
// has found it.
func (a *Adopted) SetState(doc jsonscan.Document) error {
	ref, err := a.publish(JSON)
	if err != nil {
		return err
	}
	return a.state.putDocument(ref, doc)
}

// SetKey sets a key to length bytes from offset on, all of one encoding that
// the caller has checked.
func (a *Adopted) SetKey(key string, enc Encoding, offset, length int64) error {
	ref, err := a.publish(enc)
	if err != nil {
		return &KeyError{Key: key, Err: err}
	}
	part := ref
	part.Offset += uint64(offset)
	part.Length = uint64(length)
	return a.state.put(key, ref.Block(), part)
}

// adoptCopy is up to which length bytes are copied into the arena instead: a
// descriptor and a mapping cost more.
const adoptCopy = 64 << 10

func (a *Adopted) publish(enc Encoding) (shm.Ref, error) {
	if a.segment == nil {
		panic("worker: Adopted is used up")
	}
	x := a.state.step.executor
	var ref shm.Ref
	var err error
	if a.segment.Size() <= adoptCopy {
		var b []byte
		if b, err = a.segment.Bytes(); err == nil {
			ref, err = x.arena.Write(enc, b)
		}
		err = errors.Join(err, a.Close())
	} else if ref, err = x.arena.Adopt(a.segment, enc); err == nil {
		a.segment = nil
	}
	if err != nil {
		return ref, err
	}
	x.held.Add(int64(ref.Length))
	return ref, nil
}

// Close drops the segment when it was not handed on; otherwise it does
// nothing.
func (a *Adopted) Close() error {
	seg := a.segment
	a.segment = nil
	if seg == nil {
		return nil
	}
	return seg.Close()
}

// Segment returns the descriptor, to be reopened, and the size of a segment
// that the state refers to. The descriptor stays the executor's.
func (s *State) Segment(id shm.SegmentID) (*os.File, int64, error) {
	seg, err := s.step.executor.segments.find(id)
	if err != nil {
		return nil, 0, err
	}
	return seg.File(), seg.Size(), nil
}

// ReadAt reads bytes of a segment that the state refers to, without mapping it.
func (s *State) ReadAt(id shm.SegmentID, p []byte, offset int64) (int, error) {
	seg, err := s.step.executor.segments.find(id)
	if err != nil {
		return 0, err
	}
	return seg.ReadAt(p, offset)
}
