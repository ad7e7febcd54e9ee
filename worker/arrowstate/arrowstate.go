// Package arrowstate reads and writes keys of a state as Arrow tables: columns
// are read where they lie in shared memory and written straight into it. It is
// apart from package worker so that programs without Arrow do not link it.
//
// # Caveats
//
// Records from [Open] lie in shared memory: they are valid until the step's
// function returns, and writing to their buffers fails the step.
package arrowstate

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/arrowipc"
)

// Open reads a key's value, an Arrow IPC stream or file, with no copy of its
// columns. The reader and its records are valid until the step's function
// returns. Errors: a *worker.KeyError, with worker.ErrNoKey where there is no
// such key, and an *arrowipc.FormatError where it is not Arrow.
func Open(s *worker.State, key string, options ...arrowipc.Option) (*arrowipc.Reader, error) {
	b, err := s.Raw(key)
	if err != nil {
		return nil, err
	}
	if enc := s.Encoding(key); enc != worker.ArrowStream {
		return nil, &worker.KeyError{Key: key, Err: fmt.Errorf("it is encoded as %s, not as Arrow", enc)}
	}
	r, err := arrowipc.NewReader(b, options...)
	if err != nil {
		return nil, &worker.KeyError{Key: key, Err: err}
	}
	return r, nil
}

// Writer writes a key's value as an Arrow IPC stream. Close or Abort it before
// the step's function returns.
type Writer struct {
	key    *worker.KeyWriter
	stream *ipc.Writer
}

// Create starts writing a key. options are those of Arrow's own writer, such as
// ipc.WithZstd; the schema is set already.
func Create(s *worker.State, key string, schema *arrow.Schema, options ...ipc.Option) (*Writer, error) {
	k, err := s.Create(key, worker.ArrowStream, 0)
	if err != nil {
		return nil, err
	}
	options = append([]ipc.Option{ipc.WithSchema(schema)}, options...)
	return &Writer{key: k, stream: ipc.NewWriter(k, options...)}, nil
}

// Write appends a record, which stays the caller's to release.
func (w *Writer) Write(record arrow.Record) error { return w.stream.Write(record) }

// Close ends the stream and sets the key.
func (w *Writer) Close() error {
	if err := w.stream.Close(); err != nil {
		w.key.Abort()
		return err
	}
	return w.key.Close()
}

// Abort gives up what was written; the state is as it was. It does nothing
// after Close.
func (w *Writer) Abort() {
	// The end of a stream that is thrown away is of no interest.
	_ = w.stream.Close()
	w.key.Abort()
}
