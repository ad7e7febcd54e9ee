package jsonscan

const (
	firstStride = 64
	maxMarks    = 4096
)

// Elements is a cursor over an array. Going forward scans each byte once in
// all; going back starts at the last of a bounded number of marks before the
// element. What it knows of the array is kept, so it must not be used on
// bytes that change.
type Elements struct {
	v      Value
	w      *walker
	next   int64 // index of the element that the walker comes to next
	last   Value // element next-1, where next > 0
	length int64 // -1 while it is not known
	marks  []int64
	stride int64 // marks[k] is the offset of element k*stride
}

// Elements returns a cursor over the array.
func (v Value) Elements() *Elements {
	return &Elements{v: v, length: -1, stride: firstStride}
}

// Len returns the number of elements; it scans to the end the first time.
// Errors: *KindError, and those of a scan.
func (e *Elements) Len() (int64, error) {
	for e.length < 0 {
		if err := e.advance(); err != nil {
			return 0, err
		}
	}
	return e.length, nil
}

// At returns element i, from 0; ok is false where there is none. Errors:
// *KindError, and those of a scan.
func (e *Elements) At(i int64) (element Value, ok bool, err error) {
	if i < 0 || e.length >= 0 && i >= e.length {
		return Value{}, false, nil
	}
	e.seek(i)
	for e.next <= i {
		if err := e.advance(); err != nil {
			return Value{}, false, err
		}
		if e.w == nil {
			return Value{}, false, nil
		}
	}
	return e.last, true, nil
}

// seek moves the walker to the nearest mark before element i, where that saves
// a scan.
func (e *Elements) seek(i int64) {
	k := min(i/e.stride, int64(len(e.marks))-1)
	forward := e.w != nil && e.next <= i+1
	if k < 0 || forward && e.next >= k*e.stride {
		return
	}
	w := e.v.src.walk(e.marks[k], e.v.end, 2)
	w.m.resumeArray(e.marks[k])
	e.w, e.next = w, k*e.stride
}

// advance goes to the start of the next element, or past the last one, where
// the length becomes known and the walker is given up.
func (e *Elements) advance() error {
	if e.w == nil {
		w, err := e.v.open("elements", Array)
		if err != nil {
			return err
		}
		e.w, e.next = w, 0
	}
	for {
		ev, err := e.w.next()
		if err != nil {
			e.w = nil
			return err
		}
		switch {
		case ev == evBegin:
			e.last = e.v.at(e.w)
			e.mark(e.last.off)
			e.next++
			return nil
		case ev == evEnd && e.w.m.depth == 0:
			e.length = e.next
			e.w = nil
			return nil
		}
	}
}

// mark remembers where element e.next starts. When there are too many marks,
// every second is dropped.
func (e *Elements) mark(off int64) {
	if e.next != int64(len(e.marks))*e.stride {
		return
	}
	if len(e.marks) == maxMarks {
		for k := range maxMarks / 2 {
			e.marks[k] = e.marks[2*k]
		}
		e.marks = e.marks[:maxMarks/2]
		e.stride *= 2
	}
	e.marks = append(e.marks, off)
}
