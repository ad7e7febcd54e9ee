package shm

import (
	"fmt"
	"math/bits"
)

// SegmentID names a segment for as long as its run lives. The writer mints it
// from a prefix which the supervisor gave it, so ids of two writers never
// meet. 0 is invalid.
type SegmentID uint64

// Ref is all that crosses the control channel in place of a value: which
// bytes, and how to read them. A Ref from another process is untrusted until
// [Segment.Slice] or the supervisor's own table has checked it.
type Ref struct {
	Segment  SegmentID
	Offset   uint64 // bytes from the start of the segment
	Length   uint64 // bytes
	Encoding Encoding
	Flags    Flags
}

// End returns Offset+Length, and false when the sum overflows.
func (r Ref) End() (uint64, bool) { return end(r.Offset, r.Length) }

// Block returns the run of bytes that the reference covers. It is the
// published block itself when the reference covers all of it, as the ones
// that Commit returns do.
func (r Ref) Block() Block { return Block{r.Segment, r.Offset, r.Length} }

// String prints the reference for logs and errors.
func (r Ref) String() string {
	return fmt.Sprintf("%d@%d+%d/%s", uint64(r.Segment), r.Offset, r.Length, r.Encoding)
}

// Block is an immutable run of bytes in a segment, written once, then
// published. References lie inside blocks; blocks are what is counted and
// freed.
type Block struct {
	Segment SegmentID
	Offset  uint64 // bytes from the start of the segment
	Length  uint64 // bytes
}

// Length returns how many bytes blocks have together.
func Length(blocks []Block) uint64 {
	var n uint64
	for _, b := range blocks {
		n += b.Length
	}
	return n
}

// End returns Offset+Length, and false when the sum overflows.
func (b Block) End() (uint64, bool) { return end(b.Offset, b.Length) }

// Contains reports whether r lies wholly inside b. It is safe for any values,
// also ones whose sums overflow.
func (b Block) Contains(r Ref) bool {
	blockEnd, ok := b.End()
	refEnd, refOK := r.End()
	return ok && refOK && r.Segment == b.Segment && r.Offset >= b.Offset && refEnd <= blockEnd
}

// Ref returns a reference to the whole block.
func (b Block) Ref(encoding Encoding, flags Flags) Ref {
	return Ref{b.Segment, b.Offset, b.Length, encoding, flags}
}

func end(offset, length uint64) (uint64, bool) {
	sum, carry := bits.Add64(offset, length, 0)
	return sum, carry == 0
}
