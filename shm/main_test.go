package shm

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/shm/shmtest"
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

func leftovers() []string { return shmtest.Leftovers(memfdName) }

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
