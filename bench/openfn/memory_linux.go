package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// sampler watches the memory of a set of processes: the sum of their
// proportional set sizes without shared memory, and every page of the memfds
// that they hold, mapped or not, once.
type sampler struct {
	stop, done chan struct{}
	peak       atomic.Int64
}

// sampleEvery is coarse: reading a large process's pages takes milliseconds.
const sampleEvery = 25 * time.Millisecond

func watch(pids func() []int) *sampler {
	s := &sampler{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for {
			if n := memoryOf(pids()); n > s.peak.Load() {
				s.peak.Store(n)
			}
			select {
			case <-s.stop:
				return
			case <-time.After(sampleEvery):
			}
		}
	}()
	return s
}

// end stops watching and returns the peak in bytes.
func (s *sampler) end() int64 {
	close(s.stop)
	<-s.done
	return s.peak.Load()
}

func memoryOf(pids []int) (total int64) {
	seen := make(map[uint64]bool)
	for _, pid := range pids {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended
		}
		total += field(rollup, "Pss_Anon:") + field(rollup, "Pss_File:")
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := dir + "/" + e.Name()
			if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "/memfd:") {
				continue
			}
			var st syscall.Stat_t
			if syscall.Stat(path, &st) == nil && !seen[st.Ino] {
				seen[st.Ino] = true
				total += st.Blocks * 512
			}
		}
	}
	return total
}

// field returns a line of smaps_rollup in bytes.
func field(text []byte, name string) int64 {
	_, rest, ok := bytes.Cut(text, []byte(name))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	return n << 10
}

// tree returns a process and all below it.
func tree(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", all[i]))
		for _, t := range tasks {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", all[i], t.Name()))
			for _, f := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

func ownRSS() int64 {
	b, _ := os.ReadFile("/proc/self/smaps_rollup")
	return field(b, "\nRss:")
}

// watchOwn watches this process's resident size.
func watchOwn() *sampler {
	s := &sampler{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for {
			if n := ownRSS(); n > s.peak.Load() {
				s.peak.Store(n)
			}
			select {
			case <-s.stop:
				return
			case <-time.After(sampleEvery):
			}
		}
	}()
	return s
}
