package stream

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/shm/shmtest"
)

// TestMain fails the package when any test left a descriptor or a mapping of a
// ring behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := shmtest.Leftovers("millrace-stream"); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "left behind after all tests:\n%s\n", strings.Join(left, "\n"))
		code = 1
	}
	os.Exit(code)
}

const small = shm.MinStreamCapacity

// memory returns a ring's descriptor twice.
func memory(t testing.TB, capacity uint64) (*os.File, *os.File) {
	t.Helper()
	f, err := shm.CreateStreamMemory(capacity)
	if err != nil {
		t.Fatal(err)
	}
	return again(t, f), f
}

// again opens a memfd a second time.
func again(t testing.TB, f *os.File) *os.File {
	t.Helper()
	g, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pair is the two ends of a ring, and how often each was woken.
type pair struct {
	*Writer
	*Reader
	writerWoken, readerWoken int
}

func newPair(t testing.TB, capacity uint64, d Demand) *pair {
	t.Helper()
	f, g := memory(t, capacity)
	p := new(pair)
	var err error
	if p.Writer, err = NewWriter(f, capacity, func() { p.readerWoken++ }); err != nil {
		t.Fatal(err)
	}
	if p.Reader, err = NewReader(g, capacity, d, func() { p.writerWoken++ }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Writer.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Reader.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// put writes an item, and reports whether it could.
func (p *pair) put(t testing.TB, item string) bool {
	t.Helper()
	b, ok, err := p.Reserve(len(item))
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		copy(b, item)
		p.Commit(len(item))
	}
	return ok
}

// take reads an item.
func (p *pair) take(t testing.TB) (string, bool) {
	t.Helper()
	b, ok, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	return string(b), ok
}
