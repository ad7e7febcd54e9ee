package peer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is the largest that an unprivileged process may ask for by default
// (/proc/sys/fs/pipe-max-size), in bytes.
const pipeSize = 1 << 20

// duplex is a byte stream to read from and one to write to; both may be one.
type duplex struct {
	io.Reader
	io.Writer
}

// pipePair returns the supervisor's two ends of a pair of pipes, and the
// step's two, to be inherited in this order: read, write. All are blocking.
func pipePair() (ours duplex, theirs []*os.File, err error) {
	toR, toW, err := pipe()
	if err != nil {
		return duplex{}, nil, err
	}
	fromR, fromW, err := pipe()
	if err != nil {
		return duplex{}, nil, errors.Join(err, toR.Close(), toW.Close())
	}
	return duplex{fromR, toW}, []*os.File{toR, fromW}, nil
}

func pipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	// A host with a lower limit keeps the default; the result is then that
	// host's truth.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// socketBuffer is what each side may have in flight, in bytes. Measured: a fifth
// faster from 1 MB up than the kernel's default. Where the host's limit is
// lower, the kernel takes that.
const socketBuffer = 1 << 20

// socketPair returns the supervisor's end of a Unix stream socket, and the
// step's, to be inherited.
func socketPair() (ours *os.File, theirs []*os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	for _, fd := range fds {
		// Like a pipe's size, this is a wish.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), []*os.File{os.NewFile(uintptr(fds[1]), "socket")}, nil
}
