package frames

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
)

// Sink receives what happens in runs. Its methods may be called from any
// goroutine; they return when everything was handed to the kernel, so a slow
// receiver slows the caller. After an error of the output all further calls
// return it.
type Sink interface {
	// Event sends an event of RunOptions.Observe, its state included where it
	// has one; it ignores those that are of no interest outside, and
	// run:complete, which Complete sends.
	Event(e engine.Event) error
	// Complete sends the end of a run with its final states.
	Complete(run string, r *engine.Result) error
	Close() error
}

// AddressError is an uplink address that is none.
type AddressError struct{ Address string }

// Error implements error.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%q is no uplink: it is unix:PATH, tcp:HOST:PORT, ndjson:PATH, or - for lines on standard output", e.Address)
}

// Open connects to a socket, or creates a file, see the package's
// documentation. Errors: *AddressError, those of the operating system.
func Open(address string) (Sink, error) {
	scheme, rest, found := strings.Cut(address, ":")
	switch {
	case address == "-":
		return &sink{lines: newLines(os.Stdout), close: func() error { return nil }}, nil
	case !found || rest == "":
		return nil, &AddressError{address}
	case scheme == "ndjson" && rest == "-":
		return Open("-")
	case scheme == "ndjson":
		f, err := os.OpenFile(rest, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, fmt.Errorf("cannot write the uplink's file: %w", err)
		}
		return &sink{lines: newLines(f), close: f.Close}, nil
	case scheme == "unix" || scheme == "tcp":
		conn, err := net.DialTimeout(scheme, rest, 10*time.Second)
		if err != nil {
			return nil, fmt.Errorf("cannot connect the uplink: %w", err)
		}
		return &sink{frames: NewWriter(conn), close: conn.Close}, nil
	}
	return nil, &AddressError{address}
}

// NewFrames returns a Sink of frames; Close closes w.
func NewFrames(w io.WriteCloser) Sink { return &sink{frames: NewWriter(w), close: w.Close} }

// NewLines returns a Sink of lines of JSON; Close closes w.
func NewLines(w io.WriteCloser) Sink { return &sink{lines: newLines(w), close: w.Close} }

// sink is of frames or of lines.
type sink struct {
	mu     sync.Mutex
	frames *Writer
	lines  *lines
	close  func() error
	closed bool
}

// Event implements Sink.
func (s *sink) Event(e engine.Event) error {
	m := Meta{
		Type: string(e.Type), Time: e.Time, Run: e.Run, Step: e.Step,
		Attempt: e.Attempt, Execution: e.Execution, From: e.From, Error: text(e.Err),
	}
	switch e.Type {
	case engine.EventRunStart, engine.EventStepStart, engine.EventStepRetry:
	case engine.EventLog:
		if e.Log == nil {
			return nil
		}
		m.Time = e.Log.Time
		m.Log = &Log{Level: e.Log.Level, Source: e.Log.Source, Message: e.Log.Message, Structured: e.Log.Structured}
	case engine.EventStepComplete:
		if r := e.Report; r != nil {
			m.Status, m.DurationUS, m.MemoryBytes = string(r.Status), r.DurationUS, r.MemoryBytes
		}
		if e.State != nil {
			m.States = []State{{Streams: e.State.Streams()}}
			return s.write(m, e.State.Ledger(), e.State.Table())
		}
	default:
		return nil
	}
	return s.write(m, nil)
}

// Complete implements Sink.
func (s *sink) Complete(run string, r *engine.Result) error {
	m := Meta{Type: string(engine.EventRunComplete), Time: time.Now(), Run: run, Status: string(r.Status), Error: text(r.Err)}
	keys := r.Keys()
	tables := make([]ipc.Table, len(r.Leaves))
	for i, leaf := range r.Leaves {
		m.States = append(m.States, State{Leaf: keys[i], Streams: leaf.Streams})
		tables[i] = leaf.State
	}
	return s.write(m, r.Ledger(), tables...)
}

func (s *sink) write(m Meta, l *ledger.Ledger, tables ...ipc.Table) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosed
	case s.frames != nil:
		return s.frames.Write(m, l, tables...)
	}
	return s.lines.write(m, l, tables)
}

var errClosed = errors.New("the uplink is closed")

// Close implements Sink.
func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.close()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
