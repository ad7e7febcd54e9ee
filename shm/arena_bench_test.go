package shm

import (
	"fmt"
	"testing"
)

const benchSize = 64 << 20

// BenchmarkLargeBlock writes a block of 64 MiB into pages of each kind.
func BenchmarkLargeBlock(b *testing.B) {
	data := pattern(benchSize, 1)
	writes := func(piece int) func(w *BlockWriter) {
		return func(w *BlockWriter) {
			for p := data; len(p) > 0; p = p[min(piece, len(p)):] {
				must(w.Write(p[:min(piece, len(p))]))
			}
		}
	}
	reserve := func(w *BlockWriter) {
		w.Advance(copy(must(w.Reserve(benchSize)), data))
	}
	for _, c := range []struct {
		name   string
		retain int64
		before func(a *Arena) // makes the pages, off the clock
		write  func(w *BlockWriter)
	}{
		{"fresh/Write1MiB", -1, nil, writes(1 << 20)},
		{"fresh/Write512B", -1, nil, writes(512)},
		{"fresh/Reserve", -1, nil, reserve},
		{"recycled-once/Write1MiB", benchSize, func(a *Arena) {
			_ = a.Trim()
			_ = a.Free(must(a.Write(Raw, data)).Block())
		}, writes(1 << 20)},
		{"prefaulted/Write1MiB", benchSize, func(a *Arena) {
			_ = a.Trim()
			_ = a.Prefault(benchSize)
		}, writes(1 << 20)},
		{"recycled/Write1MiB", benchSize, nil, writes(1 << 20)},
		{"recycled/Write512B", benchSize, nil, writes(512)},
		{"recycled/Reserve", benchSize, nil, reserve},
	} {
		b.Run(c.name, func(b *testing.B) {
			a := NewArena(ArenaOptions{RetainBytes: c.retain})
			defer a.Close()
			if c.retain > 0 && c.before == nil {
				for range 2 {
					_ = a.Free(must(a.Write(Raw, data)).Block())
				}
			}
			b.SetBytes(benchSize)
			for b.Loop() {
				if c.before != nil {
					b.StopTimer()
					c.before(a)
					b.StartTimer()
				}
				w := a.NewBlock(benchSize)
				c.write(w)
				ref := must(w.Commit(Raw))
				b.StopTimer() // tearing the pages down is the next owner's time
				_ = a.Free(ref.Block())
				b.StartTimer()
			}
		})
	}
}

// BenchmarkSmallBlock writes, publishes and frees one small block.
func BenchmarkSmallBlock(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 16 << 10, 128 << 10} {
		data := pattern(size, 1)
		for _, hint := range []int64{0, int64(size)} {
			b.Run(fmt.Sprintf("%d/hint%d", size, hint), func(b *testing.B) {
				a := NewArena(ArenaOptions{})
				defer a.Close()
				must(a.Write(Raw, []byte("so that the segment is never empty")))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					w := a.NewBlock(hint)
					must(w.Write(data))
					_ = a.Free(must(w.Commit(Raw)).Block())
				}
			})
		}
	}
}

// BenchmarkOpenSlice is what a reader pays for a segment of 100 MB: open, map,
// slice, close.
func BenchmarkOpenSlice(b *testing.B) {
	s := must(Create(1, 100<<20))
	defer s.Close()
	if err := s.Seal(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		f := dup(b, s.File())
		b.StartTimer()
		r := must(Open(1, f, s.Size()))
		must(r.Slice(Ref{Segment: 1, Length: 100 << 20}))
		r.Close()
	}
}
