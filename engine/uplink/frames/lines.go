package frames

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/uplink/payload"
	"github.com/millrace/millrace/ipc"
)

// lines writes events as lines of JSON: the fields of Meta but for states,
// "streams" with the keys of those that a state shows as "[stream]", then
// "state". Where a run ends in several leaves it is "states", and both are by
// leaf.
type lines struct {
	w   io.Writer
	err error
}

func newLines(w io.Writer) *lines { return &lines{w: w} }

func (w *lines) write(m Meta, l *ledger.Ledger, tables []ipc.Table) error {
	if w.err != nil {
		return w.err
	}
	leaves := m.States
	m.States = nil
	meta, err := json.Marshal(struct {
		*Meta
		Streams any `json:"streams,omitempty"`
	}{&m, streamsOf(leaves)})
	if err != nil {
		return err
	}
	line := payload.New(l).Members(meta)
	switch {
	case len(tables) == 1:
		line.State("state", tables[0], false)
	case len(tables) > 1:
		names := make([]string, len(tables))
		for i := range names {
			names[i] = leaves[i].Leaf
		}
		line.States("states", names, tables)
	}
	line.IfInvalid(func(err error) []byte {
		text, _ := json.Marshal(err.Error()) // of a string, never fails
		return append([]byte(`"state_error":`), text...)
	})
	out := &oneLine{w: w.w}
	err = line.WriteJSON(out)
	if err == nil {
		_, err = w.w.Write([]byte{'\n'})
	}
	if err != nil {
		w.err = fmt.Errorf("the uplink is broken: %w", err)
	}
	return w.err
}

// streamsOf returns the streams' keys of a state or, by leaf, of several; nil
// when there are none.
func streamsOf(states []State) any {
	byLeaf := make(map[string][]string)
	for _, s := range states {
		if len(s.Streams) > 0 {
			byLeaf[s.Leaf] = s.Streams
		}
	}
	switch {
	case len(byLeaf) == 0:
		return nil
	case len(states) == 1:
		return states[0].Streams
	}
	return byLeaf
}

// oneLine turns line breaks, which in JSON are white space between tokens,
// into spaces.
type oneLine struct {
	w   io.Writer
	buf []byte
}

// Write implements io.Writer.
func (o *oneLine) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, '\n') < 0 && bytes.IndexByte(p, '\r') < 0 {
		return o.w.Write(p)
	}
	total := len(p)
	for len(p) > 0 {
		o.buf = append(o.buf[:0], p[:min(len(p), 32<<10)]...)
		p = p[len(o.buf):]
		for i, c := range o.buf {
			if c == '\n' || c == '\r' {
				o.buf[i] = ' '
			}
		}
		if _, err := o.w.Write(o.buf); err != nil {
			return total - len(p), err
		}
	}
	return total, nil
}
