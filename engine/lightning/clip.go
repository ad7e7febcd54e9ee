package lightning

import (
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/uplink/payload"
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

// stateOf is the content of a step's output. A step without one has {}, as in the
// reference.
func stateOf(s *engine.State) *states {
	if s == nil {
		return &states{tables: []ipc.Table{{Kind: ipc.KindObject}}}
	}
	return &states{ledger: s.Ledger(), tables: []ipc.Table{visible(s.Table())}}
}

// visible is a state as Lightning sees it: none is {}.
func visible(t ipc.Table) ipc.Table {
	if t.Kind == ipc.KindAbsent {
		t.Kind = ipc.KindObject
	}
	return t
}

// put adds the content to a message.
func (s *states) put(m *payload.Message, key string, asText bool) {
	if s.names != nil {
		m.States(key, s.names, s.tables)
		return
	}
	m.State(key, s.tables[0], asText)
}

// size returns how many bytes of a message the content is.
func (s *states) size(asText bool) (int64, error) {
	const key = "x"
	m := payload.New(s.ledger)
	s.put(m, key, asText)
	n, err := m.Size()
	return n - int64(len(`{"":}`)+len(key)), err
}

// fit chooses how the content is written so that it is within a limit in bytes; ok
// is false where it cannot be. It reads the content only where its length alone
// does not decide.
func (s *states) fit(limit int64, e Encoding) (asText, ok bool, err error) {
	if limit <= 0 {
		return e != EncodingObject, true, nil
	}
	plain, err := s.size(false)
	if err != nil || plain > limit { // as text it is longer still
		return false, false, err
	}
	if e == EncodingObject {
		return false, true, nil
	}
	const longest = len(`\u0000`) // that a byte can become
	if plain <= (limit-2)/int64(longest) {
		return true, true, nil
	}
	text, err := s.size(true)
	if err != nil {
		return false, false, err
	}
	if text <= limit {
		return true, true, nil
	}
	return false, e == EncodingAuto, nil
}

// withFields adds the members of an encoded object to a message.
func withFields(m *payload.Message, object any) *payload.Message {
	for _, f := range membersOf(encode(object)) {
		m.Raw(f.key, f.value)
	}
	return m
}
