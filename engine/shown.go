package engine

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// StreamInputError is an input in which the items of a stream are missing: it
// was written when they went past.
type StreamInputError struct{ Key string }

// Error implements error.
func (e *StreamInputError) Error() string {
	return fmt.Sprintf(`state.%s is "[stream]": it stood for items that passed from one step to another and were not kept, so this state cannot be an input; start at the step that makes the items, or have them put into the state`, e.Key)
}

// streamRows returns the rows of a table that stand for live streams.
func streamRows(t ipc.Table) []ipc.Row {
	var live []ipc.Row
	for i := range t.Rows {
		if isStream(&t.Rows[i]) {
			live = append(live, t.Rows[i])
		}
	}
	return live
}

func isStream(row *ipc.Row) bool { return row.Spans[0].Flags&shm.FlagStream != 0 }

// settled is a state as it shows outside of the run: each live stream is the
// text "[stream]", and streams are their keys. Nothing is held for it but what
// the state and the run hold.
func (r *Run) settled(state ipc.Table) (shown ipc.Table, streams []string, err error) {
	if len(streamRows(state)) == 0 {
		return state, nil, nil
	}
	text, err := r.streamText()
	if err != nil {
		return ipc.Table{}, nil, err
	}
	state.Rows = slices.Clone(state.Rows)
	for i := range state.Rows {
		if isStream(&state.Rows[i]) {
			state.Rows[i].Spans = text.Spans
			streams = append(streams, state.Rows[i].Key)
		}
	}
	return state, streams, nil
}

// checkInput refuses a state in which a stream once was: its items are not
// there.
func (r *Run) checkInput(state ipc.Table) error {
	for _, row := range state.Rows {
		if row.Encoding() != shm.JSON || row.Size() != uint64(len(ledger.StreamText)) {
			continue
		}
		text, err := r.text(row)
		if err != nil {
			return err
		}
		if string(text) == ledger.StreamText {
			return &StreamInputError{Key: row.Key}
		}
	}
	return nil
}
