package shm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain fails the package when any test left a descriptor or a mapping of
// a segment behind, whatever else it checked.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leftovers(); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind after all tests:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	os.Exit(code)
}

// leftovers lists this process's descriptors and mappings of segments.
func leftovers() []string {
	var found []string
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.Contains(target, "memfd:"+memfdName) {
			found = append(found, fd+" -> "+target)
		}
	}
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "memfd:"+memfdName) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// noLeftovers checks at the end of the test that it cleaned up.
func noLeftovers(t *testing.T) {
	t.Helper()
	before := len(leftovers())
	t.Cleanup(func() {
		if left := leftovers(); len(left) > before {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
