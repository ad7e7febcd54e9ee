package demand

// list is a queue whose elements carry their own links, so that any of them can
// be taken out at no cost.
type list[T any] struct{ head, tail *link[T] }

type link[T any] struct {
	prev, next *link[T]
	in         *list[T] // nil: in none
	of         T
}

func (l *list[T]) empty() bool { return l.head == nil }

// push appends an element that is in no list.
func (l *list[T]) push(e *link[T]) {
	e.prev, e.next, e.in = l.tail, nil, l
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.next = e
	}
	l.tail = e
}

// remove takes the element out of the list it is in, if it is in one.
func (e *link[T]) remove() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next, e.in = nil, nil, nil
}
