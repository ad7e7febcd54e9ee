package worker

import (
	"encoding/base64"
	"io"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
)

// base64Piece is how many bytes of a row that is no JSON are encoded at a
// time: a multiple of 3, so that the pieces join.
const base64Piece = 48 << 10

// Document is a state as one JSON document, piece by piece: keys and what
// stands around them from the heap, values from the mappings. A value that is
// no JSON is shown as {"@encoding": "arrow-stream", "base64": "…"}, a stream as
// "[stream]". It is an io.Reader and an io.WriterTo, for one goroutine, and valid until the
// function returns.
type Document struct {
	state *State
	table ipc.Table
	row   int // the next one
	value *Reader
	plain bool   // value is JSON: no base64
	rest  []byte // Read's
	end   bool
	err   error
}

// Document returns the state as it is now, as a document. An absent one is an
// empty object.
func (s *State) Document() *Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.settle() // result returns the error
	for i := range s.table.Rows {
		s.markRead(i)
	}
	return &Document{state: s, table: ipc.Table{Kind: s.table.Kind, Rows: s.liveRows()}}
}

// AppendTo appends the state as a JSON document to b.
func (s *State) AppendTo(b []byte) ([]byte, error) {
	d := s.Document()
	for {
		p, err := d.Next()
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		b = append(b, p...)
	}
}

// Next returns the next piece, never empty, valid until the function returns;
// io.EOF at the end.
func (d *Document) Next() ([]byte, error) {
	if len(d.rest) > 0 { // left by Read
		p := d.rest
		d.rest = nil
		return p, nil
	}
	for d.err == nil {
		p, err := d.next()
		if err != nil {
			d.err = err
			break
		}
		if len(p) > 0 {
			return p, nil
		}
	}
	return nil, d.err
}

func (d *Document) next() ([]byte, error) {
	if d.value != nil {
		return d.nextOfValue()
	}
	if d.row < len(d.table.Rows) {
		r := &d.table.Rows[d.row]
		var head []byte
		if d.table.Kind != Value {
			head = append(head, "{,"[min(d.row, 1)])
			head = jsonscan.AppendKey(head, r.Key)
		}
		if isStream(r) {
			d.row++
			return append(head, streamText...), nil
		}
		if d.plain = r.Encoding() == JSON; !d.plain {
			head = append(head, `{"@encoding":"`+r.Encoding().String()+`","base64":"`...)
		}
		d.value = &Reader{state: d.state, key: r.Key, spans: r.Spans}
		d.row++
		return head, nil
	}
	if d.end {
		return nil, io.EOF
	}
	d.end = true
	switch {
	case d.table.Kind == Value:
		return nil, nil
	case len(d.table.Rows) == 0:
		return []byte("{}"), nil
	}
	return []byte("}"), nil
}

func (d *Document) nextOfValue() ([]byte, error) {
	if d.plain {
		p, err := d.value.Next()
		if err == io.EOF {
			d.value, err = nil, nil
		}
		return p, err
	}
	raw := make([]byte, base64Piece)
	n, err := io.ReadFull(d.value, raw)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	p := base64.StdEncoding.AppendEncode(nil, raw[:n])
	if err != nil {
		d.value = nil
		p = append(p, `"}`...)
	}
	return p, nil
}

// Read implements io.Reader.
func (d *Document) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := d.Next()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	d.rest = b[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: each piece is one Write.
func (d *Document) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		p, err := d.Next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(p)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}
