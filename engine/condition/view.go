package condition

import (
	"errors"
	"sync"

	"github.com/dop251/goja"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// view is what one evaluation sees of the state.
type view struct {
	state  State
	limits Limits
	stats  jsonscan.Stats
	values int64
	text   int64 // bytes built
	stop   func() error

	// rt is nil in the small evaluator.
	rt *goja.Runtime
	// changed says that the condition has changed the state: from then on
	// nothing built is forgotten.
	changed bool
	err     error // why the evaluation was given up

	// mu is held while the state is read and while gone is set, so that
	// nothing reads the state after Eval has returned.
	mu   sync.Mutex
	gone bool
}

var errGone = errors.New("the evaluation has ended")

// open returns a row's value.
func (v *view) open(row Row) jsonscan.Value {
	return jsonscan.Open(row.Data, row.Size, jsonscan.Options{
		MaxMembers: v.limits.Items,
		MaxText:    v.limits.Text,
		Check:      v.stop,
		Stats:      &v.stats,
	})
}

// limitError is a LimitError that does not know its condition yet.
type limitError struct {
	what        string
	size, limit int64
}

func (e *limitError) Error() string { return e.what }

// built counts a value with so many bytes of text.
func (v *view) built(text int) error {
	v.values++
	if v.text += int64(text); v.text > v.limits.Text {
		return &limitError{"bytes of text from the state", v.text, v.limits.Text}
	}
	return nil
}

// enter must be called before the state is read for JavaScript, and leave
// after it.
func (v *view) enter() {
	v.mu.Lock()
	if v.gone {
		v.mu.Unlock()
		v.giveUp(errGone)
	}
}

func (v *view) leave() { v.mu.Unlock() }

// giveUp ends the evaluation. The interrupt cannot be caught by JavaScript, as
// the exception could be.
func (v *view) giveUp(err error) {
	if v.err == nil {
		v.err = err
	}
	v.rt.Interrupt(err)
	panic(v.rt.NewGoError(err))
}

// must gives up on an error.
func (v *view) must(err error) {
	if err != nil {
		v.giveUp(err)
	}
}

// root returns the state for JavaScript.
func (v *view) root() goja.Value {
	switch v.state.Kind() {
	case Absent:
		return goja.Undefined()
	case Object:
		v.values++
		return v.rt.NewDynamicObject(&object{view: v, source: stateMembers{v}})
	}
	if row, ok := v.state.Row(""); ok {
		return v.row(row)
	}
	return goja.Undefined()
}

// row builds the value of a top-level key.
func (v *view) row(row Row) goja.Value {
	if !row.isJSON() {
		v.values++
		return v.opaque(row)
	}
	return v.build(v.open(row))
}

// build builds a scalar, or a lazy object or array.
func (v *view) build(value jsonscan.Value) goja.Value {
	kind, err := value.Kind()
	v.must(err)
	s := ""
	switch kind {
	case jsonscan.Object, jsonscan.Array:
	default:
		s, err = value.Text()
		v.must(err)
	}
	v.must(v.built(len(s)))
	switch kind {
	case jsonscan.Object:
		return v.rt.NewDynamicObject(&object{view: v, source: &jsonMembers{view: v, value: value}})
	case jsonscan.Array:
		return v.rt.NewDynamicArray(&array{view: v, elements: value.Elements()})
	case jsonscan.String:
		return v.rt.ToValue(s)
	case jsonscan.Number:
		return v.rt.ToValue(parseNumber(s))
	case jsonscan.Null:
		return goja.Null()
	}
	return v.rt.ToValue(kind == jsonscan.True)
}

// opaque is a value that is not JSON.
func (v *view) opaque(row Row) goja.Value {
	shown := v.rt.ToValue("[" + row.Encoding + "]")
	show := v.rt.ToValue(func(goja.FunctionCall) goja.Value { return shown })
	proto := v.rt.NewObject()
	_ = proto.DefineDataProperty("toString", show, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = proto.DefineDataProperty("toJSON", show, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	o := v.rt.CreateObject(proto)
	_ = o.Set("encoding", row.Encoding)
	_ = o.Set("length", row.Size)
	return o
}
