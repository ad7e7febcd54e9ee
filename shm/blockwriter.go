package shm

import (
	"fmt"
	"io"
)

const (
	// firstRun is what a block of unknown length starts with, bytes.
	firstRun = 4 << 10
	// directWrite is the length from which on fresh pages are written straight
	// from the caller's bytes, not gathered first.
	directWrite = 64 << 10
)

// BlockWriter writes one block straight into shared memory. It belongs to one
// goroutine. Nothing is visible to a reader before Commit; an Abort, or a
// Commit that fails, gives the memory back. One of both must be called; to
// defer Abort is safe, it does nothing after Commit.
type BlockWriter struct {
	arena *Arena
	hint  int64 // expected length, 0 when unknown

	run      *run   // nil until the first byte
	mem      []byte // the run's bytes
	sealed   bool   // its descriptor refuses write(2)
	length   int64  // bytes written, the staged ones included
	reserved int64  // end of the last Reserve, 0 when there is none
	charged  int64  // bytes taken from the arena's limit
	fresh    int64  // of a large block: bytes written on new pages

	stage  *chunk // gathers small writes to fresh pages, nil until needed
	staged int    // bytes in it, the last ones of length

	nextUpgrade int64 // no look for a warmer segment below this length
	one         [1]byte

	err  error // a failed write to the segment
	done bool
}

var (
	_ io.Writer       = (*BlockWriter)(nil)
	_ io.ByteWriter   = (*BlockWriter)(nil)
	_ io.StringWriter = (*BlockWriter)(nil)
	_ io.ReaderFrom   = (*BlockWriter)(nil)
)

// NewBlock starts a block. hint is the expected length in bytes; 0 or less
// when it is unknown. A good hint saves a copy of at most LargeThreshold bytes
// and finds the best segment to reuse; a wrong one is only slower.
func (a *Arena) NewBlock(hint int64) *BlockWriter {
	return &BlockWriter{arena: a, hint: max(hint, 0)}
}

// Len returns the bytes written so far.
func (w *BlockWriter) Len() int64 { return w.length }

// Write appends p. On error, *LimitError above all, nothing of p is in the
// block, which can still be committed as it was, unless the memory could not
// be had from the system.
func (w *BlockWriter) Write(p []byte) (int, error) {
	if err := w.prepare(int64(len(p))); err != nil {
		return 0, err
	}
	w.reserved = 0
	if err := w.append(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString is Write for a string, without a copy of it.
func (w *BlockWriter) WriteString(s string) (int, error) { return w.Write(stringBytes(s)) }

// WriteByte appends one byte.
func (w *BlockWriter) WriteByte(c byte) error {
	w.one[0] = c // the heap would get a slice of its own for each byte
	_, err := w.Write(w.one[:])
	return err
}

// ReadFrom appends r to its end through a buffer.
func (w *BlockWriter) ReadFrom(r io.Reader) (int64, error) {
	buffer := takeChunk()
	defer buffer.release()
	var total int64
	for {
		n, readErr := fill(r, buffer[:])
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if readErr == io.EOF {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// Reserve returns n bytes of the mapping behind the ones written, to be filled
// and then appended by Advance. What they hold before is undefined: a reused
// segment is not cleared. The slice is valid until the next call on w other
// than Advance and Len. The bytes count against the limit from here on.
func (w *BlockWriter) Reserve(n int) ([]byte, error) {
	if n < 0 {
		panic(fmt.Sprintf("shm: Reserve of %d bytes", n))
	}
	if err := w.prepare(int64(n)); err != nil {
		return nil, err
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	w.reserved = w.length + int64(n)
	if w.run == nil { // n is 0
		return nil, nil
	}
	if w.run.owner.large {
		w.run.owner.mapExisting(w.length, int64(n))
	}
	return w.mem[w.length:w.reserved:w.reserved], nil
}

// Advance appends the first n bytes of the slice that Reserve returned; the
// rest of it may be advanced over by further calls. It panics beyond that.
func (w *BlockWriter) Advance(n int) {
	if n < 0 || w.length+int64(n) > max(w.reserved, w.length) {
		panic(fmt.Sprintf("shm: Advance by %d bytes, %d are reserved", n, max(w.reserved-w.length, 0)))
	}
	if n > 0 {
		w.wroteMapping(int64(n))
	}
}

// Bytes returns what was written so far, in the mapping. It is the caller's to
// change until the next call on w, and never valid after Commit or Abort. It
// returns nil when the memory could not be had from the system; Commit returns
// that error.
func (w *BlockWriter) Bytes() []byte {
	if w.done || w.run == nil || w.flush() != nil {
		return nil
	}
	return w.mem[:w.length:w.length]
}

// Commit publishes the block and returns the reference to it. From then on its
// bytes must not be changed. On error the block is aborted.
func (w *BlockWriter) Commit(encoding Encoding) (Ref, error) {
	if w.done {
		return Ref{}, ErrBlockDone
	}
	ref, err := w.commit(encoding)
	if err != nil {
		w.Abort()
		return Ref{}, err
	}
	w.arena.used.Add(w.length - w.charged)
	w.finish()
	return ref, nil
}

func (w *BlockWriter) commit(encoding Encoding) (Ref, error) {
	if !encoding.Valid() {
		return Ref{}, fmt.Errorf("%w: %d", ErrInvalidEncoding, uint8(encoding))
	}
	if w.length == 0 {
		// An empty block has a place of its own too, and a small one.
		w.release()
		w.hint = 0
		if err := w.grow(1); err != nil {
			return Ref{}, err
		}
	}
	if err := w.flush(); err != nil {
		return Ref{}, err
	}
	if w.run.owner.large && w.length < w.arena.options.LargeThreshold {
		if err := w.moveToSmall(); err != nil {
			return Ref{}, err
		}
	}
	a, s := w.arena, w.run.owner
	if err := s.announce.do(s.seg, a.options.OnSegment); err != nil {
		return Ref{}, fmt.Errorf("shm: announce segment %d: %w", uint64(s.seg.ID()), err)
	}
	return a.publish(w.run, w.length, encoding, w.fresh)
}

// Abort gives the block's memory back. It does nothing after Commit or Abort.
func (w *BlockWriter) Abort() {
	if w.done {
		return
	}
	w.arena.used.Add(-w.charged)
	w.release()
	w.finish()
}

// finish drops what the writer holds besides its run.
func (w *BlockWriter) finish() {
	w.done = true
	w.run, w.mem, w.reserved = nil, nil, 0
	w.dropStage()
}

func (w *BlockWriter) dropStage() {
	if w.stage != nil {
		w.stage.release()
		w.stage, w.staged = nil, 0
	}
}
