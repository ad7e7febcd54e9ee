package shm

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// dup returns a second descriptor of the segment, as a peer would receive it.
func dup(t testing.TB, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "received")
}

// cannotWrite tries every way to change a segment through its descriptor.
func cannotWrite(t *testing.T, f *os.File, size int64) {
	t.Helper()
	fd := int(f.Fd())
	if m, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		unix.Munmap(m)
		t.Error("the descriptor can be mapped writable")
	}
	if m, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		t.Errorf("the descriptor cannot be mapped for reading: %v", err)
	} else {
		if unix.Mprotect(m, unix.PROT_READ|unix.PROT_WRITE) == nil {
			t.Error("a read-only mapping can be made writable")
		}
		unix.Munmap(m)
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("pwrite: %v", err)
	}
	for _, to := range []int64{0, size - 1, size + 4096} {
		if err := unix.Ftruncate(fd, to); !errors.Is(err, unix.EPERM) {
			t.Errorf("ftruncate to %d: %v", to, err)
		}
	}
	if err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096); err == nil {
		t.Error("a hole can be punched")
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("seals can be added: %v", err)
	}
}

func TestSealsHold(t *testing.T) {
	noLeftovers(t)
	s := must(Create(1, 10_000))
	defer s.Close()
	if s.Size()%int64(os.Getpagesize()) != 0 || s.Size() < 10_000 {
		t.Fatalf("size %d", s.Size())
	}
	mem := must(s.Bytes())
	copy(mem, "before")
	if err := errors.Join(s.Seal(), s.Seal()); err != nil {
		t.Fatal(err)
	}
	cannotWrite(t, s.File(), s.Size())
	reopened, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", s.File().Fd()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reopened.Close()
	cannotWrite(t, reopened, s.Size())
	copy(mem, "after!") // the one writer still can
	reader := must(Open(1, dup(t, s.File()), s.Size()))
	defer reader.Close()
	if got := must(reader.Slice(Ref{Segment: 1, Length: 6, Encoding: Raw})); string(got) != "after!" {
		t.Errorf("reader sees %q", got)
	}
}

