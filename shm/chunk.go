package shm

import "sync"

// chunkSize is the heap that a copy through a buffer takes: small enough to
// stay in the second-level cache, large enough that the system calls vanish.
const chunkSize = 256 << 10

type chunk [chunkSize]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func takeChunk() *chunk { return chunks.Get().(*chunk) }

func (c *chunk) release() { chunks.Put(c) }
