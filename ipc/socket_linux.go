package ipc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readSize is what one read from the socket asks for. Most frames are a few
	// hundred bytes; several come in one read.
	readSize = 16 << 10
	// maxUnclaimedFiles is how many descriptors may wait for the frames that
	// declare them.
	maxUnclaimedFiles = 8
	// maxIdleBuffer is the largest buffer kept between frames.
	maxIdleBuffer = 64 << 10
)

// Socketpair returns the two ends of a control channel: one for this process,
// one to hand to a child (close-on-exec both; exec.Cmd.ExtraFiles clears that
// for the child).
func Socketpair() (local *net.UnixConn, remote *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("ipc: socketpair: %w", err)
	}
	remote = os.NewFile(uintptr(fds[1]), "millrace-executor")
	local, err = FileConn(os.NewFile(uintptr(fds[0]), "millrace-supervisor"))
	if err != nil {
		return nil, nil, errors.Join(err, remote.Close())
	}
	return local, remote, nil
}

// FileConn turns an inherited descriptor into a connection. It takes ownership
// of f.
func FileConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close() // net.FileConn duplicates it
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("ipc: descriptor %s is no socket: %w", f.Name(), err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("ipc: descriptor %s is no Unix socket", f.Name()), c.Close())
	}
	return u, nil
}

// socket reads and writes whole frames. One goroutine at a time reads, one
// writes.
type socket struct {
	conn *net.UnixConn

	// The reader's.
	buf   []byte // buf[r:w] is unread
	r, w  int
	oob   []byte
	files []*os.File // received, not yet claimed by a frame
}

func newSocket(c *net.UnixConn) *socket {
	return &socket{conn: c, buf: make([]byte, readSize), oob: make([]byte, unix.CmsgSpace(maxUnclaimedFiles*4))}
}

// writeFrame writes one frame, with a descriptor if f is not nil.
func (s *socket) writeFrame(b []byte, f *os.File, deadline time.Time) error {
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return hangUp(err)
	}
	if f == nil {
		_, err := s.conn.Write(b)
		return hangUp(err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	// The descriptor is used inside Control so that a concurrent Close of f
	// cannot hand its number to another file first.
	var n int
	cerr := raw.Control(func(fd uintptr) {
		n, _, err = s.conn.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	})
	if err := errors.Join(cerr, err); err != nil {
		return hangUp(err)
	}
	if n < len(b) {
		_, err = s.conn.Write(b[n:])
	}
	return hangUp(err)
}

// peerGone returns ErrHangUp when the peer has closed its end. It reads
// nothing, so any goroutine may ask.
func (s *socket) peerGone() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return hangUp(err)
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}} // a hang-up is always reported
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	if err == nil && gone {
		return ErrHangUp
	}
	return hangUp(err)
}

// errNothing is returned by recv when it would have to wait.
var errNothing = errors.New("ipc: nothing to read")

// readFrame waits for the next frame and returns it; its bytes are valid until
// the socket is read again.
func (s *socket) readFrame() (received, error) {
	for {
		f, err := s.next()
		if f.bytes != nil || err != nil {
			return f, err
		}
		if err := s.wait(s.recv); err != nil {
			return received{}, err
		}
	}
}

// next returns the next frame, if it was read already.
func (s *socket) next() (received, error) {
	unread := s.buf[s.r:s.w]
	if len(unread) < HeaderSize {
		return received{}, nil
	}
	h, err := parseHeader(unread)
	if err != nil || len(unread) < int(h.size) {
		return received{}, err
	}
	f := received{header: h, bytes: unread[:h.size]}
	s.r += int(h.size)
	if h.files == 1 {
		if len(s.files) == 0 {
			return received{}, protocolErrorf("%s: a descriptor was declared and none was sent", h.typ)
		}
		f.file, s.files = s.files[0], s.files[1:]
	}
	// Descriptors arrive no later than the first byte of their frame, and a
	// read does not go past the bytes that a later descriptor is attached to.
	if s.r == s.w && len(s.files) > 0 {
		f.close()
		return received{}, protocolErrorf("%s: %d descriptors came that no frame declares", h.typ, len(s.files))
	}
	return f, nil
}

// wait calls read with the descriptor until it does not return errNothing,
// whenever there may be something to read, and returns what it returned.
func (s *socket) wait(read func(fd uintptr) error) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		failed = read(fd)
		return failed != errNothing
	})
	if err != nil {
		return err
	}
	return failed
}

// waitAtMost calls read like wait, but once, or twice with so much time in
// between, while the thread sleeps.
func (s *socket) waitAtMost(limit time.Duration, read func(fd uintptr) error) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = read(fd); failed != errNothing || limit == 0 {
			return
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		failed = read(fd)
	})
	if err != nil {
		return err
	}
	return failed
}

// recv reads once, and does not wait: errNothing.
func (s *socket) recv(fd uintptr) error {
	s.makeRoom()
	n, oobn, flags, _, err := unix.Recvmsg(int(fd), s.buf[s.w:], s.oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	switch err {
	case nil:
	case unix.EAGAIN:
		return errNothing
	case unix.EINTR:
		return nil
	case unix.ECONNRESET:
		n, oobn, flags = 0, 0, 0
	default:
		return os.NewSyscallError("recvmsg", err)
	}
	if oobn > 0 {
		if err := s.takeFiles(s.oob[:oobn]); err != nil {
			return err
		}
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		return protocolErrorf("more than %d descriptors in one message", maxUnclaimedFiles)
	case n == 0 && s.w > s.r:
		return fmt.Errorf("%w in the middle of a frame, after %d bytes of it", ErrHangUp, s.w-s.r)
	case n == 0:
		return ErrHangUp
	}
	s.w += n
	return nil
}

// makeRoom has room for the rest of the frame whose first bytes were read.
func (s *socket) makeRoom() {
	need := HeaderSize
	if unread := s.buf[s.r:s.w]; len(unread) >= HeaderSize {
		if h, err := parseHeader(unread); err == nil {
			need = int(h.size)
		}
	}
	if s.r > 0 {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	switch {
	case need > len(s.buf):
		grown := make([]byte, align(need+readSize))
		copy(grown, s.buf[:s.w])
		s.buf = grown
	case s.w == 0 && len(s.buf) > maxIdleBuffer:
		s.buf = make([]byte, readSize)
	}
}

func (s *socket) takeFiles(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return protocolErrorf("control data: %v", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // not descriptors: nothing of ours
		}
		for _, fd := range fds {
			s.files = append(s.files, os.NewFile(uintptr(fd), "received"))
		}
	}
	if len(s.files) > maxUnclaimedFiles {
		return protocolErrorf("%d descriptors that no frame has declared", len(s.files))
	}
	return nil
}

// close closes the connection. closeFiles may only be called by the reader,
// once it reads no more.
func (s *socket) close() error { return s.conn.Close() }

func (s *socket) closeFiles() {
	for _, f := range s.files {
		f.Close()
	}
	s.files = nil
}

// hangUp turns the system's words for a closed peer into ErrHangUp.
func hangUp(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET):
		return ErrHangUp
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	}
	return err
}
