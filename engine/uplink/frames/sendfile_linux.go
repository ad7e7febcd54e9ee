package frames

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSend is what one call sends at most; the kernel has a limit near 2 GiB.
const maxSend = 1 << 30

// sendfile sends length bytes of f from offset, without f's own file offset,
// and returns how many were sent. The segments that f is of are sealed against
// shrinking: the bytes are there.
func sendfile(socket syscall.RawConn, f *os.File, offset, length int64) (sent int64, err error) {
	file, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = file.Control(func(in uintptr) {
		err := socket.Write(func(out uintptr) bool {
			for sent < length {
				at := offset + sent
				n, err := unix.Sendfile(int(out), int(in), &at, int(min(length-sent, maxSend)))
				if n > 0 {
					sent += int64(n)
				}
				switch {
				case err == unix.EAGAIN:
					return false // wait until it is writable
				case err == unix.EINTR:
				case err != nil:
					failed = os.NewSyscallError("sendfile", err)
					return true
				case n == 0:
					failed = io.ErrUnexpectedEOF
					return true
				}
			}
			return true
		})
		failed = errors.Join(failed, err)
	})
	return sent, errors.Join(failed, err)
}

// cannotSend says whether the kernel has no sendfile for this pair.
func cannotSend(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}
