package stream

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// seals keep either end from truncating the ring under the other.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// end is what both ends have. The pointers are into the mapping.
type end struct {
	mem      mmap.MMap // nil: closed
	data     []byte
	capacity uint64
	counters
	own, other *atomic.Uint32 // who sleeps
	wake       func()
	spin       ipc.Spinner
}

// open maps a ring, taking f over.
func open(f *os.File, capacity uint64, wake func()) (*end, error) {
	mem, err := mapRing(f, capacity)
	if err = errors.Join(err, f.Close()); err != nil {
		if mem != nil {
			err = errors.Join(err, mem.Unmap())
		}
		return nil, err
	}
	return &end{
		mem: mem, capacity: capacity, wake: wake,
		data:     mem[shm.StreamHeaderSize:],
		counters: countersOf(mem),
	}, nil
}

func mapRing(f *os.File, capacity uint64) (mmap.MMap, error) {
	if capacity == 0 || capacity != shm.StreamCapacity(capacity) {
		return nil, breachf("a ring of %d bytes, which is no power of two from %d to %d", capacity, shm.MinStreamCapacity, shm.MaxStreamCapacity)
	}
	have, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || have&seals != seals {
		return nil, breachf("the ring's memory is not sealed (seals %#x, %v)", have, err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stream: stat the ring: %w", err)
	}
	want := shm.StreamHeaderSize + int64(capacity)
	if st.Size() != want {
		return nil, breachf("the ring's memory has %d bytes, not %d", st.Size(), want)
	}
	mem, err := mmap.MapRegion(f, int(want), mmap.RDWR, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("stream: map the ring: %w", err)
	}
	return mem, nil
}

// MaxItem returns the size of the largest item, in bytes.
func (e *end) MaxItem() int { return int(e.capacity/2) - headerSize }

// rouse wakes the other end if it sleeps. It comes after a counter was stored.
func (e *end) rouse() {
	if e.other.Load() == 1 && e.other.CompareAndSwap(1, 0) {
		e.wake()
	}
}

// Slept is called after this end has slept and was woken: how long that took
// decides whether Spin spins the next time.
func (e *end) Slept() { e.spin.Slept() }

// Close unmaps the ring. No slice of it and no other method may be used from
// then on. A second Close does nothing.
func (e *end) Close() error {
	if e.mem == nil {
		return nil
	}
	mem := e.mem
	*e = end{}
	return mem.Unmap()
}
