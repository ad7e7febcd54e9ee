package frames

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
)

// Writer writes frames. It is for one goroutine.
type Writer struct {
	w      io.Writer
	socket syscall.RawConn // nil where the kernel cannot send files to w
	buf    []byte          // of the header and meta
	copied []byte          // for copies through this process
	err    error           // that broke the stream
}

// NewWriter returns a Writer. Payloads go to a net.Conn of the kernel's by
// sendfile, to anything else through a buffer.
func NewWriter(w io.Writer) *Writer {
	out := &Writer{w: w}
	switch c := w.(type) {
	case *net.TCPConn:
		out.socket, _ = c.SyscallConn()
	case *net.UnixConn:
		out.socket, _ = c.SyscallConn()
	}
	return out
}

// Write writes a frame with the states' values, which the caller holds; l
// reads them. It sets m.States' kinds and values. After an error of the output
// nothing more can be written.
func (w *Writer) Write(m Meta, l *ledger.Ledger, states ...ipc.Table) error {
	if w.err != nil {
		return w.err
	}
	values, size, err := describe(&m, l, states)
	if err != nil {
		return err
	}
	meta, err := json.Marshal(&m)
	if err != nil {
		return err
	}
	if len(meta) > MaxMeta {
		return &MetaError{Size: len(meta), Limit: MaxMeta}
	}
	w.buf = append(appendHeader(w.buf[:0], len(meta), size), meta...)
	if _, err := w.w.Write(w.buf); err != nil {
		return w.broken(err)
	}
	for _, v := range values {
		if err := v.Files(w.send); err != nil {
			return w.broken(err)
		}
	}
	if cap(w.buf) > 1<<20 {
		w.buf = nil // a large meta was an exception
	}
	return nil
}

func (w *Writer) broken(err error) error {
	w.err = fmt.Errorf("the uplink is broken: %w", err)
	return w.err
}

// describe opens the states' values and enters them in the meta, so that every
// length is fixed, and every reference checked, before a byte is sent.
func describe(m *Meta, l *ledger.Ledger, states []ipc.Table) (values []*ledger.Value, size uint64, err error) {
	entered := make([]State, len(states))
	copy(entered, m.States) // the leaves' names
	for i, t := range states {
		entered[i].Kind = [...]string{ipc.KindAbsent: "absent", ipc.KindObject: "object", ipc.KindValue: "value"}[t.Kind]
		for _, row := range t.Rows {
			v, err := l.Value(row)
			if err != nil {
				return nil, 0, err
			}
			values = append(values, v)
			n := uint64(v.Size())
			entered[i].Values = append(entered[i].Values, Value{Key: row.Key, Encoding: row.Encoding().String(), Size: n})
			size += n
		}
	}
	m.States = entered
	return values, size, nil
}

// send sends a piece of a segment.
func (w *Writer) send(f *os.File, offset, length int64) error {
	if w.socket != nil {
		sent, err := sendfile(w.socket, f, offset, length)
		if !cannotSend(err) || sent > 0 {
			return err
		}
		w.socket = nil
	}
	if w.copied == nil {
		w.copied = make([]byte, 256<<10)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w.w}, struct{ io.Reader }{io.NewSectionReader(f, offset, length)}, w.copied)
	if err == nil && n < length {
		err = io.ErrUnexpectedEOF
	}
	return err
}
