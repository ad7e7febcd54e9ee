package command

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// processStat is what /proc says of a process.
type processStat struct {
	parent int
	start  string // when it started: with the pid, its identity
}

// signalDescendants signals every process that this one has made, directly or
// not. A process that is gone, or whose pid is another's by now, is skipped.
func signalDescendants(signal unix.Signal) {
	all := processes()
	self := os.Getpid()
	for pid, stat := range all {
		if pid != self && descends(all, pid, self) {
			signalProcess(pid, stat, signal)
		}
	}
}

func descends(all map[int]processStat, pid, from int) bool {
	// The chain is not longer than there are processes, even if the snapshot
	// of a changing world had a circle.
	for range len(all) {
		stat, ok := all[pid]
		if !ok {
			return false
		}
		if stat.parent == from {
			return true
		}
		pid = stat.parent
	}
	return false
}

// signalProcess signals the process with that pid and start. The descriptor
// fixes who is meant before the check that it is still the same.
func signalProcess(pid int, stat processStat, signal unix.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now, ok := readStat(pid); ok && now.start == stat.start {
		// An error means that it is gone.
		_ = unix.PidfdSendSignal(fd, signal, nil, 0)
	}
}

// processes returns all processes that can be seen.
func processes() map[int]processStat {
	all := make(map[int]processStat)
	dir, err := os.Open("/proc")
	if err != nil {
		return all
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return all
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if stat, ok := readStat(pid); ok {
			all[pid] = stat
		}
	}
	return all
}

// readStat reads /proc/PID/stat: "pid (name) state ppid …", the start time the
// 22nd field. The name may have anything in it, so counting begins behind the
// last parenthesis.
func readStat(pid int) (processStat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processStat{}, false
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return processStat{}, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return processStat{}, false
	}
	return processStat{parent: parent, start: string(fields[19])}, true
}
