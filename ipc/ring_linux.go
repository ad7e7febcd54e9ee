package ipc

import (
	"fmt"
	"math/bits"
	"os"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// DefaultRingSize is the capacity of each direction. A frame over a quarter of
// it goes by the socket.
const DefaultRingSize = 64 << 10

const minRingSize, maxRingSize = 4 << 10, 16 << 20

// ringSeals keep either side from truncating the ring under the other.
const ringSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// ring is the pair of lanes as one side sees them.
type ring struct {
	mem     mmap.MMap
	out, in lane
}

// createRing makes the ring's memory (supervisor). The descriptor is the
// caller's to send and close.
func createRing(size int) (*ring, *os.File, error) {
	if err := checkRingSize(size); err != nil {
		return nil, nil, err
	}
	fd, err := unix.MemfdCreate("millrace-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("ipc: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "millrace-ring")
	if err := f.Truncate(ringMemorySize(size)); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("ipc: size the ring: %w", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, ringSeals); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("ipc: seal the ring: %w", err)
	}
	r, err := mapRing(f, size)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	r.out, r.in = lanes(r.mem, size)
	return r, f, nil
}

// openRing maps the ring that came with a welcome (executor). f stays the
// caller's.
func openRing(f *os.File, size int) (*ring, error) {
	if err := checkRingSize(size); err != nil {
		return nil, err
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&ringSeals != ringSeals {
		return nil, protocolErrorf("the ring's memory is not sealed (seals %#x, %v)", seals, err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("ipc: stat the ring: %w", err)
	}
	if want := ringMemorySize(size); st.Size() != want {
		return nil, protocolErrorf("the ring's memory has %d bytes, not %d", st.Size(), want)
	}
	r, err := mapRing(f, size)
	if err != nil {
		return nil, err
	}
	r.in, r.out = lanes(r.mem, size)
	return r, nil
}

func checkRingSize(size int) error {
	if size < minRingSize || size > maxRingSize || bits.OnesCount(uint(size)) != 1 {
		return protocolErrorf("ring size %d is not a power of two from %d to %d", size, minRingSize, maxRingSize)
	}
	return nil
}

func mapRing(f *os.File, size int) (*ring, error) {
	mem, err := mmap.MapRegion(f, int(ringMemorySize(size)), mmap.RDWR, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("ipc: map the ring: %w", err)
	}
	return &ring{mem: mem}, nil
}

// largestFrame is what goes through the ring; anything larger goes by the
// socket, so that a ring always holds several frames.
func (r *ring) largestFrame() int { return len(r.out.data) / 4 }

// unmap ends the ring; no goroutine may use it any more.
func (r *ring) unmap() error {
	r.in, r.out = lane{}, lane{}
	return r.mem.Unmap()
}
