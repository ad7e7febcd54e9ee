package phoenix

import (
	"bufio"
	"fmt"
	"io"
	"sync"
)

// binary handles a V2 binary frame:
//
//	0 push       join_ref, topic, event       payload
//	1 reply      join_ref, ref, topic, status payload
//	2 broadcast  topic, event                 payload
//
// The kind is one byte, then comes one byte for the length of each name, then
// the names, then the payload to the end of the frame.
func (s *Socket) binary(in *bufio.Reader) error {
	kind, err := in.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	const reply = 1
	if kind != reply {
		return fmt.Errorf("%w: a binary frame of kind %d, which no handler takes", errFormat, kind)
	}
	var lengths [4]byte
	if _, err := io.ReadFull(in, lengths[:]); err != nil {
		return short(err)
	}
	var names [4]string
	for i, n := range lengths {
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return short(err)
		}
		names[i] = string(b)
	}
	p := s.match(envelope{joinRef: names[0], ref: names[1], topic: names[2]})
	if p == nil {
		return nil
	}
	answer, status := &Reply{}, names[3]
	if p.opts.Into != nil && status == "ok" {
		err = s.stream(p, answer, func(w io.Writer) (int64, error) {
			n, err := io.CopyBuffer(onlyWriter{w}, onlyReader{in}, make([]byte, readBuffer))
			return n, err
		})
	} else {
		answer.Response, err = io.ReadAll(io.LimitReader(in, s.opts.MaxReply+1))
		if err == nil && int64(len(answer.Response)) > s.opts.MaxReply {
			err = &tooLarge{s.opts.MaxReply}
		}
	}
	return s.replied(p, status, answer, err)
}

func short(err error) error {
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return unexpected(err)
}

type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// sink is the caller's writer while a reply arrives. After Close, by whichever
// side comes first, nothing reaches it any more.
type sink struct {
	mu     sync.Mutex
	w      io.WriteCloser
	closed bool
	err    error
}

func (s *sink) open(into func(int64) (io.WriteCloser, error)) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return io.ErrClosedPipe
	}
	s.w, err = into(-1)
	s.closed = err != nil
	return err
}

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, &intoError{io.ErrClosedPipe}
	}
	n, err := s.w.Write(p)
	if err != nil {
		err = &intoError{err}
	}
	return n, err
}

// Close implements io.Closer.
func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		if s.w != nil {
			s.err = s.w.Close()
		}
	}
	return s.err
}
