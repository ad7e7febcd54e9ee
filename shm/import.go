package shm

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// importPiece bounds one sendfile call, and so the time between two calls of
// Progress.
const importPiece = 4 << 20

// ImportOptions bound and watch an [Import]. The zero value sets no limit.
type ImportOptions struct {
	// SizeHint is the expected size in bytes, 0 when unknown. A hint above the
	// limit fails at once instead of after the limit's worth of copying.
	SizeHint int64
	// Limit is the most bytes to accept; 0 or less means none.
	Limit int64
	// Progress is called after each piece with the bytes copied so far, on the
	// caller's goroutine. An error from it ends the import with that error.
	Progress func(copied int64) error
}

// Import copies r to its end into a new segment, sealed for good, and returns
// it with the number of bytes. The bytes pass through the kernel or a small
// buffer, never through a mapping, so the caller's memory does not grow with
// them. A regular file is read from its current offset.
//
// It returns a *LimitError (whose Size is the input's size where that is
// known, otherwise the first size found to be too large), ErrEmpty for an
// empty input, or the reader's error; no memory is kept then.
func Import(id SegmentID, r io.Reader, options ImportOptions) (*Segment, int64, error) {
	if id == 0 {
		return nil, 0, ErrInvalidID
	}
	in := importer{ImportOptions: options}
	if err := in.check(options.SizeHint); err != nil {
		return nil, 0, err
	}
	memfd, err := newMemfd(memfdName)
	if err != nil {
		return nil, 0, err
	}
	in.out = memfd
	if err := in.copy(r); err != nil {
		memfd.Close()
		return nil, in.copied, fmt.Errorf("shm: import after %d bytes: %w", in.copied, err)
	}
	s, err := Adopt(id, memfd)
	return s, in.copied, err
}

type importer struct {
	ImportOptions
	out    *os.File
	copied int64
}

func (in *importer) check(size int64) error {
	if in.Limit > 0 && size > in.Limit {
		return &LimitError{Size: size, Limit: in.Limit}
	}
	return nil
}

func (in *importer) copy(r io.Reader) error {
	if file, ok := r.(*os.File); ok {
		handled, err := in.copyFile(file)
		if handled || err != nil {
			return err
		}
	}
	return in.copyReader(r)
}

// copyFile copies a regular file inside the kernel. It reports false when the
// rest has to be read instead: not a regular file, or one of a filesystem
// that cannot splice, such as procfs.
func (in *importer) copyFile(file *os.File) (bool, error) {
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, nil
	}
	offset, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, err
	}
	if err := in.check(info.Size() - offset); err != nil {
		return false, err
	}
	for {
		n, err := sendfile(in.out, file, in.piece(importPiece))
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("sendfile from %s: %w", file.Name(), err)
		}
		if n == 0 {
			// A pseudo-file claims size 0 and may still have something to read.
			return in.copied > 0, nil
		}
		if err := in.advance(n); err != nil {
			return false, err
		}
	}
}

func (in *importer) copyReader(r io.Reader) error {
	buffer := takeChunk()
	defer buffer.release()
	for {
		n, readErr := fill(r, buffer[:in.piece(chunkSize)])
		if n > 0 {
			if _, err := in.out.Write(buffer[:n]); err != nil {
				return err
			}
			if err := in.advance(n); err != nil {
				return err
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

// fill reads until p is full. Unlike io.ReadFull it keeps the reader's own
// error, so that an input cut short is told from one that ended.
func fill(r io.Reader, p []byte) (int, error) {
	n, empty := 0, 0
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err != nil {
			return n, err
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// piece cuts n so that at most one byte beyond the limit is read: the one that
// proves that the input is too large.
func (in *importer) piece(n int) int {
	if in.Limit > 0 && in.Limit-in.copied < int64(n) {
		return int(in.Limit-in.copied) + 1
	}
	return n
}

func (in *importer) advance(n int) error {
	in.copied += int64(n)
	if err := in.check(in.copied); err != nil {
		return err
	}
	if in.Progress != nil {
		return in.Progress(in.copied)
	}
	return nil
}
