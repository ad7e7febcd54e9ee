package stream

import (
	"sync/atomic"
	"unsafe"
)

// Where the counters stand, each on a cache line of its own; PROTOCOL.md has
// the picture.
const (
	atWritten        = 0
	atRead           = 64
	atDemand         = 128
	atProducerAsleep = 192
	atConsumerAsleep = 256
)

// counters are what both ends share beside the records.
type counters struct {
	written *atomic.Uint64 // bytes; the producer's
	read    *atomic.Uint64 // bytes; the consumer's
	demand  *atomic.Uint64 // items asked for; the consumer's

	producerAsleep, consumerAsleep *atomic.Uint32
}

func countersOf(mem []byte) counters {
	return counters{
		written:        (*atomic.Uint64)(unsafe.Pointer(&mem[atWritten])),
		read:           (*atomic.Uint64)(unsafe.Pointer(&mem[atRead])),
		demand:         (*atomic.Uint64)(unsafe.Pointer(&mem[atDemand])),
		producerAsleep: (*atomic.Uint32)(unsafe.Pointer(&mem[atProducerAsleep])),
		consumerAsleep: (*atomic.Uint32)(unsafe.Pointer(&mem[atConsumerAsleep])),
	}
}

// The header of a record: size u32, kind u32.
const headerSize = 8

// The kinds of record.
const (
	kindItem = 0
	kindSkip = 1
)

// header returns the record header at a place that is a multiple of 8. Whole,
// so that both its fields are loaded once and at once.
func (e *end) header(at uint64) *uint64 { return (*uint64)(unsafe.Pointer(&e.data[at])) }

func (e *end) putHeader(at uint64, size int, kind uint64) {
	*e.header(at) = kind<<32 | uint64(size)
}

func (e *end) loadHeader(at uint64) (size, kind uint64) {
	h := atomic.LoadUint64(e.header(at))
	return h & (1<<32 - 1), h >> 32
}

// padded returns the length of a record, in bytes.
func padded(size uint64) uint64 { return headerSize + (size+7)&^7 }
