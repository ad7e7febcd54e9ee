package shm

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of descriptors that were handed to this process.
var (
	// ErrNotMemfd: the descriptor is a file, pipe or socket, not a memfd.
	ErrNotMemfd = errors.New("shm: descriptor is not a memfd")
	// ErrNotReadable: the descriptor was opened for writing only.
	ErrNotReadable = errors.New("shm: descriptor cannot be read")
	// ErrEmpty: the memfd holds no byte, so there is nothing to map.
	ErrEmpty = errors.New("shm: memfd is empty")
)

// Errors of use.
var (
	// ErrClosed: the segment or arena has been closed.
	ErrClosed = errors.New("shm: closed")
	// ErrBlockDone: the block was committed or aborted before.
	ErrBlockDone = errors.New("shm: block is already committed or aborted")
	// ErrUnknownBlock: no such block is live; it was freed before, or never
	// published with this offset and length.
	ErrUnknownBlock = errors.New("shm: no such live block")
	// ErrInvalidEncoding: the encoding is none of JSON, ArrowStream, Raw.
	ErrInvalidEncoding = errors.New("shm: invalid encoding")
	// ErrInvalidID: segment id 0.
	ErrInvalidID = errors.New("shm: segment id 0 is invalid")
)

// SealError says that a memfd lacks seals, so that its bytes could be taken
// away or its writer could be anyone.
type SealError struct {
	Have, Want int // F_SEAL_* bits
}

func (e *SealError) Error() string {
	return fmt.Sprintf("shm: memfd has seals %s, needs %s", sealNames(e.Have), sealNames(e.Want))
}

// SizeError says that a segment has not the size that was announced for it.
type SizeError struct {
	Have, Want int64 // bytes
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("shm: segment has %d bytes, %d were announced", e.Have, e.Want)
}

// LimitError says that something would outgrow its limit. Nothing was written
// past the limit.
type LimitError struct {
	Size  int64 // bytes that the block or input would reach
	Used  int64 // bytes that other live blocks already take from the same limit
	Limit int64 // bytes allowed in all
}

func (e *LimitError) Error() string {
	if e.Used > 0 {
		return fmt.Sprintf("shm: %d bytes are over the limit of %d bytes, of which other blocks use %d; free blocks or raise the limit", e.Size, e.Limit, e.Used)
	}
	return fmt.Sprintf("shm: %d bytes are over the limit of %d bytes; raise the limit or write less", e.Size, e.Limit)
}

// RefError says that a reference does not lie inside the segment it was used
// on.
type RefError struct {
	Ref     Ref
	Segment SegmentID // the segment asked
	Size    int64     // its size in bytes
}

func (e *RefError) Error() string {
	if e.Ref.Segment != e.Segment {
		return fmt.Sprintf("shm: reference to segment %d used on segment %d", uint64(e.Ref.Segment), uint64(e.Segment))
	}
	return fmt.Sprintf("shm: reference to %d bytes at offset %d is outside segment %d of %d bytes",
		e.Ref.Length, e.Ref.Offset, uint64(e.Segment), e.Size)
}

func sealNames(seals int) string {
	var names []string
	for _, s := range []struct {
		bit  int
		name string
	}{
		{unix.F_SEAL_SHRINK, "SHRINK"}, {unix.F_SEAL_GROW, "GROW"}, {unix.F_SEAL_WRITE, "WRITE"},
		{unix.F_SEAL_FUTURE_WRITE, "FUTURE_WRITE"}, {unix.F_SEAL_SEAL, "SEAL"},
	} {
		if seals&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "|")
}
