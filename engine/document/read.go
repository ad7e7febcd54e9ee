package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// Store is where documents are kept: a ledger and one run's account in it.
type Store struct {
	Ledger  *ledger.Ledger
	Account *ledger.Account
}

// Read copies a JSON document from r into shared memory and returns the table
// over it, which the caller holds. It fails with a *jsonscan.SyntaxError when
// it is not one valid JSON document, and a *shm.LimitError when it is larger
// than the account's budget.
func (s Store) Read(r io.Reader) (ipc.Table, error) {
	whole, err := s.Account.Import(r, shm.JSON)
	if err != nil {
		if errors.Is(err, shm.ErrEmpty) {
			err = jsonscan.ErrEmpty
		}
		return ipc.Table{}, err
	}
	block := ipc.Table{Kind: ipc.KindValue, Rows: []ipc.Row{{Spans: []shm.Ref{whole}}}}
	defer s.Account.Release(block)
	return s.table(block.Rows[0], whole)
}

// table finds the top-level members of a document that is one block.
func (s Store) table(row ipc.Row, whole shm.Ref) (ipc.Table, error) {
	value, err := s.Ledger.Value(row)
	if err != nil {
		return ipc.Table{}, err
	}
	doc, err := jsonscan.TopReader(value.Reader(), jsonscan.Options{})
	if err != nil {
		return ipc.Table{}, err
	}
	part := func(offset, length int64) []shm.Ref {
		ref := whole
		ref.Offset += uint64(offset)
		ref.Length = uint64(length)
		return []shm.Ref{ref}
	}
	t := ipc.Table{Kind: ipc.KindObject}
	if doc.Kind != jsonscan.Object {
		t.Kind = ipc.KindValue // its one member has an empty key, as its row has
	}
	for _, m := range doc.Members {
		t.Rows = append(t.Rows, ipc.Row{Key: m.Key, Spans: part(m.Offset, m.Length)})
	}
	return t, s.Account.Retain(t)
}

// ReadObject writes a small document that is an object into shared memory and
// returns the table over it, which the caller holds.
func (s Store) ReadObject(doc []byte) (ipc.Table, error) {
	row, err := s.WriteJSON(doc)
	if err != nil {
		return ipc.Table{}, err
	}
	defer s.Account.Release(ipc.Table{Kind: ipc.KindValue, Rows: []ipc.Row{row}})
	return s.table(row, row.Spans[0])
}

// WriteJSON writes a small JSON value into shared memory and returns a row with
// an empty key, which the caller holds.
func (s Store) WriteJSON(doc []byte) (ipc.Row, error) {
	return s.Account.Write("", shm.JSON, doc)
}

// ReadValue copies one key's value from r into shared memory and returns its
// row, which the caller holds. A JSON value is validated; white space around it
// stays.
func (s Store) ReadValue(key string, enc shm.Encoding, r io.Reader) (ipc.Row, error) {
	ref, err := s.Account.Import(r, enc)
	if err != nil {
		return ipc.Row{}, fmt.Errorf("key %q: %w", key, err)
	}
	row := ipc.Row{Key: key, Spans: []shm.Ref{ref}}
	if enc == shm.JSON {
		if err := s.validate(row); err != nil {
			s.Account.Release(ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}})
			return ipc.Row{}, fmt.Errorf("key %q: %w", key, err)
		}
	}
	return row, nil
}

func (s Store) validate(row ipc.Row) error {
	value, err := s.Ledger.Value(row)
	if err != nil {
		return err
	}
	v := jsonscan.NewValidator(0)
	if _, err := io.CopyBuffer(feeder{v}, value.Reader(), make([]byte, bufferSize)); err != nil {
		return err
	}
	return v.Finish()
}

type feeder struct{ *jsonscan.Validator }

func (f feeder) Write(p []byte) (int, error) {
	if err := f.Feed(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// ArrowMagic starts an Arrow IPC file.
var ArrowMagic = []byte("ARROW1")

// Detect guesses the encoding of a file's content from its first bytes: an
// Arrow IPC file or stream, JSON, else raw bytes.
func Detect(start []byte) shm.Encoding {
	if bytes.HasPrefix(start, ArrowMagic) || bytes.HasPrefix(start, []byte{0xff, 0xff, 0xff, 0xff}) {
		return shm.ArrowStream
	}
	trimmed := bytes.TrimLeft(start, " \t\r\n")
	if len(trimmed) > 0 && bytes.IndexByte([]byte(`{["-0123456789tfn`), trimmed[0]) >= 0 {
		return shm.JSON
	}
	return shm.Raw
}
