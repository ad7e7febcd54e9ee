package command

import (
	"io"
	"math"
	"os"

	"github.com/millrace/millrace/shm"
)

// pieces is a source of the bytes that a command reads, in the mapping.
type pieces interface {
	// Next returns the next piece, io.EOF at the end.
	Next() ([]byte, error)
}

// openInput decides how the command gets its state.
func (e *execution) openInput() error {
	in := &e.spec.Stdin
	if e.spec.StateFD {
		if err := e.openStateFile(); err != nil {
			return err
		}
	}
	switch {
	case in.stream:
		return e.openItems()
	case in.none || e.spec.StateFD:
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		e.stdin = e.keep(f)
		return nil
	case in.byKey:
		source, err := e.keySource(in.key)
		if err != nil {
			return err
		}
		if f := wholeSegment(e.state, in.key); f != nil {
			e.stdin = e.keep(f)
			return nil
		}
		return e.openPipe(source)
	}
	if f := wholeDocument(e.state); f != nil {
		e.stdin = e.keep(f)
		return nil
	}
	return e.openPipe(e.state.Document())
}

// keySource reads one key, span by span. It fails at once when there is no
// such key.
func (e *execution) keySource(key string) (pieces, error) {
	if !e.state.Has(key) {
		_, err := e.state.Raw(key) // the error that names the keys there are
		return nil, err
	}
	return e.state.Reader(key), nil
}

// openStateFile puts the state into a file of its own, unless it is one.
func (e *execution) openStateFile() error {
	if f := wholeDocument(e.state); f != nil {
		e.stateFile = e.keep(f)
		return nil
	}
	f, err := shm.CreateGrowable("state")
	if err != nil {
		return err
	}
	e.keep(f)
	if err := writePieces(f, e.state.Document()); err != nil {
		return err
	}
	if err := seal(f); err != nil {
		return err
	}
	read, err := reopen(f)
	if err != nil {
		return err
	}
	e.stateFile = e.keep(read)
	return nil
}

// openPipe has the source written into a pipe while the command runs.
func (e *execution) openPipe(source pieces) error {
	write, err := e.pipeIn()
	if err != nil {
		return err
	}
	e.feed = func() {
		e.feedErr = writePieces(write, source)
		_ = write.Close()
	}
	return nil
}

// pipeIn makes a pipe the command's standard input, and returns where to write.
func (e *execution) pipeIn() (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	e.stdin = e.keep(read)
	e.feedEnd = e.keep(write)
	growPipe(write)
	return write, nil
}

// maxGather is how many bytes, and maxVectors how many pieces, one write takes.
const (
	maxGather  = 1 << 20
	maxVectors = 512
)

// writePieces writes a source to its end, several pieces a call.
func writePieces(f *os.File, source pieces) error {
	var batch [][]byte
	size := 0
	flush := func() error {
		err := writev(f, batch)
		batch, size = batch[:0], 0
		return err
	}
	for {
		p, err := source.Next()
		if err == io.EOF {
			return flush()
		}
		if err != nil {
			return err
		}
		for len(p) > 0 {
			n := min(len(p), math.MaxInt32)
			batch, size = append(batch, p[:n]), size+n
			p = p[n:]
			if size >= maxGather || len(batch) == maxVectors {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
}
