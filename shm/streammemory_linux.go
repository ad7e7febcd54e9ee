package shm

import (
	"fmt"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"
)

// The memory of a stream: a page of counters, then the ring.
const (
	StreamHeaderSize      = 4096
	MinStreamCapacity     = 64 << 10
	DefaultStreamCapacity = 4 << 20
	MaxStreamCapacity     = 1 << 30
	streamSeals           = birthSeals | unix.F_SEAL_SEAL
	streamMemfdName       = "millrace-stream"
)

// StreamCapacity returns the capacity that a stream gets which asks for so many
// bytes: the next power of two within the bounds; 0 is the default.
func StreamCapacity(want uint64) uint64 {
	switch {
	case want == 0:
		return DefaultStreamCapacity
	case want <= MinStreamCapacity:
		return MinStreamCapacity
	case want >= MaxStreamCapacity:
		return MaxStreamCapacity
	}
	return 1 << bits.Len64(want-1)
}

// CreateStreamMemory makes the memory of a stream: a memfd that both ends map
// and write, and neither can truncate under the other. Its pages come as they
// are touched.
func CreateStreamMemory(capacity uint64) (*os.File, error) {
	if capacity != StreamCapacity(capacity) {
		return nil, fmt.Errorf("shm: a stream's capacity of %d bytes is no power of two from %d to %d", capacity, MinStreamCapacity, MaxStreamCapacity)
	}
	f, err := newMemfd(streamMemfdName)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(StreamHeaderSize + int64(capacity)); err != nil {
		f.Close()
		return nil, fmt.Errorf("shm: size a stream: %w", err)
	}
	if err := addSeals(f, streamSeals); err != nil {
		f.Close()
		return nil, fmt.Errorf("shm: seal a stream: %w", err)
	}
	return f, nil
}
