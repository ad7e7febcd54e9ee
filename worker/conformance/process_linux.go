package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/ipc"
)

// process is the program under test: a process group of its own.
type process struct {
	cmd    *exec.Cmd
	stderr tail
	exited chan struct{} // closed once it is reaped

	mu     sync.Mutex // held while its id is used, so that it is still its own
	reaped bool
}

// spawn starts the program with remote as the descriptor fd, which the
// environment names.
func spawn(options *Options, remote *os.File, fd int, stdin []byte) (*process, error) {
	p := &process{cmd: exec.Command(options.Argv[0], options.Argv[1:]...), exited: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), options.Env...), fmt.Sprintf("%s=%d", ipc.FDVariable, fd))
	p.cmd.ExtraFiles = make([]*os.File, fd-2)
	p.cmd.ExtraFiles[fd-3] = remote
	p.cmd.Stdout, p.cmd.Stderr = io.Discard, &p.stderr
	if stdin != nil {
		p.cmd.Stdin = bytes.NewReader(stdin)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A child of the program's may hold its output open.
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		// Reaped under the lock, so that signals cannot hit another process.
		var info unix.Siginfo
		for unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
		p.mu.Lock()
		p.reaped = true
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // what it left behind
		p.mu.Unlock()
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.exited)
	}()
	return p, nil
}

// signal sends a signal to the whole group.
func (p *process) signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	return unix.Kill(-p.cmd.Process.Pid, sig)
}

// ended describes how the process ended; ok is false when it has not within
// the time.
func (p *process) ended(within time.Duration) (code int, status string, ok bool) {
	select {
	case <-p.exited:
	case <-time.After(within):
		return 0, "", false
	}
	state := p.cmd.ProcessState
	return state.ExitCode(), state.String(), true
}

// fileID tells files apart.
type fileID struct{ device, inode uint64 }

func identify(f *os.File) (fileID, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return fileID{}, err
	}
	var st unix.Stat_t
	cerr := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) })
	return fileID{st.Dev, st.Ino}, errors.Join(cerr, err)
}

// isOpen reports whether the process has the file open.
func isOpen(pid uint32, id fileID) (bool, error) {
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(folder, e.Name()), &st) == nil && (fileID{st.Dev, st.Ino}) == id {
			return true, nil
		}
	}
	return false, nil
}

// isMapped reports whether the process has the memfd mapped.
func isMapped(pid uint32, id fileID) (bool, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false, err
	}
	inode := strconv.FormatUint(id.inode, 10)
	for line := range strings.Lines(string(maps)) {
		// address perms offset device inode path
		fields := strings.Fields(line)
		if len(fields) >= 6 && fields[4] == inode && strings.HasPrefix(fields[5], "/memfd:") {
			return true, nil
		}
	}
	return false, nil
}

// groupMembers returns the processes of a group.
func groupMembers(group int) ([]uint32, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var members []uint32
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		if g, err := unix.Getpgid(int(pid)); err == nil && g == group {
			members = append(members, uint32(pid))
		}
	}
	return members, nil
}

// groupOf returns the process group of a process.
func groupOf(pid uint32) (int, error) { return unix.Getpgid(int(pid)) }

// writable reports whether a descriptor that was received can be mapped for
// writing: of a sealed segment it cannot.
func writable(f *os.File, size int) (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var mem []byte
	cerr := raw.Control(func(fd uintptr) {
		mem, err = unix.Mmap(int(fd), 0, min(size, os.Getpagesize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	})
	if cerr != nil {
		return false, cerr
	}
	if err != nil {
		return false, nil
	}
	return true, unix.Munmap(mem)
}

// monotonic returns CLOCK_MONOTONIC in nanoseconds.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return uint64(ts.Nano())
}

// unsealed returns a memfd of the size without any seal.
func unsealed(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "unsealed")
	return f, f.Truncate(size)
}

// put64 writes a number into a file that is mapped elsewhere as well.
func put64(f *os.File, at int64, n uint64) error {
	_, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, n), at)
	return err
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - tailSize; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(t.b)), "\uFFFD")
}
