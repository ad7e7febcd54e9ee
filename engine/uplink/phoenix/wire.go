package phoenix

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// wire stands between the websocket library and the connection. The library
// writes in pieces of 4 KiB, and cannot write a frame of known length in
// pieces: wire gathers the pieces of a message into larger writes, and writes
// whole frames itself. Everything else is the library's.
type wire struct {
	io.ReadWriteCloser
	read, written atomic.Int64 // bytes so far, for the heartbeat to see progress

	mu     sync.Mutex
	buf    []byte
	corked bool   // gather until uncork
	whole  bool   // a whole frame is being written: control frames wait in later
	later  []byte // at most maxLater
}

// maxLater bounds the control frames that wait for the end of a whole frame;
// more, such as the answers to a flood of pings, are dropped.
const maxLater = 8 << 10

// Read implements io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.ReadWriteCloser.Read(p)
	w.read.Add(int64(n))
	return n, err
}

// Write implements io.Writer, for the library: whole frames or pieces of them.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.whole {
		if len(w.later)+len(p) <= maxLater {
			w.later = append(w.later, p...)
		}
		return len(p), nil
	}
	if !w.corked {
		return len(p), w.flush(p)
	}
	return len(p), w.gather(p)
}

func (w *wire) gather(p []byte) error {
	for len(p) > 0 {
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(nil); err != nil {
				return err
			}
		}
		n := copy(w.buf[len(w.buf):cap(w.buf)], p)
		w.buf = w.buf[:len(w.buf)+n]
		p = p[n:]
	}
	return nil
}

// flush writes the buffer, then p.
func (w *wire) flush(p []byte) error {
	for _, b := range [][]byte{w.buf, p} {
		if len(b) == 0 {
			continue
		}
		n, err := w.ReadWriteCloser.Write(b)
		w.written.Add(int64(n))
		if err != nil {
			return err
		}
	}
	w.buf = w.buf[:0]
	return nil
}

func (w *wire) cork() {
	w.mu.Lock()
	w.corked = true
	w.mu.Unlock()
}

func (w *wire) uncork() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	return w.flush(nil)
}

// frame is one text frame of known length that is written in pieces. Between
// startFrame and its end nothing else is written.
type frame struct {
	w    *wire
	left int64
	mask [4]byte
	turn int // position in mask
}

// startFrame writes the header of an unfragmented, masked text frame.
func (w *wire) startFrame(length int64) (*frame, error) {
	f := &frame{w: w, left: length}
	rand.Read(f.mask[:])
	const fin, text, masked = 0x80, 0x01, 0x80
	header := []byte{fin | text}
	switch {
	case length < 126:
		header = append(header, masked|byte(length))
	case length < 1<<16:
		header = binary.BigEndian.AppendUint16(append(header, masked|126), uint16(length))
	default:
		header = binary.BigEndian.AppendUint64(append(header, masked|127), uint64(length))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = true
	return f, w.gather(append(header, f.mask[:]...))
}

// Write implements io.Writer.
func (f *frame) Write(p []byte) (int, error) {
	if int64(len(p)) > f.left {
		return 0, fmt.Errorf("phoenix: the payload grew by %d bytes or more since it was measured", int64(len(p))-f.left)
	}
	f.left -= int64(len(p))
	w := f.w
	total := len(p)
	for len(p) > 0 {
		if len(w.buf) == cap(w.buf) {
			w.mu.Lock()
			err := w.flush(nil)
			w.mu.Unlock()
			if err != nil {
				return total - len(p), &writeError{err}
			}
		}
		start := len(w.buf)
		n := copy(w.buf[start:cap(w.buf)], p)
		w.buf = w.buf[:start+n]
		f.turn = maskBytes(w.buf[start:], f.mask, f.turn)
		p = p[n:]
	}
	return total, nil
}

// Close fills what is left of the frame with white space, which JSON allows at
// its end, and sends the control frames that waited for it.
func (f *frame) Close() error {
	spaces := bytes.Repeat([]byte{' '}, int(min(f.left, 4<<10)))
	for f.left > 0 {
		if _, err := f.Write(spaces[:min(f.left, int64(len(spaces)))]); err != nil {
			return err
		}
	}
	w := f.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.whole = false
	err := w.flush(w.later)
	w.later = w.later[:0]
	if err != nil {
		return &writeError{err}
	}
	return nil
}

// maskBytes masks b in place, beginning at position turn of the mask, and
// returns the position after it.
func maskBytes(b []byte, mask [4]byte, turn int) int {
	var key [8]byte
	for i := range key {
		key[i] = mask[(turn+i)&3]
	}
	k := binary.LittleEndian.Uint64(key[:])
	next := (turn + len(b)) & 3
	for len(b) >= 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^k)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^k)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^k)
		b = b[32:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
	return next
}
