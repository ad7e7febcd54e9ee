package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
)

// Message is a JSON object to be sent. It is built by one goroutine, with the
// methods that return it, and then written by one at a time.
type Message struct {
	ledger    *ledger.Ledger
	parts     []part
	text      []byte // of the part being built
	err       error
	ifInvalid func(error) []byte

	mu      sync.Mutex
	size    int64 // -1 until it is known
	invalid error
}

// part is text, then a state where there is one.
type part struct {
	text     []byte
	state    *ipc.Table
	asString bool
}

// New begins a message; values are read from l.
func New(l *ledger.Ledger) *Message {
	return &Message{ledger: l, text: []byte{'{'}, size: -1}
}

// Field adds a field with a small value, which encoding/json encodes now.
func (m *Message) Field(key string, value any) *Message {
	b, err := json.Marshal(value)
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("field %q: %w", key, err)
	}
	return m.Raw(key, b)
}

// Raw adds a field whose value is encoded already.
func (m *Message) Raw(key string, value []byte) *Message {
	m.key(key)
	m.text = append(m.text, value...)
	return m
}

// State adds a field with a state: as it is, or as a string that contains its
// JSON text. The caller holds the table.
func (m *Message) State(key string, t ipc.Table, asString bool) *Message {
	m.key(key)
	if asString {
		m.text = append(m.text, '"')
	}
	m.parts = append(m.parts, part{text: m.text, state: &t, asString: asString})
	m.text = nil
	if asString {
		m.text = append(m.text, '"')
	}
	return m
}

// States adds a field with an object of states by name, inline. The caller holds
// the tables.
func (m *Message) States(key string, names []string, tables []ipc.Table) *Message {
	m.key(key)
	separator := byte('{')
	for i, name := range names {
		m.text = append(jsonscan.AppendString(append(m.text, separator), name), ':')
		m.parts = append(m.parts, part{text: m.text, state: &tables[i]})
		m.text, separator = nil, ','
	}
	if len(names) == 0 {
		m.text = append(m.text, '{')
	}
	m.text = append(m.text, '}')
	return m
}

// Members adds the fields of an object that is encoded already, such as a
// struct by json.Marshal.
func (m *Message) Members(object []byte) *Message {
	if inner := bytes.TrimSpace(object[1 : len(object)-1]); len(inner) > 0 {
		m.comma()
		m.text = append(m.text, inner...)
	}
	return m
}

func (m *Message) comma() {
	if len(m.parts) > 0 || len(m.text) > 1 {
		m.text = append(m.text, ',')
	}
}

func (m *Message) key(key string) {
	m.comma()
	m.text = append(jsonscan.AppendString(m.text, key), ':')
}

// IfInvalid has the message end with further fields where a state turns out
// not to be JSON while it is sent: members of an object, encoded, without
// braces. Readers of JSON take the last of two fields with one name, so they
// can overrule fields before them. Without it such a message fails instead.
func (m *Message) IfInvalid(fields func(error) []byte) *Message {
	m.ifInvalid = fields
	return m
}

// Invalid returns why a state was cut off when the message was last written;
// nil when it was whole.
func (m *Message) Invalid() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.invalid
}

// spare is how much longer a message becomes by completing a state at its
// deepest, and by the fields of IfInvalid.
const spare = 16 << 10

// Spare returns how many bytes more than Size the message may become.
func (m *Message) Spare() int64 {
	if m.ifInvalid == nil {
		return 0
	}
	return spare
}

// Size returns the message's length in bytes, exactly. States that go inline
// are not read for it, those that go into a string are, once: to count what
// has to be escaped. The answer is kept. Nothing is validated.
func (m *Message) Size() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	if m.size >= 0 {
		return m.size, nil
	}
	total := int64(len(m.text)) + 1
	for _, p := range m.parts {
		n, err := m.stateSize(p)
		if err != nil {
			return 0, err
		}
		total += int64(len(p.text)) + n
	}
	m.size = total
	return total, nil
}

func (m *Message) stateSize(p part) (int64, error) {
	if !p.asString {
		return document.Size(m.ledger, *p.state)
	}
	var count escapeCounter
	g := gears.Get().(*gear)
	defer gears.Put(g)
	w := g.writer(m.ledger, &count)
	w.Unchecked()
	if err := w.Table(*p.state); err != nil {
		return 0, err
	}
	return int64(count), w.Flush()
}

// WriteJSON implements phoenix.Payload.
func (m *Message) WriteJSON(w io.Writer) error {
	if m.err != nil {
		return m.err
	}
	var invalid error
	for _, p := range m.parts {
		if _, err := w.Write(p.text); err != nil {
			return err
		}
		bad, err := m.writeState(w, p)
		if err != nil {
			return err
		}
		if invalid == nil {
			invalid = bad
		}
	}
	end := append(m.text[:len(m.text):len(m.text)], '}')
	if invalid != nil {
		end = append(m.text[:len(m.text):len(m.text)], ',')
		end = append(append(end, m.ifInvalid(invalid)...), '}')
	}
	m.mu.Lock()
	m.invalid = invalid
	m.mu.Unlock()
	_, err := w.Write(end)
	return err
}

// writeState returns, apart from errors, why the state was cut off.
func (m *Message) writeState(w io.Writer, p part) (invalid, err error) {
	g := gears.Get().(*gear)
	defer gears.Put(g)
	out := w
	if p.asString {
		g.escaper.w, g.escaper.n = w, 0
		out = &g.escaper
	}
	doc := g.writer(m.ledger, out)
	if m.ifInvalid != nil {
		doc.Repair()
	}
	if err := doc.Table(*p.state); err != nil {
		return nil, err
	}
	if err := doc.Flush(); err != nil {
		return nil, err
	}
	if p.asString {
		if err := g.escaper.flush(); err != nil {
			return nil, err
		}
	}
	return doc.Repaired(), nil
}

// gear is the buffers that one message needs while it is written.
type gear struct {
	doc     *document.Writer
	escaper escaper
}

func (g *gear) writer(l *ledger.Ledger, out io.Writer) *document.Writer {
	if g.doc == nil {
		g.doc = document.NewWriter(l, out)
	}
	g.doc.Reset(l, out)
	return g.doc
}

var gears = sync.Pool{New: func() any { return &gear{escaper: escaper{buf: make([]byte, escapeBuffer)}} }}
