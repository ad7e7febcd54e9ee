package standin

import (
	"encoding/json"
	"fmt"
	"io"
)

// message is a received V2 frame: [join_ref, ref, topic, event, payload].
type message struct {
	joinRef, ref *string
	topic, event string
	fields       map[string]json.RawMessage // of the payload; nil where it is no object
	payload      json.RawMessage            // where it is no object
	clips        map[string]*clipReader     // members that were too large to keep, or may be
	sum          uint32                     // of the payload's text
	size         int64                      // of the message's text
}

// clipFields are the members that hold a state.
var clipFields = map[string]bool{"output_dataclip": true, "final_state": true}

// readMessage reads a frame to its end. keep says whether states are held.
// Errors: *notJSONError where the frame is not what it must be; what the reader
// returned.
func readMessage(r io.Reader, tap func([]byte), keep bool) (*message, error) {
	s := newScanner(r, tap)
	m := &message{}
	if err := m.envelope(s); err != nil {
		return nil, err
	}
	s.sum = 0
	if err := m.body(s, keep); err != nil {
		return nil, err
	}
	m.sum = s.sum
	if err := s.expect(']'); err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	m.size = s.read
	return m, nil
}

func (m *message) envelope(s *scanner) error {
	if err := s.expect('['); err != nil {
		return err
	}
	for _, part := range []any{&m.joinRef, &m.ref, &m.topic, &m.event} {
		text, err := s.kept()
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, part); err != nil {
			return &notJSONError{fmt.Errorf("the frame's head: %w", err)}
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
	return nil
}

func (m *message) body(s *scanner, keep bool) error {
	first, err := s.next()
	if err != nil {
		return err
	}
	if first != '{' {
		m.payload, err = s.kept()
		return err
	}
	m.fields, m.clips = make(map[string]json.RawMessage), make(map[string]*clipReader)
	if err := s.take(1); err != nil {
		return err
	}
	if c, err := s.next(); err != nil || c == '}' {
		return firstOf(err, func() error { return s.take(1) })
	}
	for {
		if err := m.member(s, keep); err != nil {
			return err
		}
		c, err := s.next()
		if err != nil {
			return err
		}
		if err := s.take(1); err != nil {
			return err
		}
		switch c {
		case '}':
			return nil
		case ',':
		default:
			return &notJSONError{fmt.Errorf("%q after a member of the payload, at byte %d", c, s.read)}
		}
	}
}

func (m *message) member(s *scanner, keep bool) error {
	text, err := s.kept()
	if err != nil {
		return err
	}
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return &notJSONError{fmt.Errorf("a member's name: %w", err)}
	}
	if err := s.expect(':'); err != nil {
		return err
	}
	if m.fields[name] != nil || m.clips[name] != nil {
		return &notJSONError{fmt.Errorf("the payload has %q twice", name)}
	}
	if clipFields[name] {
		c := &clipReader{keep: keep}
		m.clips[name] = c
		return s.value(c.write)
	}
	m.fields[name], err = s.kept()
	return err
}

func firstOf(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}
