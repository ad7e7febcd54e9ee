package engine

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// leafKeys returns the name of each leaf where several are shown as one object.
func leafKeys(leaves []Leaf) []string { return (&Result{Leaves: leaves}).Keys() }

// combine makes one state of the leaves of a call, as a run's final document
// would be: the state of the only leaf that has one, else an object with each
// one's under its step's id. No value is copied: each key is a rope of the
// leaf's values and of the little that stands between them. The caller holds
// the result; the leaves stay held as they were.
func (r *Run) combine(leaves []Leaf) (ipc.Table, error) {
	keys := leafKeys(leaves)
	var out ipc.Table
	var present []int
	for i := range leaves {
		if leaves[i].State.Kind != ipc.KindAbsent {
			present = append(present, i)
		}
	}
	switch len(present) {
	case 0:
		return out, nil
	case 1:
		out = leaves[present[0]].State
		return out, r.account.Retain(out)
	}
	out.Kind = ipc.KindObject
	for _, i := range present {
		row, err := r.rope(keys[i], leaves[i])
		if err != nil {
			r.account.Release(out)
			return ipc.Table{}, err
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

// rope returns a row whose value is the leaf's state as a document.
func (r *Run) rope(key string, l Leaf) (row ipc.Row, err error) {
	held := ipc.Table{Kind: ipc.KindObject}
	defer func() {
		if err != nil {
			r.account.Release(held)
		}
	}()
	add := func(spans []shm.Ref) {
		row.Spans = append(row.Spans, spans...)
		held.Rows = rows(row).Rows
	}
	glue := func(text string) error {
		piece, err := r.account.Write(key, shm.JSON, []byte(text))
		if err == nil {
			add(piece.Spans)
		}
		return err
	}
	row.Key = key
	separator := "{"
	if l.State.Kind == ipc.KindValue {
		separator = ""
	}
	for _, part := range l.State.Rows {
		if part.Encoding() != shm.JSON {
			return row, &StepError{Run: r.ID, Step: l.Step, Status: StatusFail, Name: "CallError",
				Message: fmt.Sprintf("the call ended at several steps, and key %q of step %q is %s, which cannot be part of the one document that is made of their states: call until \"step\", or let one step end the branch", part.Key, l.Step, part.Encoding())}
		}
		if l.State.Kind == ipc.KindObject {
			if err := glue(separator + document.Key(part.Key)); err != nil {
				return row, err
			}
			separator = ","
		}
		spans := slices.Clone(part.Spans)
		if err := r.account.Retain(rows(ipc.Row{Key: key, Spans: spans})); err != nil {
			return row, err
		}
		add(spans)
	}
	switch {
	case l.State.Kind == ipc.KindValue:
		return row, nil
	case len(l.State.Rows) == 0:
		return row, glue("{}")
	}
	return row, glue("}")
}
