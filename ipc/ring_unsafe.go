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
