package shm

import "math/bits"

// Free runs of the small segments are kept in lists by size, four lists to
// each power of two, last freed first. A set bit says that a list has a run.
const (
	blockAlign   = 64 // bytes; Arrow asks for buffers that start so
	subClassBits = 2
	classCount   = (64 - 6) << subClassBits
	// classScan bounds the look into the list whose runs may be just too small.
	classScan = 8
)

// classOf returns the list for runs of size bytes: the last one whose every
// run has at most this many.
func classOf(size int64) int {
	exponent := bits.Len64(uint64(size)) - 1
	sub := int(size>>(exponent-subClassBits)) & (1<<subClassBits - 1)
	return (exponent-6)<<subClassBits | sub
}

// freeLists holds the free runs of every small segment of an arena.
type freeLists struct {
	heads    [classCount]*run
	nonEmpty [(classCount + 63) / 64]uint64
}

func (f *freeLists) push(r *run) {
	class := classOf(r.size)
	r.freePrev, r.freeNext = nil, f.heads[class]
	if r.freeNext != nil {
		r.freeNext.freePrev = r
	}
	f.heads[class] = r
	f.nonEmpty[class/64] |= 1 << (class % 64)
}

func (f *freeLists) remove(r *run) {
	class := classOf(r.size)
	if r.freePrev != nil {
		r.freePrev.freeNext = r.freeNext
	} else {
		f.heads[class] = r.freeNext
		if r.freeNext == nil {
			f.nonEmpty[class/64] &^= 1 << (class % 64)
		}
	}
	if r.freeNext != nil {
		r.freeNext.freePrev = r.freePrev
	}
	r.freePrev, r.freeNext = nil, nil
}

// find returns a free run of at least size bytes, still in its list, or nil.
func (f *freeLists) find(size int64) *run {
	class := classOf(size)
	candidate := f.heads[class]
	for i := 0; candidate != nil && i < classScan; i++ {
		if candidate.size >= size {
			return candidate
		}
		candidate = candidate.freeNext
	}
	// Every run of a higher list is large enough.
	class++
	for word := class / 64; word < len(f.nonEmpty); word++ {
		set := f.nonEmpty[word]
		if word == class/64 {
			set &^= 1<<(class%64) - 1
		}
		if set != 0 {
			return f.heads[word*64+bits.TrailingZeros64(set)]
		}
	}
	return nil
}
