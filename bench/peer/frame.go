package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// A frame is a header and a body. The header, little-endian:
//
//	 0  length of the body, bytes
//	 8  stamp: the step's code began, ns
//	16  stamp: the step's code ended, ns
//	24  fold of the body that the step was given
//
// The stamps are zero on the way to a step.
const headerSize = 32

// stamp is what a step reports along with its result.
type stamp struct {
	begin, end int64 // workload.Now
	fold       uint64
}

func putHeader(frame []byte, s stamp) {
	binary.LittleEndian.PutUint64(frame[0:], uint64(len(frame)-headerSize))
	binary.LittleEndian.PutUint64(frame[8:], uint64(s.begin))
	binary.LittleEndian.PutUint64(frame[16:], uint64(s.end))
	binary.LittleEndian.PutUint64(frame[24:], s.fold)
}

func getHeader(frame []byte) (length uint64, s stamp) {
	return binary.LittleEndian.Uint64(frame[0:]), stamp{
		begin: int64(binary.LittleEndian.Uint64(frame[8:])),
		end:   int64(binary.LittleEndian.Uint64(frame[16:])),
		fold:  binary.LittleEndian.Uint64(frame[24:]),
	}
}

// maxBody is far above every size that is measured.
const maxBody = 1 << 32

// readFrame reads one frame into buf, which is replaced by a larger one when
// it is too small. The frame is valid until buf is used again. io.EOF means
// that the other side closed between two frames.
func readFrame(r io.Reader, buf *[]byte) (frame []byte, s stamp, err error) {
	if cap(*buf) < headerSize {
		*buf = make([]byte, headerSize)
	}
	head := (*buf)[:headerSize]
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, stamp{}, fmt.Errorf("read a header: %w", err)
	}
	length, s := getHeader(head)
	if length > maxBody {
		return nil, stamp{}, fmt.Errorf("frame of %d bytes: the largest is %d", length, uint64(maxBody))
	}
	if size := headerSize + int(length); cap(*buf) < size {
		larger := make([]byte, size)
		copy(larger, head)
		*buf = larger
	}
	frame = (*buf)[:headerSize+int(length)]
	if _, err := io.ReadFull(r, frame[headerSize:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // between header and body is no place to end
		}
		return nil, stamp{}, fmt.Errorf("read a body of %d bytes: %w", length, err)
	}
	return frame, s, nil
}

func nanoseconds(n int64) time.Duration { return time.Duration(n) }
