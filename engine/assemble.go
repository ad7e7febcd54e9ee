package engine

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/plan"
	"github.com/millrace/millrace/ipc"
)

// assemble makes a step's input of the state that reached it, as OpenFn does:
// the step's default state below it, `data` merged with the default's, and
// `configuration` merged from the workflow's credentials, the state's own and
// the step's. added holds what was made for it, for the caller to release once
// the step has run; the rest stays held through state.
func (r *Run) assemble(step *plan.Step, state ipc.Table) (input, added ipc.Table, err error) {
	s, p := r.store, r.program.plan
	configuration, err := r.configuration(step)
	if err != nil {
		return ipc.Table{}, ipc.Table{}, err
	}
	if step.State == nil && configuration == nil && p.Credentials == nil {
		return state, ipc.Table{}, nil
	}
	if state.Kind == ipc.KindValue {
		return state, ipc.Table{}, nil // nothing can be put below what is no object
	}
	added = ipc.Table{Kind: ipc.KindObject}
	fail := func(err error) (ipc.Table, ipc.Table, error) {
		s.Account.Release(added)
		return ipc.Table{}, ipc.Table{}, err
	}
	defaults := ipc.Table{Kind: ipc.KindObject}
	if step.State != nil {
		if defaults, err = s.ReadObject(step.State); err != nil {
			return fail(err)
		}
		added.Rows = append(added.Rows, defaults.Rows...)
	}
	input = ipc.Table{Kind: ipc.KindObject, Rows: slices.Clone(defaults.Rows)}
	for _, row := range state.Rows {
		input = input.With(row)
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
	if below, ok := defaults.Get("data"); ok {
		if above, ok := state.Get("data"); ok {
			if err := put("data", &below, &above); err != nil {
				return fail(err)
			}
		}
	}
	if configuration == nil && p.Credentials == nil {
		return input, added, nil
	}
	credentials, err := writeJSON(s, &added, p.Credentials)
	if err != nil {
		return fail(err)
	}
	own, err := writeJSON(s, &added, configuration)
	if err != nil {
		return fail(err)
	}
	var inherited *ipc.Row
	if row, ok := input.Get("configuration"); ok {
		inherited = &row
	}
	if err := put("configuration", credentials, inherited, own); err != nil {
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
