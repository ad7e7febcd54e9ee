package arrowipc_test

import (
	"fmt"
	"os"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker/arrowipc"
	"golang.org/x/sys/unix"
)

// Arrow's own writer writes straight into a shared block, and a reader of the
// segment takes its columns from the mapping. Duplicating the descriptor stands
// for sending it to another process.
func Example() {
	var received *shm.Segment
	arena := shm.NewArena(shm.ArenaOptions{OnSegment: func(s *shm.Segment) error {
		fd, err := unix.FcntlInt(s.File().Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		received, err = shm.Open(s.ID(), os.NewFile(uintptr(fd), "received"), s.Size())
		return err
	}})
	defer arena.Close()

	schema := arrow.NewSchema([]arrow.Field{{Name: "delay", Type: arrow.PrimitiveTypes.Int16}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	builder.Field(0).(*array.Int16Builder).AppendValues([]int16{14, -11, 5}, nil)

	block := arena.NewBlock(0)
	defer block.Abort()
	w := ipc.NewWriter(block, ipc.WithSchema(schema))
	if err := w.Write(builder.NewRecord()); err != nil {
		fmt.Println(err)
		return
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}
	ref, err := block.Commit(shm.ArrowStream)
	if err != nil {
		fmt.Println(err)
		return
	}

	bytes, err := received.Slice(ref)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer received.Close() // after the last use of the record
	r, err := arrowipc.NewReader(bytes)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Release()
	for r.Next() {
		fmt.Println(r.Record().Column(0))
	}
	fmt.Println("error:", r.Err(), "bytes copied:", r.Copied())
	// Output:
	// [14 -11 5]
	// error: <nil> bytes copied: 0
}
