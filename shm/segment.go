package shm

import (
	"fmt"
	"os"
	"sync"

	"github.com/edsrzf/mmap-go"
)

// Segment is one memfd. It owns its descriptor and, once mapped, its mapping.
//
// Exactly one process writes it: the one that called [Create]. Every other
// process holds a Segment from [Open], which can only read. Its methods may be
// called from several goroutines at once, but Close only when no slice from
// Bytes or Slice is in use any more.
type Segment struct {
	id       SegmentID // immutable
	size     int64     // immutable, bytes
	writable bool      // immutable: the mapping is read-write

	mu      sync.Mutex
	file    *os.File  // nil once closed
	mapping mmap.MMap // nil until first needed
	sealed  bool      // the descriptor refuses write(2)
}

// Create makes a segment of at least size bytes (rounded up to whole pages)
// and maps it for writing. The pages are made when they are first touched, so
// a large size costs address space only. The size can never change. Until
// Seal the descriptor itself can be written, so it must not leave the process.
func Create(id SegmentID, size int64) (*Segment, error) {
	if id == 0 {
		return nil, ErrInvalidID
	}
	if size <= 0 {
		return nil, fmt.Errorf("shm: create segment %d of %d bytes: size must be positive", uint64(id), size)
	}
	size = roundUp(size, int64(os.Getpagesize()))
	if size <= 0 {
		return nil, fmt.Errorf("shm: create segment %d: size overflows", uint64(id))
	}
	file, err := newMemfd(memfdName)
	if err != nil {
		return nil, err
	}
	s := &Segment{id: id, size: size, writable: true, file: file}
	if err := s.prepareWriter(); err != nil {
		file.Close()
		return nil, fmt.Errorf("shm: create segment %d of %d bytes: %w", uint64(id), size, err)
	}
	return s, nil
}

func (s *Segment) prepareWriter() error {
	if err := s.file.Truncate(s.size); err != nil {
		return err
	}
	if err := addSeals(s.file, birthSeals); err != nil {
		return err
	}
	mapping, err := mmap.MapRegion(s.file, int(s.size), mmap.RDWR, 0, 0)
	s.mapping = mapping
	return err
}

// Seal makes the mapping of Create the only way to write the segment, now and
// for good. Call it before the descriptor is first sent. It does nothing when
// the segment is sealed already.
func (s *Segment) Seal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return ErrClosed
	}
	if s.sealed {
		return nil
	}
	if err := addSeals(s.file, writerSeals); err != nil {
		return fmt.Errorf("shm: seal segment %d: %w", uint64(s.id), err)
	}
	s.sealed = true
	return nil
}

// Open makes a reader's segment of a descriptor that another process sent. It
// takes ownership of file, and closes it when it fails.
//
// The descriptor is untrusted: Open checks that it is a memfd (ErrNotMemfd),
// can be read (ErrNotReadable), carries the seals of a finished segment
// (*SealError), and has exactly size bytes (*SizeError). Afterwards no one can
// shrink it under a reader, so touching its mapping cannot fault. Its one
// writer can still change bytes: check what you copied, not what you mapped.
//
// Open does not map: ReadAt works without, Bytes and Slice map when first
// called.
func Open(id SegmentID, file *os.File, size int64) (*Segment, error) {
	if err := checkReader(id, file, size); err != nil {
		file.Close()
		return nil, fmt.Errorf("shm: open segment %d: %w", uint64(id), err)
	}
	return &Segment{id: id, size: size, file: file, sealed: true}, nil
}

func checkReader(id SegmentID, file *os.File, size int64) error {
	if id == 0 {
		return ErrInvalidID
	}
	seals, err := getSeals(file)
	if err != nil {
		return err
	}
	if err := checkReaderSeals(seals); err != nil {
		return err
	}
	if err := checkReadable(file); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	// After the seals, because only then the size cannot change any more.
	if info.Size() != size || size <= 0 {
		return &SizeError{Have: info.Size(), Want: size}
	}
	return nil
}

// ID returns the segment's id.
func (s *Segment) ID() SegmentID { return s.id }

// Size returns the segment's size in bytes, the part without pages included.
func (s *Segment) Size() int64 { return s.size }

// File returns the descriptor, to be sent to another process; nil once closed.
// The segment keeps owning it.
func (s *Segment) File() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file
}

// Bytes returns the whole segment, mapped at the first call: read-only, or
// for a segment of Create the writer's own mapping. Writing a read-only slice
// kills the process. The slice is valid until Close.
func (s *Segment) Bytes() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil, fmt.Errorf("shm: map segment %d: %w", uint64(s.id), ErrClosed)
	}
	if s.mapping == nil {
		mapping, err := mmap.MapRegion(s.file, int(s.size), mmap.RDONLY, 0, 0)
		if err != nil {
			return nil, fmt.Errorf("shm: map segment %d of %d bytes: %w", uint64(s.id), s.size, err)
		}
		s.mapping = mapping
	}
	return s.mapping, nil
}

// Slice returns the bytes of r in the mapping, without a copy, valid until
// Close. It returns a *RefError when r does not lie inside the segment.
func (s *Segment) Slice(r Ref) ([]byte, error) {
	end, ok := r.End()
	if !ok || r.Segment != s.id || end > uint64(s.size) {
		return nil, &RefError{Ref: r, Segment: s.id, Size: s.size}
	}
	mapping, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	return mapping[r.Offset:end:end], nil
}

// ReadAt reads by pread(2), so the pages enter neither this process's page
// table nor its RSS. It is [io.ReaderAt].
func (s *Segment) ReadAt(p []byte, offset int64) (int, error) {
	file := s.File()
	if file == nil {
		return 0, ErrClosed
	}
	return file.ReadAt(p, offset)
}

// Resident returns the memory that the segment takes, in bytes: its pages,
// whoever made them.
func (s *Segment) Resident() (int64, error) {
	file := s.File()
	if file == nil {
		return 0, ErrClosed
	}
	return residentBytes(file)
}

// DropPages takes the mapped pages out of this process's RSS. The bytes stay,
// slices stay valid, and the next touch maps them again.
func (s *Segment) DropPages() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mapping == nil {
		return nil
	}
	return forgetPages(s.mapping)
}

// Close unmaps and closes. Never call it while a slice from Bytes or Slice is
// live: touching one afterwards kills the process. A second Close does
// nothing. Other processes keep what they hold; the kernel frees the pages
// with the last descriptor and mapping.
func (s *Segment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	var unmapErr error
	if s.mapping != nil {
		unmapErr = s.mapping.Unmap()
	}
	err := s.file.Close()
	s.file, s.mapping = nil, nil
	if unmapErr != nil {
		err = unmapErr
	}
	if err != nil {
		return fmt.Errorf("shm: close segment %d: %w", uint64(s.id), err)
	}
	return nil
}

// writeAt writes p through the descriptor: the cheap way to make fresh pages,
// possible until Seal.
func (s *Segment) writeAt(p []byte, offset int64) error {
	if _, err := s.file.WriteAt(p, offset); err != nil {
		return fmt.Errorf("shm: write %d bytes at %d of segment %d: %w", len(p), offset, uint64(s.id), err)
	}
	return nil
}

func (s *Segment) isSealed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed
}

// roundUp rounds n up to a multiple of unit, a power of two; negative on
// overflow.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }
