package jsonscan

import (
	"io"
	"math"
)

// Value is one JSON value in a reader or in memory. It holds a place, not the
// value: each question scans the bytes it needs to answer, once. It and all
// values derived from it are for one goroutine at a time, and are valid as
// long as what they read is.
type Value struct {
	src  *source
	off  int64
	end  int64 // the value ends here or before
	kind Kind  // 0 where it is not known yet
}

// Open returns the value in the first size bytes of r. Nothing is read yet.
func Open(r io.ReaderAt, size int64, opts Options) Value {
	return Value{src: &source{at: r, opts: opts.withDefaults()}, end: size}
}

// Of returns the value in doc, which must not change while it is in use.
func Of(doc []byte, opts Options) Value {
	return Value{src: &source{mem: doc, opts: opts.withDefaults()}, end: int64(len(doc))}
}

// Offset returns where in its reader the value starts; for a value from Open
// or Of, white space may come first.
func (v Value) Offset() int64 { return v.off }

// Kind returns the value's kind, from its first byte.
func (v Value) Kind() (Kind, error) {
	if v.kind != 0 {
		return v.kind, nil
	}
	return v.src.walk(v.off, v.end, 1).begin()
}

// open starts a scan of a value of the kind wanted.
func (v Value) open(op string, want Kind) (*walker, error) {
	w := v.src.walk(v.off, v.end, 2)
	kind, err := w.begin()
	if err == nil && kind != want {
		err = &KindError{Op: op, Kind: kind}
	}
	return w, err
}

// at returns the value that w has just begun.
func (v Value) at(w *walker) Value {
	return Value{src: v.src, off: w.m.base - 1, end: v.end, kind: w.m.kind}
}

// Member returns the object's member with the key, the last of several. It
// scans the whole object. Errors: *KindError, and those of a scan.
func (v Value) Member(key string) (member Value, ok bool, err error) {
	w, err := v.open("member", Object)
	if err != nil {
		return Value{}, false, err
	}
	for hit := false; ; {
		ev, err := w.next()
		switch {
		case err != nil:
			return Value{}, false, err
		case ev == evColon:
			hit = w.keyIs(key)
		case ev == evBegin && hit:
			member, ok = v.at(w), true
		case ev == evEnd && w.m.depth == 0:
			return member, ok, nil
		}
	}
}

// Members returns the object's members in order, see [Document]. Offsets are
// those in the reader. Errors: *KindError, *MembersError, *SizeError, and
// those of a scan.
func (v Value) Members() ([]Member, error) {
	w, err := v.open("members", Object)
	if err != nil {
		return nil, err
	}
	return w.members()
}

// Keys returns the object's keys in order, without duplicates.
func (v Value) Keys() ([]string, error) {
	members, err := v.Members()
	keys := make([]string, len(members))
	for i := range members {
		keys[i] = members[i].Key
	}
	return keys, err
}

// Of returns the value of a member that v.Members returned.
func (v Value) Of(m Member) Value {
	return Value{src: v.src, off: m.Offset, end: m.Offset + m.Length, kind: m.Kind}
}

// Len returns the number of the array's elements. It scans the whole array.
func (v Value) Len() (int64, error) {
	e := v.Elements()
	return e.Len()
}

// Index returns the array's element i, from 0; ok is false past its end. It
// scans up to the start of the element.
func (v Value) Index(i int64) (element Value, ok bool, err error) {
	e := v.Elements()
	return e.At(i)
}

// Text returns a scalar's text: a string unescaped, any other as it is
// written. Errors: *KindError for an array or object, *SizeError past
// Options.MaxText, and those of a scan.
func (v Value) Text() (string, error) {
	w := v.src.walk(v.off, v.end, 1)
	kind, err := w.begin()
	if err != nil {
		return "", err
	}
	if kind == Object || kind == Array {
		return "", &KindError{Op: "text", Kind: kind}
	}
	w.startCapture()
	if err := w.toEnd(); err != nil {
		return "", err
	}
	if kind == String {
		w.text = w.text[1:]
		w.text = w.text[:len(w.text)-1]
		return w.keyText(), nil
	}
	return string(w.text), nil
}

// Raw returns a copy of the value's bytes, without white space around them,
// validated. Errors: *SizeError for more than limit bytes (0 or less means no
// limit), and those of a scan.
func (v Value) Raw(limit int64) ([]byte, error) {
	w := v.src.walk(v.off, v.end, 1)
	if _, err := w.begin(); err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = math.MaxInt64
	}
	w.limit = limit
	w.startCapture()
	err := w.toEnd()
	return w.text, err
}

// Size returns the value's length in bytes, without white space around it.
// Errors: those of a scan.
func (v Value) Size() (int64, error) {
	w := v.src.walk(v.off, v.end, 1)
	if _, err := w.begin(); err != nil {
		return 0, err
	}
	start := w.m.base - 1
	err := w.toEnd()
	return w.m.base - start, err
}
