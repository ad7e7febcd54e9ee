package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

// assemble makes a step's input of the state that reached it, as OpenFn does:
// the step's default state below it, `data` merged with the default's, and
// `configuration` merged from the workflow's credentials, the state's own and
// the step's. An OpenFn expression finds both in every state, `{}` at least,
// whatever it was given. added holds what was made for it, for the caller to
// release once the step has run; the rest stays held through state.
func (r *Run) assemble(step *plan.Step, state ipc.Table) (input, added ipc.Table, err error) {
	s, credentials := r.store, r.program.plan.Credentials
	configuration, err := r.configuration(step)
	if err != nil {
		return ipc.Table{}, ipc.Table{}, err
	}
	isJob := step.Expression != nil
	if !isJob && step.State == nil && configuration == nil && credentials == nil {
		return state, ipc.Table{}, nil
	}
	if state.Kind == ipc.KindValue {
		if !isJob {
			return state, ipc.Table{}, nil // nothing can be put below what is no object
		}
		if state, err = r.spread(state); err != nil {
			return ipc.Table{}, ipc.Table{}, err
		}
	}
	added = ipc.Table{Kind: ipc.KindObject}
	fail := func(err error) (ipc.Table, ipc.Table, error) {
		s.Account.Release(added)
		return ipc.Table{}, ipc.Table{}, err
	}
	input = ipc.Table{Kind: ipc.KindObject, Rows: state.Rows}
	defaults := ipc.Table{Kind: ipc.KindObject}
	if step.State != nil {
		if defaults, err = s.ReadObject(step.State); err != nil {
			return fail(err)
		}
		added.Rows = append(added.Rows, defaults.Rows...)
		input.Rows = slices.Clone(defaults.Rows)
		for _, row := range state.Rows {
			input = input.With(row)
		}
	}
	put := func(key string, objects ...*ipc.Row) error {
		row, err := merge(s, key, objects)
		if err != nil {
			return err
		}
		added.Rows = append(added.Rows, row)
		input = input.With(row)
		return nil
	}
	below, hasBelow := defaults.Get("data")
	above, hasAbove := state.Get("data")
	switch {
	case isJob && (!hasAbove || r.isFalsy(above)):
		if !hasBelow || r.isFalsy(below) {
			if below, err = r.empty(); err != nil {
				return fail(err)
			}
		}
		input = input.With(ipc.Row{Key: "data", Spans: below.Spans})
	case hasBelow && hasAbove:
		if err := put("data", &below, &above); err != nil {
			return fail(err)
		}
	}
	inherited, hasInherited := input.Get("configuration")
	if configuration == nil && credentials == nil {
		if isJob && !hasInherited {
			none, err := r.empty()
			if err != nil {
				return fail(err)
			}
			input = input.With(ipc.Row{Key: "configuration", Spans: none.Spans})
		}
		return input, added, nil
	}
	shared, err := writeJSON(s, &added, credentials)
	if err != nil {
		return fail(err)
	}
	own, err := writeJSON(s, &added, configuration)
	if err != nil {
		return fail(err)
	}
	objects := []*ipc.Row{shared, nil, own}
	if hasInherited {
		objects[1] = &inherited
	}
	if err := put("configuration", objects...); err != nil {
		return fail(err)
	}
	return input, added, nil
}

// configuration returns the step's own configuration, its credential resolved.
func (r *Run) configuration(step *plan.Step) (json.RawMessage, error) {
	fail := func(name, format string, args ...any) error {
		return &StepError{Run: r.ID, Step: step.ID, Status: StatusException, Name: name, Message: fmt.Sprintf(format, args...)}
	}
	if step.StateID != "" {
		return nil, fail("DataClipError", "its default state is the id of a stored one (%s), and this engine stores none: give an object", step.StateID)
	}
	if step.Credential == "" {
		return step.Configuration, nil
	}
	if r.options.Credential == nil {
		return nil, fail("CredentialLoadError", "its configuration is the id of a credential (%s), and this run was given no credentials", step.Credential)
	}
	configuration, err := r.options.Credential(step.Credential)
	if err != nil {
		return nil, fail("CredentialLoadError", "credential %s: %v", step.Credential, err)
	}
	return configuration, nil
}

