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
const bufferSize = 64 << 10

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

	measure   bool  // count only
	unchecked bool  // see Unchecked
	repair    bool  // see Repair
	repaired  error // the first value's
	at        jsonscan.Checkpoint
	outErr    error // what out returned
}

// NewWriter returns a Writer. Call Flush at the end.
func NewWriter(l *ledger.Ledger, out io.Writer) *Writer {
	return &Writer{
		ledger: l, out: out,
		buf: make([]byte, 0, bufferSize), in: make([]byte, bufferSize),
		validator: jsonscan.NewValidator(0),
	}
}

// Reset makes the writer as NewWriter returns it, but for its buffers, which
// are used again.
func (w *Writer) Reset(l *ledger.Ledger, out io.Writer) {
	*w = Writer{ledger: l, out: out, buf: w.buf[:0], in: w.in, validator: w.validator, at: w.at}
}

// Unchecked makes the writer pass on values without validating them, for
// outputs that count only.
func (w *Writer) Unchecked() { w.unchecked = true }

// Repair makes the writer go on where a value cannot be read or is not JSON:
// it is cut off there and completed, so that what is written stays a document.
// It is for outputs that cannot be taken back; Repaired says what happened.
func (w *Writer) Repair() { w.repair = true }

// Repaired returns why a value was cut off, the first of them since Reset; nil
// when all were whole.
func (w *Writer) Repaired() error { return w.repaired }

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
	switch enc := row.Encoding(); {
	case err != nil && w.repair:
		w.validator.Reset()
		w.validator.Checkpoint(&w.at)
	case err != nil:
	case w.measure && enc == shm.JSON:
		w.written += v.Size()
		return nil
	case enc != shm.JSON:
		return w.wrapped(enc, v)
	default:
		err = w.json(row.Key, v)
	}
	if err == nil || !w.repair || w.outErr != nil {
		return err
	}
	if w.repaired == nil {
		w.repaired = err
	}
	return w.write(w.at.Completion(nil))
}

// json copies a value, validating it on the way. Nothing of a piece that is
// not valid is written, and nothing at all of a value in one piece.
func (w *Writer) json(key string, v *ledger.Value) error {
	w.validator.Reset()
	w.validator.Checkpoint(&w.at)
	for done, size := int64(0), v.Size(); ; {
		piece := w.in[:min(size-done, int64(len(w.in)))]
		if _, err := v.ReadAt(piece, done); err != nil {
			return err
		}
		done += int64(len(piece))
		if w.unchecked {
			if err := w.write(piece); err != nil || done == size {
				return err
			}
			continue
		}
		if err := w.validator.Feed(piece); err != nil {
			return &ValueError{Key: key, Err: err}
		}
		if done == size && size <= int64(len(w.in)) {
			if err := w.validator.Finish(); err != nil {
				return &ValueError{Key: key, Err: err}
			}
			return w.write(piece)
		}
		if w.repair {
			w.validator.Checkpoint(&w.at)
		}
		if err := w.write(piece); err != nil {
			return err
		}
		if done == size {
			if err := w.validator.Finish(); err != nil {
				return &ValueError{Key: key, Err: err}
			}
			return nil
		}
	}
}

// wrapped writes a value that JSON cannot hold.
func (w *Writer) wrapped(enc shm.Encoding, v *ledger.Value) error {
	if w.measure {
		w.written += int64(len(`{"@encoding":"","base64":""}`)+len(enc.String())) + (v.Size()+2)/3*4
		return nil
	}
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
	if w.measure {
		return nil
	}
	if len(w.buf)+len(p) > cap(w.buf) {
		if err := w.Flush(); err != nil {
			return err
		}
		if len(p) >= cap(w.buf) {
			return w.put(p)
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
	err := w.put(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *Writer) put(p []byte) error {
	_, err := w.out.Write(p)
	if err != nil {
		w.outErr = err
	}
	return err
}

// Size returns how many bytes Writer.Table writes, without reading a value.
func Size(l *ledger.Ledger, t ipc.Table) (int64, error) {
	w := Writer{ledger: l, measure: true}
	err := w.Table(t)
	return w.written, err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Key returns a key as it stands in an object, with its colon.
func Key(key string) string { return string(jsonscan.AppendString(nil, key)) + ":" }
