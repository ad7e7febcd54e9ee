package condition

import "io"

// Kind says what a state is.
type Kind uint8

const (
	// Absent is no state: the step returned nothing. It is undefined.
	Absent Kind = iota
	// Object is an object: a row for each top-level key.
	Object
	// Value is a bare document that is not an object: the row with key "".
	Value
)

// State is what an evaluation reads. It is asked only for what the condition
// uses, by one goroutine at a time, and not after Eval has returned.
type State interface {
	Kind() Kind
	// Keys returns an Object's top-level keys in order. It is not changed.
	Keys() []string
	// Row returns the value of a key; ok is false where there is none.
	Row(key string) (row Row, ok bool)
}

// Row is the value of one top-level key.
type Row struct {
	// Encoding is "" or "json" where Data is JSON text; any other is the name
	// of an encoding that a condition cannot look into.
	Encoding string
	// Data holds Size bytes of JSON text. It is not used for other encodings.
	Data io.ReaderAt
	Size int64
}

func (r Row) isJSON() bool { return r.Encoding == "" || r.Encoding == "json" }

// Upstream is the step whose state and outgoing edge a condition is about.
type Upstream struct {
	// StepID is upstreamStepId in the condition.
	StepID string
}

// Stats counts what an evaluation has cost.
type Stats struct {
	Values  int64 // scalars, objects and arrays built
	Scanned int64 // bytes of JSON scanned
	Read    int64 // bytes read from rows
	Runtime bool  // a JavaScript runtime was needed
}
