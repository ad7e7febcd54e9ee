package shm

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkPages measures the ways to get 64 MiB into a memfd, without the
// arena: what the choices in BlockWriter rest on. "once" is a segment that was
// filled by write(2), so that its pages exist but are in no page table.
func BenchmarkPages(b *testing.B) {
	data := pattern(benchSize, 1)
	const piece = 1 << 20
	pieces := func(do func(offset int)) {
		for offset := 0; offset < benchSize; offset += piece {
			do(offset)
		}
	}
	pwrite := func(s *Segment, _ []byte) {
		pieces(func(o int) { _ = s.writeAt(data[o:o+piece], int64(o)) })
	}
	memcpy := func(_ *Segment, mem []byte) { copy(mem, data) }
	advise := func(advice int) func(*Segment, []byte) {
		return func(_ *Segment, mem []byte) {
			pieces(func(o int) {
				if err := unix.Madvise(mem[o:o+piece], advice); err != nil {
					b.Fatal(err)
				}
				copy(mem[o:o+piece], data[o:o+piece])
			})
		}
	}
	hugepage := func(s *Segment, mem []byte) {
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
		copy(mem, data)
	}
	for _, c := range []struct {
		name         string
		first, write func(*Segment, []byte)
	}{
		{"fresh/memcpy", nil, memcpy},
		{"fresh/hugepage-advice+memcpy", nil, hugepage},
		{"fresh/populate-write+memcpy", nil, advise(unix.MADV_POPULATE_WRITE)},
		{"fresh/pwrite", nil, pwrite},
		{"once/memcpy", pwrite, memcpy},
		{"once/populate-write+memcpy", pwrite, advise(unix.MADV_POPULATE_WRITE)},
		{"once/populate-read+memcpy", pwrite, advise(unix.MADV_POPULATE_READ)},
		{"mapped/memcpy", memcpy, memcpy},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(benchSize)
			for b.Loop() {
				b.StopTimer()
				s := must(Create(1, 1<<30))
				mem := must(s.Bytes())
				if c.first != nil {
					c.first(s, mem)
				}
				b.StartTimer()
				c.write(s, mem)
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		})
	}
}
