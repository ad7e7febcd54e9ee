package lightning

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
)

// states is the content of a dataclip: the state of one step, or an object of
// several leaves' by name.
type states struct {
	ledger *ledger.Ledger
	// names of the tables; nil: there is one, and it stands alone.
	names  []string
	tables []ipc.Table
}

// write writes the content as JSON.
func (s *states) write(w io.Writer) error {
	out := document.NewWriter(s.ledger, w)
	if s.names == nil {
		if err := out.Table(s.tables[0]); err != nil {
			return err
		}
		return out.Flush()
	}
	separator := "{"
	for i, name := range s.names {
		if err := out.Text(separator + document.Key(name)); err != nil {
			return err
		}
		if err := out.Table(s.tables[i]); err != nil {
			return err
		}
		separator = ","
	}
	if len(s.names) == 0 {
		if err := out.Text("{"); err != nil {
			return err
		}
	}
	if err := out.Text("}"); err != nil {
		return err
	}
	return out.Flush()
}

// measured are the lengths of a content on the wire.
type measured struct{ object, text int64 }

// measure reads the content once. It fails where the content is not valid JSON,
// so that nothing of it is ever sent.
func (s *states) measure() (measured, error) {
	var m meter
	err := s.write(&m)
	return measured{object: m.plain, text: m.plain + m.extra + 2}, err
}

// meter counts bytes, and those that escaping adds.
type meter struct{ plain, extra int64 }

func (m *meter) Write(p []byte) (int, error) {
	m.plain += int64(len(p))
	for _, c := range p {
		m.extra += int64(escapeCost[c])
	}
	return len(p), nil
}

// escapeCost is how much longer a byte becomes in a JSON string.
var escapeCost = func() (cost [256]uint8) {
	for c := range 0x20 {
		cost[c] = 5
	}
	for _, c := range "\"\\\n\r\t\b\f" {
		cost[c] = 1
	}
	return cost
}()

// clipPayload is a message with a dataclip in it: {…meta, "key": content}.
type clipPayload struct {
	meta    json.RawMessage // an object with at least one member
	key     string          // "": there is no content
	content *states
	asText  bool
}

// WriteJSON implements phoenix.Payload.
func (p *clipPayload) WriteJSON(w io.Writer) error {
	if p.key == "" {
		_, err := w.Write(p.meta)
		return err
	}
	if _, err := fmt.Fprintf(w, "%s,%q:", p.meta[:len(p.meta)-1], p.key); err != nil {
		return err
	}
	if !p.asText {
		if err := p.content.write(w); err != nil {
			return err
		}
		_, err := io.WriteString(w, "}")
		return err
	}
	if _, err := io.WriteString(w, `"`); err != nil {
		return err
	}
	if err := p.content.write(&escaper{to: w}); err != nil {
		return err
	}
	_, err := io.WriteString(w, `"}`)
	return err
}

// escaper writes JSON as what stands inside of a JSON string.
type escaper struct {
	to  io.Writer
	buf []byte
}

func (e *escaper) Write(p []byte) (int, error) {
	b := e.buf[:0]
	for _, c := range p {
		switch {
		case escapeCost[c] == 0:
			b = append(b, c)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\f':
			b = append(b, '\\', 'f')
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
	}
	e.buf = b
	if _, err := e.to.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}
