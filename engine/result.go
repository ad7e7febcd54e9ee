package engine

import (
	"fmt"
	"io"
	"strconv"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
)

// Result is how a run ended. It is valid until the run is closed.
type Result struct {
	// Status of the run, and Err why it is not success: a *StepError.
	Status Status
	Err    error
	// Leaves are the states at the ends of the branches, in the order of the
	// plan's steps.
	Leaves []Leaf

	run *Run
}

// Ledger returns what reads the rows of the leaves' states.
func (r *Result) Ledger() *ledger.Ledger { return r.run.engine.ledger }

// WriteDocument writes the final state as one JSON document and a newline: the
// state of the only leaf that has one, or, where there are several, an object
// with each leaf's state under its step's id (id-1, id-2, … for a step reached
// more than once); null when there is none. It fails with a *document.ValueError when a step
// published something that is not JSON.
func (r *Result) WriteDocument(w io.Writer) error {
	out := document.NewWriter(r.run.engine.ledger, w)
	if err := r.write(out); err != nil {
		return err
	}
	if err := out.Text("\n"); err != nil {
		return err
	}
	return out.Flush()
}

func (r *Result) write(out *document.Writer) error {
	keys := r.Keys()
	var present []int
	for i := range r.Leaves {
		if r.Leaves[i].State.Kind != ipc.KindAbsent {
			present = append(present, i)
		}
	}
	switch len(present) {
	case 0:
		return out.Text("null")
	case 1:
		return out.Table(r.Leaves[present[0]].State)
	}
	separator := "{"
	for _, i := range present {
		if err := out.Text(separator + document.Key(keys[i])); err != nil {
			return err
		}
		if err := out.Table(r.Leaves[i].State); err != nil {
			return err
		}
		separator = ","
	}
	return out.Text("}")
}

// Keys returns the name of each leaf in the final document.
func (r *Result) Keys() []string {
	keys := make([]string, len(r.Leaves))
	seen := make(map[string]int)
	for i, l := range r.Leaves {
		keys[i] = l.Step
		if n := seen[l.Step]; n > 0 {
			keys[i] += "-" + strconv.Itoa(n)
		}
		seen[l.Step]++
	}
	return keys
}

// WriteKey writes the value of one top-level key of the only leaf as it is: an
// Arrow key as an Arrow stream, a JSON key as JSON.
func (r *Result) WriteKey(w io.Writer, key string) error {
	if len(r.Leaves) != 1 {
		return fmt.Errorf("the run has %d final states, so no key %q of its own", len(r.Leaves), key)
	}
	row, ok := r.Leaves[0].State.Get(key)
	if !ok {
		return fmt.Errorf("the final state has no key %q", key)
	}
	out := document.NewWriter(r.run.engine.ledger, w)
	if err := out.Bytes(row); err != nil {
		return err
	}
	return out.Flush()
}
