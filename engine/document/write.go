package document

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// bufferSize is what passes through memory at a time.
const bufferSize = 256 << 10

// ValueError is a key whose bytes are not what its encoding says: the step
// that wrote it is at fault.
type ValueError struct {
	Key string
	Err error
}

// Error implements error.
func (e *ValueError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("the state's value is not valid JSON: %v", e.Err)
	}
	return fmt.Sprintf("key %q is not valid JSON: %v", e.Key, e.Err)
}

// Unwrap returns the cause.
func (e *ValueError) Unwrap() error { return e.Err }

// Writer writes tables as JSON documents. Keys with an encoding other than
// JSON become {"@encoding": "…", "base64": "…"}.
type Writer struct {
	ledger    *ledger.Ledger
	out       io.Writer
	buf       []byte // of what is to be written next; never over bufferSize
	in        []byte
	validator *jsonscan.Validator
	written   int64
}

// NewWriter returns a Writer. Call Flush at the end.
func NewWriter(l *ledger.Ledger, out io.Writer) *Writer {
	return &Writer{
		ledger: l, out: out,
		buf: make([]byte, 0, bufferSize), in: make([]byte, bufferSize),
		validator: jsonscan.NewValidator(0),
	}
}

// Written returns how many bytes of documents were written.
func (w *Writer) Written() int64 { return w.written }

// Text writes bytes of the caller's own, such as what stands between documents.
func (w *Writer) Text(s string) error { return w.write([]byte(s)) }

// Table writes one state as a JSON document; an absent one as null.
func (w *Writer) Table(t ipc.Table) error {
	switch t.Kind {
	case ipc.KindAbsent:
		return w.Text("null")
	case ipc.KindValue:
		return w.value(t.Rows[0])
	}
	separator := "{"
	if len(t.Rows) == 0 {
		return w.Text("{}")
	}
	var key []byte
	for _, row := range t.Rows {
		key = append(key[:0], separator...)
		key = append(jsonscan.AppendString(key, row.Key), ':')
		if err := w.write(key); err != nil {
			return err
		}
		if err := w.value(row); err != nil {
			return err
		}
		separator = ","
	}
	return w.Text("}")
}

func (w *Writer) value(row ipc.Row) error {
	v, err := w.ledger.Value(row)
	if err != nil {
		return err
	}
	if enc := row.Encoding(); enc != shm.JSON {
		return w.wrapped(enc, v)
	}
	w.validator.Reset()
	var bad *ValueError
	_, err = io.CopyBuffer(writerFunc(func(p []byte) (int, error) {
		if err := w.validator.Feed(p); err != nil {
			bad = &ValueError{Key: row.Key, Err: err}
			return 0, bad
		}
		return len(p), w.write(p)
	}), v.Reader(), w.in)
	if err == nil {
		if ferr := w.validator.Finish(); ferr != nil {
			err = &ValueError{Key: row.Key, Err: ferr}
		}
	}
	return err
}

// wrapped writes a value that JSON cannot hold.
func (w *Writer) wrapped(enc shm.Encoding, v *ledger.Value) error {
	if err := w.Text(`{"@encoding":"` + enc.String() + `","base64":"`); err != nil {
		return err
	}
	encoder := base64.NewEncoder(base64.StdEncoding, writerFunc(func(p []byte) (int, error) { return len(p), w.write(p) }))
	if _, err := io.CopyBuffer(encoder, v.Reader(), w.in); err != nil {
		return err
	}
	return errors.Join(encoder.Close(), w.Text(`"}`))
}

// Bytes writes a row's value as it is, with nothing around it.
func (w *Writer) Bytes(row ipc.Row) error {
	if row.Encoding() == shm.JSON {
		return w.value(row)
	}
	v, err := w.ledger.Value(row)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(writerFunc(func(p []byte) (int, error) { return len(p), w.write(p) }), v.Reader(), w.in)
	return err
}

func (w *Writer) write(p []byte) error {
	w.written += int64(len(p))
	if len(w.buf)+len(p) > cap(w.buf) {
		if err := w.Flush(); err != nil {
			return err
		}
		if len(p) >= cap(w.buf) {
			_, err := w.out.Write(p)
			return err
		}
	}
	w.buf = append(w.buf, p...)
	return nil
}

// Flush writes what is still in the buffer.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.out.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Key returns a key as it stands in an object, with its colon.
func Key(key string) string { return string(jsonscan.AppendString(nil, key)) + ":" }
