package command

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	terminate = unix.SIGTERM
	kill      = unix.SIGKILL
)

// starter starts processes which die with this one. That is a matter of the
// thread which forked them: it must live as long as they do. So one thread,
// which never ends, forks them all.
type starter struct {
	once  sync.Once
	tasks chan func()
	err   error // of becoming the reaper
}

func (s *starter) begin() {
	s.tasks = make(chan func())
	// Descendants whose parent ends become this process's children, and so can
	// be found.
	s.err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	// Whatever this process was left by those who started it, a command is
	// handed only what it is meant to have. Before Linux 5.11 it stays as it is.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	go func() {
		runtime.LockOSThread()
		for task := range s.tasks {
			task()
		}
	}()
}

func (s *starter) start(program string, argv []string, dir string, env []string, files []*os.File) (*os.Process, error) {
	s.once.Do(s.begin)
	if s.err != nil {
		return nil, fmt.Errorf("become the reaper of orphans: %w", s.err)
	}
	var process *os.Process
	var err error
	done := make(chan struct{})
	s.tasks <- func() {
		defer close(done)
		process, err = os.StartProcess(program, argv, &os.ProcAttr{
			Dir: dir, Env: env, Files: files,
			Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
		})
	}
	<-done
	return process, err
}

// killRest kills and reaps every descendant that is left, the command itself
// having been reaped. Until patience it only waits for them.
func killRest(patience time.Time) {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR) || pid > 0:
			continue
		case err != nil: // ECHILD: no children
			return
		}
		if time.Now().After(patience) {
			signalDescendants(kill)
		}
		time.Sleep(time.Millisecond)
	}
}

// setAppend makes every write go to the end, also those of a program that
// opened the file anew.
func setAppend(f *os.File) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_APPEND)
	return err
}

// fileMemory returns what a memfd takes or claims, whichever is more.
func fileMemory(f *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return max(st.Blocks*512, st.Size), nil
}

// isExecutable reports whether this process may execute the file.
func isExecutable(path string) bool { return unix.Access(path, unix.X_OK) == nil }

// reopen returns the file again, read-only, at its start and with an offset of
// its own.
func reopen(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var n int
	cerr := raw.Control(func(fd uintptr) {
		n, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err := errors.Join(cerr, err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), f.Name()), nil
}

// seal makes a memfd's bytes final. Where somebody holds a writable mapping,
// out of reach, at least nobody else can write any more.
func seal(f *os.File) error {
	const size = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, size|unix.F_SEAL_WRITE)
	if errors.Is(err, unix.EBUSY) {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, size|unix.F_SEAL_FUTURE_WRITE)
	}
	return err
}
