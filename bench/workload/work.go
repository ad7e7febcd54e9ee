package workload

import (
	"encoding/binary"
	"fmt"
)

// Fold reads every byte of b and returns the sum of its little-endian words.
// It runs at memory speed; it is the reading half of a step's work.
func Fold(b []byte) uint64 {
	var s0, s1, s2, s3 uint64
	for len(b) >= 32 {
		s0 += binary.LittleEndian.Uint64(b[0:8])
		s1 += binary.LittleEndian.Uint64(b[8:16])
		s2 += binary.LittleEndian.Uint64(b[16:24])
		s3 += binary.LittleEndian.Uint64(b[24:32])
		b = b[32:]
	}
	sum := s0 + s1 + s2 + s3
	for len(b) >= 8 {
		sum += binary.LittleEndian.Uint64(b)
		b = b[8:]
	}
	for i, c := range b {
		sum += uint64(c) << (8 * i)
	}
	return sum
}

// Rewrite is the work of a step that changes the large key: it reads every
// byte of src, writes a new payload of the same size into dst and raises the
// digit at mark. dst and src must not overlap and must be of one length.
func Rewrite(dst, src []byte, mark int) (fold uint64) {
	if len(dst) != len(src) {
		panic(fmt.Sprintf("workload: rewrite %d bytes into %d", len(src), len(dst)))
	}
	fold = Fold(src)
	copy(dst, src)
	dst[mark]++
	return fold
}

// RewriteState is the same work on a decoded state, whose every byte the
// decoder has read and the encoder will write.
func RewriteState(s *State) { s.Data[0].Delay++ }
