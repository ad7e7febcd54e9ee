package pool

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawner starts processes from one OS thread that never ends. The kernel's
// parent-death signal is bound to the thread that forked, not to the process:
// from an ordinary goroutine the children would die with whatever thread the
// runtime retires.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go forkThread(work)
	return work
})

func forkThread(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

// process is one executor's process group.
type process struct {
	cmd    *exec.Cmd
	reaped chan struct{} // closed once state is set
	state  *os.ProcessState
	peak   atomic.Uint64 // see look

	mu     sync.Mutex
	waited bool // the leader is reaped: its ids may be another's
}

// spawn starts cmd as the leader of a new process group, to die with us.
func spawn(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, reaped: make(chan struct{})}
	go p.reap()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// reap waits for the leader to end, kills what it left behind, and only then
// lets the kernel forget its ids.
func (p *process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.pid(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	p.killGroup()
	// The exit status is read from ProcessState; Wait's error repeats it.
	_ = p.cmd.Wait()
	p.waited = true
	p.state = p.cmd.ProcessState
	p.mu.Unlock()
	close(p.reaped)
}

// kill ends the process, its group and all its descendants. It does not wait;
// see reaped.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.waited {
		p.look()
		p.killGroup()
	}
}

// killGroup must be called with mu held and the leader not yet reaped.
// Descendants that left the group (setsid) are looked for first: once their
// parents are dead nothing leads to them any more.
func (p *process) killGroup() {
	for _, pid := range descendants(p.pid()) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = unix.Kill(-p.pid(), unix.SIGKILL)
}

// descendants returns the processes below pid, as far as they can be seen.
func descendants(pid int) []int {
	var all []int
	next := []int{pid}
	for len(next) > 0 {
		parent := next[0]
		next = next[1:]
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent))
		if err != nil {
			continue
		}
		for _, task := range tasks {
			list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", parent, task.Name()))
			if err != nil {
				continue
			}
			for _, field := range strings.Fields(string(list)) {
				if child, err := strconv.Atoi(field); err == nil {
					all = append(all, child)
					next = append(next, child)
				}
			}
		}
	}
	return all
}

// exit describes how the process ended; call it after reaped.
func (p *process) exit() (code int, status string) {
	if p.state == nil {
		return -1, "unknown"
	}
	return p.state.ExitCode(), p.state.String()
}

// look reads the largest resident size that the process ever had, in bytes,
// and keeps it for when the process is gone. The kernel's own accounting at the
// end will not do: it counts the moment between fork and exec, in which the
// child still has its parent's memory.
func (p *process) look() uint64 {
	if n := HighWater(p.pid()); n > p.peak.Load() {
		p.peak.Store(n)
	}
	return p.peak.Load()
}

// HighWater reads a live process's largest resident size in bytes.
func HighWater(pid int) uint64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// privateMemory returns the memory of a process that it shares with nobody, in
// bytes. Mapped state is counted where it was written, not where it is read.
func privateMemory(pid int) uint64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(statm))
	if len(f) < 3 {
		return 0
	}
	resident, _ := strconv.ParseUint(f[1], 10, 64)
	shared, _ := strconv.ParseUint(f[2], 10, 64)
	if shared > resident {
		return 0
	}
	return (resident - shared) * uint64(os.Getpagesize())
}
