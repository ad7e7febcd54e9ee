package shm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CreateGrowable makes an empty memfd without a size, for a program which
// knows nothing of segments to fill by write(2): hand it over as the standard
// output of a command, then [Adopt] it. The name shows in /proc, at most 200
// bytes of it. The caller owns the file.
func CreateGrowable(name string) (*os.File, error) {
	if len(name) > 200 {
		name = name[:200]
	}
	return newMemfd(memfdName + ":" + name)
}

// Adopt makes a segment of a memfd that another program filled, and seals it
// for good. Its size is what the file has at that instant; ErrEmpty when that
// is 0. It takes ownership of f, and closes it when it fails.
//
// Usually no one at all can write the memory afterwards. Should the program
// still hold a writable mapping, then it alone can, as the writer of any
// segment.
func Adopt(id SegmentID, f *os.File) (*Segment, error) {
	s, err := adopt(id, f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("shm: adopt memfd as segment %d: %w", uint64(id), err)
	}
	return s, nil
}

func adopt(id SegmentID, f *os.File) (*Segment, error) {
	if id == 0 {
		return nil, ErrInvalidID
	}
	err := addSeals(f, frozenSeals)
	if errors.Is(err, unix.EBUSY) {
		err = addSeals(f, birthSeals|writerSeals)
	}
	seals, sealsErr := getSeals(f)
	if sealsErr != nil {
		return nil, sealsErr
	}
	// The program may have set seals of its own, so what counts is what holds
	// now, not whether the call succeeded.
	if sealsErr := checkReaderSeals(seals); sealsErr != nil {
		return nil, errors.Join(sealsErr, err)
	}
	if err := checkReadable(f); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, ErrEmpty
	}
	return &Segment{id: id, size: info.Size(), file: f, sealed: true}, nil
}
