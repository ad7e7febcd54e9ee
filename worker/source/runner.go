package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
)

const (
	// progressEvery is how often a step that reads for long says how far it is.
	progressEvery = 10 * time.Second
	// maxSkipsLogged is how many records that are passed over are logged one by
	// one; the rest are counted.
	maxSkipsLogged = 20
)

// Main runs the process as an executor of sources, and never returns. See
// [worker.Main] for exit codes.
func Main() {
	worker.MainRunner(worker.Options{Language: "source", Capabilities: []string{ipc.CapabilityStreams}, Runner: Runner{}})
}

// Runner runs steps of the kind "source".
type Runner struct{}

var _ worker.Runner = Runner{}

// Prepare implements [worker.Runner].
func (Runner) Prepare(kind, text string) (worker.Function, error) {
	if kind != "source" {
		return nil, &worker.Error{Name: "ValidationError", Severity: ipc.SeverityCrash,
			Message: fmt.Sprintf("this executor reads files, and is not for a step of kind %q", kind)}
	}
	spec, err := ParseSpec(text)
	if err != nil {
		return nil, &worker.Error{Name: "ValidationError", Severity: ipc.SeverityCrash, Message: "the step's source: " + err.Error(), Err: err}
	}
	return func(ctx context.Context, s *worker.State) error { return named(spec.stream(ctx, s)) }, nil
}

// stream hands the state over, and reads the files into the stream in it.
func (s *Spec) stream(ctx context.Context, state *worker.State) (err error) {
	// What can be known before is said before: the next steps have not begun.
	r, err := Open(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	log := func(level, format string, args ...any) {
		worker.Log(ctx, level, "source", fmt.Sprintf(format, args...))
	}
	r.OnSkip = func(bad *FileError) {
		if r.Skipped <= maxSkipsLogged {
			log("warn", "passed over a record: %v", bad)
		}
	}
	batch, err := r.Next(nil)
	if err != nil && err != io.EOF {
		return err
	}
	w, werr := state.Stream(ctx, s.Key, worker.StreamOptions{Encoding: s.encoding(), Capacity: RingBytes})
	if werr != nil {
		return werr
	}
	said := time.Now()
	for err == nil {
		if err = w.Write(batch); err == nil {
			batch, err = r.Next(batch[:0])
		}
		if time.Since(said) > progressEvery {
			said = time.Now()
			log("info", "reading: %s so far", r.progress())
		}
	}
	var size *worker.ItemSizeError
	switch {
	case errors.As(err, &size): // only of arrow: others are closed before
		return fmt.Errorf("batch %d has %d bytes, and at most %d fit into the stream: set a `batch` of fewer than %d records: %w", r.Batches, size.Size, size.Limit, s.Batch, err)
	case err == io.EOF:
		log("info", "read %s", r.progress())
		return nil
	case errors.Is(err, worker.ErrReaderDone):
		log("info", "stopped after %s: no more is wanted", r.progress())
	}
	return err
}

func (s *Spec) encoding() worker.Encoding {
	if s.Encoding == "arrow" {
		return worker.ArrowStream
	}
	return worker.JSON
}

// progress says what was read so far.
func (r *Reader) progress() string {
	text := fmt.Sprintf("%d records in %d batches, %d bytes, from %d of %d files", r.Records, r.Batches, r.Bytes, r.at, len(r.files))
	if r.Skipped > 0 {
		text += fmt.Sprintf("; passed over %d records that cannot be read", r.Skipped)
	}
	return text
}

// named gives the error of a file its name and details.
func named(err error) error {
	var file *FileError
	if !errors.As(err, &file) {
		return err
	}
	details := map[string]any{"path": file.Path}
	if file.Line > 0 {
		details["line"], details["offset"] = file.Line, file.Offset
	}
	if file.Row > 0 {
		details["row"] = file.Row
	}
	return &worker.Error{Name: "SourceError", Message: err.Error(), Details: details, Err: err}
}
