package shm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// memfdName is what /proc/PID/maps and /proc/PID/fd show of every segment.
const memfdName = "millrace"

// MFD_NOEXEC_SEAL adds F_SEAL_EXEC too. It is not among the seals that a
// reader asks for, because kernels before Linux 6.3 do not know it.
const (
	birthSeals  = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	writerSeals = unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL
	frozenSeals = birthSeals | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
)

// newMemfd makes an empty memfd that takes seals and can never be executed.
func newMemfd(name string) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("shm: create memfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "memfd:"+name), nil
}

// getSeals returns the seals of a memfd, ErrNotMemfd for anything else.
func getSeals(file *os.File) (int, error) {
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if errors.Is(err, unix.EINVAL) {
		return 0, ErrNotMemfd
	}
	if err != nil {
		return 0, fmt.Errorf("shm: read seals: %w", err)
	}
	return seals, nil
}

func addSeals(file *os.File, seals int) error {
	_, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals)
	return err
}

// checkReaderSeals returns a *SealError unless nobody but the one who mapped
// the memfd before can change its bytes, and nobody at all its size.
func checkReaderSeals(have int) error {
	want := birthSeals | writerSeals
	if have&unix.F_SEAL_WRITE != 0 {
		want = frozenSeals
	}
	if have&want != want {
		return &SealError{Have: have, Want: want}
	}
	return nil
}

// checkReadable refuses a descriptor that could be neither mapped nor read.
func checkReadable(file *os.File) error {
	flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("shm: read descriptor flags: %w", err)
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		return ErrNotReadable
	}
	return nil
}

// residentBytes returns the memory that the file's pages take, in bytes.
func residentBytes(file *os.File) (int64, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstat(int(file.Fd()), &st)
		if err == nil {
			return st.Blocks * 512, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("shm: fstat: %w", err)
		}
	}
}

// mapExisting enters pages that exist already into the page table, sixteen a
// fault, and writable where the mapping is. It is advice: a kernel without it
// (before Linux 5.14) faults them in one by one later.
func mapExisting(mem []byte) {
	_ = unix.Madvise(mem, unix.MADV_POPULATE_READ)
}

// populate makes fresh pages and enters them into the page table.
func populate(mem []byte) error {
	for {
		err := unix.Madvise(mem, unix.MADV_POPULATE_WRITE)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EINVAL):
			return fmt.Errorf("shm: populate %d bytes: %w", len(mem), err)
		}
		// Before Linux 5.14: touch each page. The segment holds no block, so
		// its bytes are free to change.
		for i := 0; i < len(mem); i += os.Getpagesize() {
			mem[i] = 0
		}
		return nil
	}
}

// forgetPages takes the pages of a shared mapping out of this process's page
// table (and its RSS). The memfd keeps them.
func forgetPages(mem []byte) error {
	if err := unix.Madvise(mem, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("shm: drop pages: %w", err)
	}
	return nil
}

// sendfile moves up to n bytes from the offset of the regular file in into
// out, and returns 0 at its end.
func sendfile(out, in *os.File, n int) (int, error) {
	for {
		done, err := unix.Sendfile(int(out.Fd()), int(in.Fd()), nil, n)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return max(done, 0), err
		}
	}
}

// DupFile returns another descriptor of what f is, close-on-exec and the
// caller's to close. f may be closed by others meanwhile, and may be nil: then it
// is os.ErrClosed.
func DupFile(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, os.ErrClosed
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
	if cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