func TestOpenRefusesHostileDescriptors(t *testing.T) {
	noLeftovers(t)
	const size = 4096
	memfd := func(seals int) *os.File {
		f := must(CreateGrowable("hostile"))
		must(f.WriteAt(make([]byte, size), 0))
		if seals != 0 {
			if err := addSeals(f, seals); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	pipeR, pipeW := must2(os.Pipe())
	defer pipeW.Close()
	closed := memfd(frozenSeals)
	closed.Close()
	writeOnly := func() *os.File {
		f := memfd(0)
		defer f.Close()
		w := must(os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_WRONLY, 0))
		if err := addSeals(f, frozenSeals); err != nil {
			t.Fatal(err)
		}
		return w
	}
	isSeal := func(err error) bool { var e *SealError; return errors.As(err, &e) }
	isSize := func(err error) bool { var e *SizeError; return errors.As(err, &e) && e.Have == size }
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for _, c := range []struct {
		name string
		id   SegmentID
		file *os.File
		size int64
		want func(error) bool
	}{
		{"regular file", 1, must(os.Open(path)), size, is(ErrNotMemfd)},
		{"pipe", 1, pipeR, size, is(ErrNotMemfd)},
		{"directory", 1, must(os.Open("/")), size, is(ErrNotMemfd)},
		{"device", 1, must(os.Open("/dev/zero")), size, is(ErrNotMemfd)},
		{"closed", 1, closed, size, func(err error) bool { return err != nil }},
		{"no seals", 1, memfd(0), size, isSeal},
		{"may shrink", 1, memfd(frozenSeals &^ unix.F_SEAL_SHRINK), size, isSeal},
		{"may grow", 1, memfd(frozenSeals &^ unix.F_SEAL_GROW), size, isSeal},
		{"others may write", 1, memfd(birthSeals | unix.F_SEAL_SEAL), size, isSeal},
		{"seals may be added", 1, memfd(birthSeals | unix.F_SEAL_WRITE), size, isSeal},
		{"write-only", 1, writeOnly(), size, is(ErrNotReadable)},
		{"smaller than announced", 1, memfd(frozenSeals), size + 1, isSize},
		{"larger than announced", 1, memfd(frozenSeals), size - 1, isSize},
		{"negative size", 1, memfd(frozenSeals), -1, isSize},
		{"id 0", 0, memfd(frozenSeals), size, is(ErrInvalidID)},
	} {
		s, err := Open(c.id, c.file, c.size)
		if err == nil || !c.want(err) {
			t.Errorf("%s: got %v", c.name, err)
		}
		if s != nil {
			s.Close()
		}
		if c.file.Close() == nil {
			t.Errorf("%s: the descriptor was left open", c.name)
		}
	}
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

func TestSliceChecksBounds(t *testing.T) {
	noLeftovers(t)
	s := must(Create(9, 8192))
	defer s.Close()
	for _, c := range []struct {
		ref Ref
		ok  bool
	}{
		{Ref{Segment: 9, Offset: 0, Length: 8192}, true},
		{Ref{Segment: 9, Offset: 8192, Length: 0}, true},
		{Ref{Segment: 9, Offset: 8191, Length: 1}, true},
		{Ref{Segment: 9, Offset: 8192, Length: 1}, false},
		{Ref{Segment: 9, Offset: 1, Length: 8192}, false},
		{Ref{Segment: 9, Offset: 0, Length: 1 << 63}, false},
		{Ref{Segment: 9, Offset: 64, Length: math.MaxUint64 - 63}, false},
		{Ref{Segment: 9, Offset: math.MaxUint64, Length: 1}, false},
		{Ref{Segment: 8, Offset: 0, Length: 1}, false},
	} {
		got, err := s.Slice(c.ref)
		var refErr *RefError
		if c.ok != (err == nil) || !c.ok && !errors.As(err, &refErr) {
			t.Errorf("%v: %v", c.ref, err)
		}
		if c.ok && (uint64(len(got)) != c.ref.Length || cap(got) != len(got)) {
			t.Errorf("%v: length %d, capacity %d", c.ref, len(got), cap(got))
		}
	}
}

func TestSegmentLifecycle(t *testing.T) {
	noLeftovers(t)
	if _, err := Create(0, 1); !errors.Is(err, ErrInvalidID) {
		t.Errorf("id 0: %v", err)
	}
	for _, size := range []int64{0, -1, math.MaxInt64, 1 << 60} {
		if s, err := Create(1, size); err == nil {
			s.Close()
			t.Errorf("size %d is accepted", size)
		}
	}
	s := must(Create(1, 1<<30))
	if n := must(s.Resident()); n != 0 {
		t.Errorf("an untouched segment takes %d bytes", n)
	}
	copy(must(s.Bytes())[1<<20:], bytes.Repeat([]byte("x"), 1<<20))
	if n := must(s.Resident()); n != 1<<20 {
		t.Errorf("resident %d after 1 MiB was touched", n)
	}
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	r := must(Open(1, dup(t, s.File()), s.Size()))
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	p := make([]byte, 3)
	if _, err := r.ReadAt(p, 1<<20); err != nil || string(p) != "xxx" {
		t.Errorf("after the writer closed: %q %v", p, err)
	}
	view := must(r.Slice(Ref{Segment: 1, Offset: 1 << 20, Length: 3}))
	if err := r.DropPages(); err != nil || string(view) != "xxx" {
		t.Errorf("after DropPages: %q %v", view, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	_, bytesErr := r.Bytes()
	_, readErr := r.ReadAt(p, 0)
	_, residentErr := r.Resident()
	for _, err := range []error{bytesErr, readErr, residentErr, s.Seal()} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if r.File() != nil {
		t.Error("a closed segment has a file")
	}
}
