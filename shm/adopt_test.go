package shm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestAdoptCommandOutput(t *testing.T) {
	noLeftovers(t)
	f := must(CreateGrowable(strings.Repeat("name", 100)))
	cmd := exec.Command("sh", "-c", "printf 'from a command'")
	cmd.Stdout = f
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	s := must(Adopt(3, f))
	defer s.Close()
	if got := must(s.Slice(Ref{Segment: 3, Length: 14})); string(got) != "from a command" || s.Size() != 14 {
		t.Errorf("%q, size %d", got, s.Size())
	}
	cannotWrite(t, s.File(), s.Size())
	again := must(Open(3, dup(t, s.File()), 14)) // a peer accepts it
	again.Close()
}

func TestAdoptRefuses(t *testing.T) {
	noLeftovers(t)
	sealedByProgram := must(CreateGrowable("x"))
	must(sealedByProgram.WriteString("x"))
	if err := addSeals(sealedByProgram, unix.F_SEAL_SEAL); err != nil {
		t.Fatal(err)
	}
	var sealErr *SealError
	if _, err := Adopt(1, sealedByProgram); !errors.As(err, &sealErr) {
		t.Errorf("a memfd whose seals the program froze: %v", err)
	}
	if _, err := Adopt(1, must(CreateGrowable("x"))); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
	if _, err := Adopt(1, must(os.Open("/dev/null"))); !errors.Is(err, ErrNotMemfd) {
		t.Errorf("device: %v", err)
	}
	if _, err := Adopt(0, must(CreateGrowable("x"))); !errors.Is(err, ErrInvalidID) {
		t.Errorf("id 0: %v", err)
	}
}

func TestAdoptWhileMappedWritable(t *testing.T) {
	noLeftovers(t)
	f := must(CreateGrowable("mapped"))
	must(f.WriteString("mapped"))
	m, err := unix.Mmap(int(f.Fd()), 0, 6, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	s := must(Adopt(1, f))
	defer s.Close()
	cannotWrite(t, s.File(), 6)
}

func TestImport(t *testing.T) {
	noLeftovers(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(offset int64) *os.File {
		f := must(os.Open(path))
		must(f.Seek(offset, io.SeekStart))
		t.Cleanup(func() { f.Close() })
		return f
	}
	pipe := func(p []byte) *os.File {
		r, w := must2(os.Pipe())
		go func() { w.Write(p); w.Close() }()
		t.Cleanup(func() { r.Close() })
		return r
	}
	size := int64(len(data))
	for _, c := range []struct {
		name    string
		in      io.Reader
		options ImportOptions
		want    []byte
	}{
		{"file", at(0), ImportOptions{}, data},
		{"file at its limit", at(0), ImportOptions{Limit: size}, data},
		{"rest of a file", at(size - 5), ImportOptions{Limit: 5}, data[size-5:]},
		{"pipe", pipe(data), ImportOptions{SizeHint: size, Limit: size}, data},
		{"reader", bytes.NewReader(data), ImportOptions{}, data},
		{"one byte a read", iotest.OneByteReader(strings.NewReader("slow")), ImportOptions{Limit: 4}, []byte("slow")},
		{"pseudo-file", must(os.Open("/proc/version")), ImportOptions{}, must(os.ReadFile("/proc/version"))},
	} {
		var progress int64
		c.options.Progress = func(n int64) error { progress = n; return nil }
		s, n, err := Import(5, c.in, c.options)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := make([]byte, s.Size())
		must(s.ReadAt(got, 0))
		if !bytes.Equal(got, c.want) || n != s.Size() || progress != n {
			t.Errorf("%s: %d bytes of %d, progress %d", c.name, n, len(c.want), progress)
		}
		cannotWrite(t, s.File(), s.Size())
		s.Close()
	}
}

func TestImportRefuses(t *testing.T) {
	noLeftovers(t)
	path := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(path, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	file := must(os.Open(path))
	defer file.Close()
	broken := errors.New("broken")
	limitOf := func(size int64) func(error) bool {
		return func(err error) bool {
			var e *LimitError
			return errors.As(err, &e) && e.Size == size && e.Limit == 999
		}
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for _, c := range []struct {
		name    string
		in      io.Reader
		options ImportOptions
		want    func(error) bool
	}{
		{"file over the limit", file, ImportOptions{Limit: 999}, limitOf(1000)},
		{"hint over the limit", strings.NewReader(""), ImportOptions{SizeHint: 5000, Limit: 999}, limitOf(5000)},
		{"endless", zeros{}, ImportOptions{Limit: 999}, limitOf(1000)},
		{"empty", strings.NewReader(""), ImportOptions{}, is(ErrEmpty)},
		{"broken", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(broken)), ImportOptions{}, is(broken)},
		{"cut short", iotest.ErrReader(io.ErrUnexpectedEOF), ImportOptions{}, is(io.ErrUnexpectedEOF)},
		{"directory", must(os.Open("/")), ImportOptions{}, is(unix.EISDIR)},
		{"stopped", zeros{}, ImportOptions{Progress: func(int64) error { return broken }}, is(broken)},
		{"no progress", stuck{}, ImportOptions{}, is(io.ErrNoProgress)},
	} {
		s, _, err := Import(1, c.in, c.options)
		if err == nil || !c.want(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if s != nil {
			s.Close()
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }
