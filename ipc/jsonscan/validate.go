package jsonscan

// Validator checks one document that comes in chunks, cut anywhere. Its zero
// value is ready, with DefaultMaxDepth. It keeps no reference to a chunk, and
// after an error every call returns that error.
type Validator struct {
	m machine
}

// NewValidator returns a Validator with a limit on nesting; 0 or less means
// DefaultMaxDepth.
func NewValidator(maxDepth int) *Validator {
	return &Validator{m: machine{maxDepth: maxDepth}}
}

// Feed checks the next chunk. A nil error means that the bytes so far may be
// the start of a valid document. Errors: *SyntaxError, *DepthError, ErrBOM.
func (v *Validator) Feed(chunk []byte) error {
	v.m.step(chunk)
	return v.m.err
}

// Finish says whether the bytes fed are a whole valid document. Errors: those
// of Feed, and ErrEmpty.
func (v *Validator) Finish() error {
	_, err := v.m.finish()
	return err
}

// Offset returns the number of bytes accepted so far.
func (v *Validator) Offset() int64 { return v.m.base }

// Reset makes the validator ready for another document.
func (v *Validator) Reset() { v.m.reset(0) }

// Validate checks a whole document in memory, with DefaultMaxDepth.
func Validate(doc []byte) error {
	var v Validator
	if err := v.Feed(doc); err != nil {
		return err
	}
	return v.Finish()
}
