package jsonscan

import (
	"io"
	"math"
)

// Member is one member of an object, or with an empty Key a document that is
// no object.
type Member struct {
	Key    string // unescaped; a lone surrogate is U+FFFD
	Offset int64  // of the value's first byte in the document
	Length int64  // of the value in bytes, without white space around it
	Kind   Kind
}

// Document is the outline of a JSON document: what a state table is made of.
type Document struct {
	// Kind is Object, or the kind of a bare value.
	Kind Kind
	// Members are those of an object, in order, without duplicates: the last
	// value of a key at the place of its first. A bare value is one member
	// with an empty key.
	Members []Member
	// Size is the length of the document in bytes, white space included.
	Size int64
}

// Top validates a document and returns its outline. It keeps no reference to
// doc. Errors: *SyntaxError, *DepthError, *MembersError, *SizeError (a key),
// ErrEmpty, ErrBOM.
func Top(doc []byte, opts Options) (Document, error) {
	s := &source{mem: doc, opts: opts.withDefaults()}
	return s.outline(int64(len(doc)))
}

// TopReader is [Top] for a document that is read to its end through a bounded
// window. Errors: those of Top, and what the reader returned, wrapped.
func TopReader(r io.Reader, opts Options) (Document, error) {
	s := &source{stream: r, opts: opts.withDefaults()}
	return s.outline(math.MaxInt64)
}

func (s *source) outline(end int64) (Document, error) {
	w := s.walk(0, end, 2)
	kind, err := w.begin()
	if err != nil {
		return Document{}, err
	}
	doc := Document{Kind: kind}
	if kind == Object {
		doc.Members, err = w.members()
	} else {
		bare := Member{Offset: w.m.base - 1, Kind: kind}
		err = w.toEnd()
		bare.Length = w.m.base - bare.Offset
		doc.Members = []Member{bare}
	}
	if err == nil {
		_, err = w.next() // to the end of the document
	}
	if err != nil {
		return Document{}, err
	}
	doc.Size = w.m.base
	return doc, nil
}

// linearMembers is up to how many members looking through them all is cheaper
// than a map.
const linearMembers = 16

// members collects the members of the object whose start begin has found, and
// goes to its end.
func (w *walker) members() ([]Member, error) {
	var (
		list  []Member
		index map[string]int
		count int
		at    = -1
		limit = w.src.opts.MaxMembers
	)
	for {
		ev, err := w.next()
		if err != nil {
			return nil, err
		}
		switch ev {
		case evKey:
			if count++; count > limit {
				return nil, &MembersError{Offset: w.m.base - 1, Members: count, Limit: limit}
			}
		case evColon:
			key := w.keyText()
			at = -1
			if index != nil {
				if i, ok := index[key]; ok {
					at = i
				}
			} else {
				for i := range list {
					if list[i].Key == key {
						at = i
						break
					}
				}
			}
			if at >= 0 {
				break
			}
			at = len(list)
			list = append(list, Member{Key: key})
			if index != nil {
				index[key] = at
			} else if len(list) > linearMembers {
				index = make(map[string]int, 4*linearMembers)
				for i := range list {
					index[list[i].Key] = i
				}
			}
		case evBegin:
			list[at].Offset, list[at].Kind = w.m.base-1, w.m.kind
		case evEnd:
			if w.m.depth == 0 {
				return list, nil
			}
			list[at].Length = w.m.base - list[at].Offset
		}
	}
}
