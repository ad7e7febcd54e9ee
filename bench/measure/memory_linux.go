package measure

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Memory is what a set of processes holds, in bytes. Pages that several of
// them map are counted once.
type Memory struct {
	Private int64 // proportional share of anonymous and file pages
	Mapped  int64 // proportional share of shared memory that somebody maps
	Shared  int64 // pages of the memory files that somebody has open, mapped or not
}

// Total is the sum without double counting. PSS does not see a memfd that a
// process holds open but nobody maps; its pages are memory all the same, so
// the larger of the two views of shared memory counts.
func (m Memory) Total() int64 { return m.Private + max(m.Mapped, m.Shared) }

type inode struct{ dev, ino uint64 }

// MemoryOf sums the memory of the processes.
func MemoryOf(pids []int) (Memory, error) {
	var m Memory
	seen := map[inode]bool{}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		if err := m.addRollup(dir); err != nil {
			return Memory{}, err
		}
		if err := m.addMemoryFiles(dir, seen); err != nil {
			return Memory{}, err
		}
	}
	return m, nil
}

// addRollup adds the proportional set size of one process.
func (m *Memory) addRollup(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return fmt.Errorf("proportional set size: %w", err)
	}
	var pss, shmem int64
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok || name != "Pss" && name != "Pss_Shmem" {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return fmt.Errorf("proportional set size: line %q: %w", lines.Text(), err)
		}
		if name == "Pss" {
			pss = kb << 10
		} else {
			shmem = kb << 10
		}
	}
	m.Private += pss - shmem
	m.Mapped += shmem
	return nil
}

// addMemoryFiles adds the memfds and tmpfs files that the process has open and
// that are not in seen yet.
func (m *Memory) addMemoryFiles(dir string, seen map[inode]bool) error {
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return fmt.Errorf("open files: %w", err)
	}
	for _, fd := range fds {
		path := filepath.Join(dir, "fd", fd.Name())
		target, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(target, "/memfd:") && !strings.HasPrefix(target, "/dev/shm/") {
			continue // closed meanwhile, or another kind of file
		}
		var st syscall.Stat_t
		if syscall.Stat(path, &st) != nil {
			continue // closed meanwhile
		}
		id := inode{st.Dev, st.Ino}
		if !seen[id] {
			seen[id] = true
			m.Shared += st.Blocks * 512
		}
	}
	return nil
}

// Available returns the bytes of memory that new work can have without
// swapping, as the kernel estimates it.
func Available() (int64, error) { return meminfo("MemAvailable") }

// Shared returns the bytes of all shared memory of this machine, whosever it
// is. It is the kernel's own counter: exact at one instant, where MemoryOf looks
// at one process after another while memory goes from one to the next.
func Shared() (int64, error) { return meminfo("Shmem") }

func meminfo(field string) (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("memory of this machine: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of this machine: line %q: %w", line, err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("memory of this machine: /proc/meminfo has no %s", field)
}
