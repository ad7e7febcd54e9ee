// Package shmtest tells the tests of whoever uses shared memory what is left of
// it. It knows of memory only what the kernel shows of this process, so that
// package shm's own tests can use it.
package shmtest

import (
	"os"
	"path/filepath"
	"strings"
)

// Leftovers lists the descriptors and mappings that this process has of memfds
// whose name begins so; "" is any. All of the project's begin with "millrace".
func Leftovers(name string) []string {
	var found []string
	fds, _ := filepath.Glob("/proc/self/fd/*") // the pattern is a good one
	for _, fd := range fds {
		// One that is closed by now is none.
		if target, err := os.Readlink(fd); err == nil && strings.Contains(target, "memfd:"+name) {
			found = append(found, fd+" -> "+target)
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return append(found, err.Error())
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "memfd:"+name) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
