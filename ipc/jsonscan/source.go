package jsonscan

import (
	"errors"
	"fmt"
	"io"
)

// firstWindow is how many bytes are read where a scan starts or jumps. One
// that goes on from there reads whole windows.
const firstWindow = 16 << 10

// memoryWindow is how many bytes of memory are scanned between two calls of
// Options.Check.
const memoryWindow = 1 << 20

// source is where the bytes of a scan come from: memory, an io.ReaderAt or an
// io.Reader. Scans of one source share its window.
type source struct {
	mem    []byte
	at     io.ReaderAt
	stream io.Reader
	opts   Options

	buf   []byte
	start int64 // offset of the window's first byte
	fill  int   // bytes in the window
	turn  int   // counts refills: earlier chunks are overwritten
}

// chunk returns bytes from off on, at least one unless the end is reached. It
// is valid until turn changes.
func (s *source) chunk(off, end int64) ([]byte, error) {
	if off >= end {
		return nil, nil
	}
	if s.opts.Check != nil {
		if err := s.opts.Check(); err != nil {
			return nil, err
		}
	}
	switch {
	case s.stream != nil:
		return s.readStream()
	case s.at == nil:
		if s.opts.Check != nil {
			end = min(end, off+memoryWindow)
		}
		return s.mem[off:end], nil
	}
	if off < s.start || off >= s.start+int64(s.fill) {
		if err := s.readAt(off, end); err != nil {
			return nil, err
		}
	}
	chunk := s.buf[off-s.start : s.fill]
	return chunk[:min(int64(len(chunk)), end-off)], nil
}

// readAt moves the window to off.
func (s *source) readAt(off, end int64) error {
	size := s.opts.Window
	// Going on, or a little back: two scans, of an array and of an element in
	// it, take turns where a window ends.
	ahead := off - s.start
	if s.fill == 0 || ahead > int64(s.fill) || ahead < -int64(size) {
		size = min(size, firstWindow)
	}
	size = int(min(int64(size), end-off))
	if size > len(s.buf) {
		s.buf = make([]byte, size)
	}
	s.turn++
	n, err := s.at.ReadAt(s.buf[:size], off)
	s.start, s.fill = off, n
	s.opts.Stats.Read += int64(n)
	if n > 0 {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading JSON at offset %d of %d: %w", off, end, err)
}

// readStream reads the next piece. A reader may return nothing a few times.
func (s *source) readStream() ([]byte, error) {
	if s.buf == nil {
		s.buf = make([]byte, s.opts.Window)
	}
	s.turn++
	for range 100 {
		n, err := s.stream.Read(s.buf)
		s.start, s.fill = s.start+int64(s.fill), n
		s.opts.Stats.Read += int64(n)
		switch {
		case n > 0:
			return s.buf[:n], nil
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("reading JSON at offset %d: %w", s.start, err)
		}
	}
	return nil, fmt.Errorf("reading JSON at offset %d: %w", s.start, io.ErrNoProgress)
}
