package ipc

import (
	"sync/atomic"
	"unsafe"
)

// The layout of the ring's memory; PROTOCOL.md has the picture. Each counter
// stands on a cache line of its own.
const (
	ringHeaderSize = 4096
	ringLaneSize   = 192 // written, read, asleep: one cache line each
	ringWritten    = 0
	ringRead       = 64
	ringAsleep     = 128
)

// lane is one direction of the ring: a single-producer, single-consumer byte
// queue in memory that both processes write. The counters count bytes since
// the start and never wrap in practice; data[n & (size-1)] is byte n.
type lane struct {
	written *atomic.Uint64 // stored by the producer
	read    *atomic.Uint64 // stored by the consumer
	asleep  *atomic.Uint32 // set by the consumer before it sleeps on the socket
	data    []byte         // a power of two
}

// lanes lays the two directions over the ring's mapping.
func lanes(mem []byte, size int) (toExecutor, toSupervisor lane) {
	at := func(i int) lane {
		base := i * ringLaneSize
		start := ringHeaderSize + i*size
		return lane{
			written: (*atomic.Uint64)(unsafe.Pointer(&mem[base+ringWritten])),
			read:    (*atomic.Uint64)(unsafe.Pointer(&mem[base+ringRead])),
			asleep:  (*atomic.Uint32)(unsafe.Pointer(&mem[base+ringAsleep])),
			data:    mem[start : start+size : start+size],
		}
	}
	return at(0), at(1)
}

func ringMemorySize(size int) int64 { return int64(ringHeaderSize + 2*size) }
