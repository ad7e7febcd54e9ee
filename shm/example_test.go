package shm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/millrace/millrace/shm"
	"golang.org/x/sys/unix"
)

// A writer encodes a value straight into shared memory; a reader that was sent
// the segment's descriptor reads the same bytes. Here both are in one process,
// and duplicating the descriptor stands for sending it (SCM_RIGHTS).
func Example() {
	segments := make(map[shm.SegmentID]*shm.Segment) // the reader's

	arena := shm.NewArena(shm.ArenaOptions{
		OnSegment: func(s *shm.Segment) error {
			fd, err := unix.FcntlInt(s.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return err
			}
			received, err := shm.Open(s.ID(), os.NewFile(uintptr(fd), "received"), s.Size())
			segments[s.ID()] = received
			return err
		},
	})
	defer arena.Close()

	block := arena.NewBlock(0)
	defer block.Abort() // does nothing after Commit
	if err := json.NewEncoder(block).Encode(map[string]int{"records": 3}); err != nil {
		fmt.Println(err)
		return
	}
	ref, err := block.Commit(shm.JSON)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("passed on:", ref)

	segment := segments[ref.Segment]
	bytes, err := segment.Slice(ref)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("read: %s", bytes)

	segment.Close() // no slice of it is used any more
	if err := arena.Free(ref.Block()); err != nil {
		fmt.Println(err)
	}
	fmt.Println("freed a second time:", arena.Free(ref.Block()))
	// Output:
	// passed on: 1@0+14/json
	// read: {"records":3}
	// freed a second time: shm: no such live block: segment 1, offset 0, length 14
}

// A file or a pipe becomes a segment without passing through this process's
// heap or mappings.
func ExampleImport() {
	segment, size, err := shm.Import(1, strings.NewReader(`{"data":[1,2,3]}`), shm.ImportOptions{Limit: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer segment.Close()
	head := make([]byte, 7)
	_, err = segment.ReadAt(head, 0)
	fmt.Printf("%d bytes, starting with %s %v\n", size, head, err)
	// Output:
	// 16 bytes, starting with {"data" <nil>
}