// spread makes an object of a state that is none, as JavaScript's spread does:
// of an array its elements by index, of anything else nothing. The rows refer
// into the state's.
func (r *Run) spread(state ipc.Table) (ipc.Table, error) {
	object := ipc.Table{Kind: ipc.KindObject}
	row := state.Rows[0]
	if row.Encoding() != shm.JSON {
		return object, nil
	}
	v, err := r.engine.ledger.Value(row)
	if err != nil {
		return object, err
	}
	doc := jsonscan.Open(v, v.Size(), jsonscan.Options{})
	if kind, err := doc.Kind(); err != nil || kind != jsonscan.Array {
		return object, err
	}
	elements := doc.Elements()
	for i := int64(0); ; i++ {
		element, ok, err := elements.At(i)
		if err != nil || !ok {
			return object, err
		}
		length, err := element.Size()
		if err != nil {
			return object, err
		}
		object.Rows = append(object.Rows, ipc.Row{
			Key: strconv.FormatInt(i, 10), Spans: slice(row.Spans, uint64(element.Offset()), uint64(length)),
		})
	}
}

// isFalsy reports whether a row is null, false, 0 or "" to JavaScript. Long
// ones are not read.
func (r *Run) isFalsy(row ipc.Row) bool {
	if row.Encoding() != shm.JSON || row.Size() > ipc.LongestNone {
		return false
	}
	text, err := r.text(row)
	if err != nil {
		return false // the step that reads it will say so
	}
	switch s := string(bytes.TrimSpace(text)); s {
	case "null", "false", `""`:
		return true
	default:
		n, err := strconv.ParseFloat(s, 64)
		return err == nil && n == 0
	}
}

// text returns all of a value that is known to be short.
func (r *Run) text(row ipc.Row) ([]byte, error) {
	v, err := r.engine.ledger.Value(row)
	if err != nil {
		return nil, err
	}
	text := make([]byte, v.Size())
	_, err = v.ReadAt(text, 0)
	return text, err
}

// writeJSON writes a small document of the plan's into shared memory, held
// through added; nil for none.
func writeJSON(s document.Store, added *ipc.Table, doc json.RawMessage) (*ipc.Row, error) {
	if doc == nil {
		return nil, nil
	}
	row, err := s.WriteJSON(doc)
	if err != nil {
		return nil, err
	}
	added.Rows = append(added.Rows, row)
	return &row, nil
}

// recordError returns the state with the error under errors[step], and holds
// what is new in it. The old record is not decoded: the new one is a rope of
// its members and the error.
func recordError(s document.Store, state ipc.Table, e *StepError) (ipc.Table, error) {
	if state.Kind != ipc.KindObject {
		state = ipc.Table{Kind: ipc.KindObject} // an error needs an object to be recorded in
	}
	entry, err := json.Marshal(map[string]json.RawMessage{e.Step: e.record()})
	if err != nil {
		return ipc.Table{}, err
	}
	row, err := s.WriteJSON(entry)
	if err != nil {
		return ipc.Table{}, err
	}
	defer s.Account.Release(rows(row))
	var before *ipc.Row
	if old, ok := state.Get("errors"); ok {
		before = &old
	}
	merged, err := merge(s, "errors", []*ipc.Row{before, &row})
	if err != nil {
		// What was there is no JSON: the error of now replaces it.
		if merged, err = merge(s, "errors", []*ipc.Row{&row}); err != nil {
			return ipc.Table{}, err
		}
	}
	kept := state.Without("errors")
	if err := s.Account.Retain(kept); err != nil {
		s.Account.Release(rows(merged))
		return ipc.Table{}, err
	}
	return state.With(merged), nil
}
