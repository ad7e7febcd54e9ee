package command

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// pipeSize is the capacity asked for: fewer switches between the two sides.
const pipeSize = 1 << 20

// growPipe enlarges a pipe. Where a user's quota of pipe memory is used up, it
// stays as it is.
func growPipe(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize) }

// writev writes the pieces to a file or pipe, all of them.
func writev(f *os.File, batch [][]byte) error {
	if len(batch) == 0 {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for len(batch) > 0 {
		var n int
		werr := raw.Write(func(fd uintptr) bool {
			for {
				n, err = unix.Writev(int(fd), batch)
				if !errors.Is(err, unix.EINTR) {
					return !errors.Is(err, unix.EAGAIN)
				}
			}
		})
		if err := errors.Join(werr, err); err != nil {
			return err
		}
		for n > 0 && n >= len(batch[0]) {
			n -= len(batch[0])
			batch = batch[1:]
		}
		if n > 0 {
			batch[0] = batch[0][n:]
		}
	}
	return nil
}
