package source

import (
	"errors"
	"fmt"
	"io"
)

// Reader reads batches. It is for one goroutine; Close it.
type Reader struct {
	spec    *Spec
	files   []string
	at      int // the next file
	current records
	pending []byte // a record that did not fit into the batch before

	// OnSkip, if not nil, is told of each record that is passed over.
	OnSkip func(*FileError)
	// Records, Skipped and Batches count what came so far; Bytes are those of
	// the batches.
	Records, Skipped, Batches int64
	Bytes                     int64
}

// records are those of one file.
type records interface {
	// next appends the next record's JSON text to dst, or returns io.EOF. After
	// a *FileError with Line or Row the following record can be read.
	next(dst []byte) ([]byte, error)
	close() error
}

// batches are the batches of a columnar file, when its own form is asked for.
type batches interface {
	records
	// nextBatch appends up to n rows as an Arrow IPC stream, or returns io.EOF.
	nextBatch(dst []byte, n int) ([]byte, int64, error)
}

// Open expands the spec's paths and checks that their formats are known; files
// are opened one after another as they are read.
func Open(spec *Spec) (*Reader, error) {
	files, err := spec.files()
	if err != nil {
		return nil, err
	}
	if spec.Format == "" {
		for _, f := range files {
			if _, err := formatOf(f); err != nil {
				return nil, err
			}
		}
	}
	return &Reader{spec: spec, files: files}, nil
}

// Next appends the next batch to dst, or returns io.EOF after the last one. A
// batch has at least one record.
func (r *Reader) Next(dst []byte) ([]byte, error) {
	start := len(dst)
	var err error
	if r.spec.Encoding == "arrow" {
		dst, err = r.nextArrow(dst)
	} else {
		dst, err = r.nextJSON(dst)
	}
	if err != nil {
		return dst[:start], err
	}
	r.Batches++
	r.Bytes += int64(len(dst) - start)
	return dst, nil
}

func (r *Reader) nextJSON(dst []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '[')
	for n := 0; n < r.spec.Batch; n++ {
		before := len(dst)
		if n > 0 {
			dst = append(dst, ',')
		}
		var err error
		dst, err = r.record(dst)
		switch {
		case errors.Is(err, io.EOF) && n == 0:
			return dst, io.EOF
		case errors.Is(err, io.EOF):
			return append(dst[:before], ']'), nil
		case err != nil:
			return dst, err
		}
		if n > 0 && len(dst)-start >= MaxBatchBytes {
			// It opens the next batch; this one closes without it.
			r.pending = append(r.pending[:0], dst[before+1:]...)
			dst = dst[:before]
			break
		}
		r.Records++
	}
	return append(dst, ']'), nil
}

// record appends the next record of whichever file has one.
func (r *Reader) record(dst []byte) ([]byte, error) {
	if len(r.pending) > 0 {
		dst = append(dst, r.pending...)
		r.pending = r.pending[:0]
		return dst, nil
	}
	for {
		if err := r.open(); err != nil {
			return dst, err
		}
		before := len(dst)
		got, err := r.current.next(dst)
		var bad *FileError
		switch {
		case err == nil && len(got)-before > MaxRecordBytes:
			return dst, &FileError{Path: r.files[r.at-1], Err: fmt.Errorf("record %d has %d bytes, at most %d are allowed", r.Records+1, len(got)-before, MaxRecordBytes)}
		case err == nil:
			return got, nil
		case errors.Is(err, io.EOF):
			if err := r.Close(); err != nil {
				return dst, err
			}
		case r.spec.SkipBad && errors.As(err, &bad) && bad.Line+bad.Row > 0:
			r.Skipped++
			if r.OnSkip != nil {
				r.OnSkip(bad)
			}
		default:
			return dst, err
		}
	}
}

func (r *Reader) nextArrow(dst []byte) ([]byte, error) {
	for {
		if err := r.open(); err != nil {
			return dst, err
		}
		file, ok := r.current.(batches)
		if !ok {
			return dst, &FileError{Path: r.files[r.at-1], Err: errors.New("encoding arrow needs a Parquet or Arrow file")}
		}
		got, n, err := file.nextBatch(dst, r.spec.Batch)
		if err == nil {
			r.Records += n
			return got, nil
		}
		if !errors.Is(err, io.EOF) {
			return dst, err
		}
		if err := r.Close(); err != nil {
			return dst, err
		}
	}
}

// open makes the next file the current one if there is none; io.EOF after the
// last.
func (r *Reader) open() error {
	if r.current != nil {
		return nil
	}
	if r.at == len(r.files) {
		return io.EOF
	}
	path := r.files[r.at]
	format := r.spec.Format
	if format == "" {
		var err error
		if format, err = formatOf(path); err != nil {
			return err
		}
	}
	var err error
	switch format {
	case FormatNDJSON:
		r.current, err = openLines(path)
	case FormatCSV:
		r.current, err = openCSV(path, &r.spec.CSV)
	case FormatParquet:
		r.current, err = openParquet(path, r.spec.Batch)
	case FormatArrow:
		r.current, err = openArrow(path)
	case FormatFiles:
		r.current, err = openWhole(path)
	}
	if err != nil {
		r.current = nil
		return err
	}
	r.at++
	return nil
}

// Close closes the file that is open, if any. Next goes on with the next one.
func (r *Reader) Close() error {
	if r.current == nil {
		return nil
	}
	err := r.current.close()
	r.current = nil
	return err
}
