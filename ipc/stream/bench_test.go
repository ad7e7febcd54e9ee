package stream

import (
	"fmt"
	"testing"
)

// One goroutine, both ends: what an item costs without any waiting.
func BenchmarkItem(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := newPair(b, 4<<20, Demand{Max: 64, Min: 32})
			item := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				room, ok, err := p.Reserve(size)
				if !ok || err != nil {
					b.Fatal(ok, err)
				}
				copy(room, item)
				p.Commit(size)
				if _, ok, err := p.Next(); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
