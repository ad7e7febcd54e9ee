package command

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/worker"
)

// feedSize is how many bytes of items go into the command's pipe at once, if
// they are there.
const feedSize = 64 << 10

// openItems makes the items of a stream the command's input, one a line.
func (e *execution) openItems() error {
	ctx, cancel := context.WithCancel(e.ctx)
	reads, err := e.state.OpenStream(ctx, e.spec.Stdin.key)
	if err != nil {
		cancel()
		return err
	}
	if reads.Encoding() == worker.ArrowStream {
		cancel()
		return &worker.KeyError{Key: e.spec.Stdin.key, Err: errors.New("the items of the stream are arrow streams, and a command reads lines: have json or raw items made")}
	}
	write, err := e.pipeIn()
	if err != nil {
		cancel()
		return err
	}
	e.reads, e.stopReading = reads, cancel
	e.feed = func() {
		defer cancel()
		e.writeItems(write)
	}
	return nil
}

// writeItems writes items until there are no more, or the command reads no more:
// then whoever makes them is told.
func (e *execution) writeItems(f *os.File) {
	defer e.reads.Close()
	var lines []byte
	for {
		item, err := e.reads.Next()
		if err == nil {
			lines = appendLine(lines, item, e.reads.Encoding())
			if len(lines) < feedSize && e.reads.Ready() {
				continue
			}
		}
		if len(lines) > 0 {
			_, werr := f.Write(lines)
			lines = lines[:0]
			if werr != nil {
				if !errors.Is(werr, syscall.EPIPE) && !errors.Is(werr, os.ErrDeadlineExceeded) {
					e.feedErr = werr
				}
				break
			}
		}
		if err == nil {
			continue
		}
		if failed := (*worker.StreamError)(nil); errors.As(err, &failed) {
			// An end of its input would have the command take it for all of it.
			e.stop(err)
			return
		}
		break // the end, or the command's
	}
	_ = f.Close()
}

// appendLine appends an item as a line. Line breaks in JSON are white space.
func appendLine(dst, item []byte, enc worker.Encoding) []byte {
	start := len(dst)
	dst = append(dst, item...)
	if enc == worker.JSON {
		for i, c := range dst[start:] {
			if c == '\n' || c == '\r' {
				dst[start+i] = ' '
			}
		}
	}
	return append(dst, '\n')
}

// openLines hands the state over, for the command's lines to become the items of
// a stream in it.
func (e *execution) openLines() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	e.lines, e.stdout = e.keep(read), e.keep(write)
	growPipe(write)
	e.items, err = e.state.Stream(e.ctx, e.spec.Stdout.key, worker.StreamOptions{Encoding: e.spec.Stdout.encoding})
	return err
}

// takeLines makes the command's lines items, until its output ends or nobody
// wants more of them.
func (e *execution) takeLines(exited <-chan struct{}) {
	err := e.eachLine(exited, e.items.MaxItem(), e.items.Write)
	if over := e.items.Err(); err != nil && over != nil {
		err = over // endUnwanted has closed the pipe
	}
	if err != nil && !errors.Is(err, worker.ErrReaderDone) {
		e.linesErr = err
		e.stop(err)
	}
}

// endUnwanted ends the command when nobody wants its lines any more: it gets a
// SIGPIPE when it writes on, and if that does not end it soon, it is ended.
func (e *execution) endUnwanted(exited <-chan struct{}) {
	select {
	case <-exited:
		return
	case <-e.items.Done():
	}
	err := e.items.Err()
	if errors.Is(err, worker.ErrReaderDone) {
		_ = e.lines.Close()
		select {
		case <-exited:
		case <-time.After(grace):
		}
	}
	e.stop(err)
}

// eachLine gives each line to write: without its end, JSON checked and without
// the empty ones.
func (e *execution) eachLine(exited <-chan struct{}, limit int, write func([]byte) error) error {
	in := bufio.NewReaderSize(lateReader{e.lines, exited}, feedSize)
	var long []byte
	var number int64
	json := jsonscan.NewValidator(0)
	for {
		piece, err := in.ReadSlice('\n')
		if long = append(long, piece...); errors.Is(err, bufio.ErrBufferFull) && len(long) <= limit {
			continue
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return write(long) // is too large
		}
		end := errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !end {
			return fmt.Errorf("read the output of %s: %w", e.name(), err)
		}
		if end && len(long) == 0 {
			return nil
		}
		number++
		line := bytes.TrimSuffix(long, []byte("\n"))
		if e.spec.Stdout.encoding == worker.JSON {
			if line = bytes.Trim(line, space); len(line) > 0 {
				if err := checkLine(json, line); err != nil {
					return e.lineError(number, line, err)
				}
			}
		}
		if len(line) > 0 || e.spec.Stdout.encoding == worker.Raw {
			if err := write(line); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
		long = long[:0]
	}
}

func checkLine(v *jsonscan.Validator, line []byte) error {
	v.Reset()
	if err := v.Feed(line); err != nil {
		return err
	}
	return v.Finish()
}

func (e *execution) lineError(number int64, line []byte, err error) error {
	details := map[string]any{"argv0": e.spec.Argv[0], "line": number}
	message := fmt.Sprintf("%s wrote a line that is not JSON, line %d: %v", e.name(), number, err)
	if syntax := (*jsonscan.SyntaxError)(nil); errors.As(err, &syntax) {
		details["column"], details["excerpt"] = syntax.Offset+1, excerptAt(line, syntax.Offset)
		message = fmt.Sprintf("%s wrote a line that is not JSON, line %d, near %q: %s", e.name(), number, excerptAt(line, syntax.Offset), syntax.Msg)
	}
	return &worker.Error{Name: "CommandError", Message: message + "; each line is an item of the stream: write them as `jq -c` does, or set `encoding: raw`", Details: details}
}

// lateReader reads a pipe that may be held open by a process that is out of
// reach: once the command has exited, each read has only so long.
type lateReader struct {
	file   *os.File
	exited <-chan struct{}
}

func (r lateReader) Read(p []byte) (int, error) {
	select {
	case <-r.exited:
		_ = r.file.SetReadDeadline(time.Now().Add(leftovers))
	default:
	}
	return r.file.Read(p)
}
