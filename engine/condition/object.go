package condition

import (
	"errors"
	"slices"

	"github.com/dop251/goja"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// memberSource is where a lazy object's members come from.
type memberSource interface {
	// keys returns the keys in order of the text.
	keys() ([]string, error)
	has(key string) (bool, error)
	// build returns the value of a key, or nil.
	build(key string) (goja.Value, error)
}

// stateMembers are the top-level keys.
type stateMembers struct{ view *view }

func (s stateMembers) keys() ([]string, error) { return s.view.state.Keys(), nil }

func (s stateMembers) has(key string) (bool, error) {
	_, ok := s.view.state.Row(key)
	return ok, nil
}

func (s stateMembers) build(key string) (goja.Value, error) {
	row, ok := s.view.state.Row(key)
	if !ok {
		return nil, nil
	}
	return s.view.row(row), nil
}

// jsonMembers are the members of an object in JSON. It is scanned once, unless
// it has more members than are listed: then at every question.
type jsonMembers struct {
	view  *view
	value jsonscan.Value
	list  []jsonscan.Member
	index map[string]int
	large *jsonscan.MembersError
	ready bool
}

func (s *jsonMembers) load() error {
	if s.ready {
		return nil
	}
	list, err := s.value.Members()
	if errors.As(err, &s.large) {
		s.ready = true
		return nil
	}
	if err != nil {
		return err
	}
	s.list, s.index = list, make(map[string]int, len(list))
	for i := range list {
		s.view.text += int64(len(list[i].Key))
		s.index[list[i].Key] = i
	}
	s.ready = true
	return nil
}

func (s *jsonMembers) keys() ([]string, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	if s.large != nil {
		return nil, &limitError{"members of an object", int64(s.large.Members), int64(s.large.Limit)}
	}
	keys := make([]string, len(s.list))
	for i := range keys {
		keys[i] = s.list[i].Key
	}
	return keys, nil
}

func (s *jsonMembers) find(key string) (jsonscan.Value, bool, error) {
	if err := s.load(); err != nil {
		return jsonscan.Value{}, false, err
	}
	if s.large != nil {
		return s.value.Member(key)
	}
	if i, ok := s.index[key]; ok {
		return s.value.Of(s.list[i]), true, nil
	}
	return jsonscan.Value{}, false, nil
}

func (s *jsonMembers) has(key string) (bool, error) {
	_, ok, err := s.find(key)
	return ok, err
}

func (s *jsonMembers) build(key string) (goja.Value, error) {
	value, ok, err := s.find(key)
	if !ok || err != nil {
		return nil, err
	}
	return s.view.build(value), nil
}

// object is a lazy JavaScript object: members of its source, and on top of
// them what the condition has changed.
type object struct {
	view   *view
	source memberSource
	known  map[string]goja.Value // built or set; nil where deleted
	added  []string              // keys set that the source does not have
}

func (o *object) Get(key string) goja.Value {
	if value, ok := o.known[key]; ok {
		return value
	}
	o.view.enter()
	defer o.view.leave()
	value, err := o.source.build(key)
	o.view.must(err)
	if value != nil {
		o.keep(key, value)
	}
	return value
}

func (o *object) keep(key string, value goja.Value) {
	if o.known == nil {
		o.known = map[string]goja.Value{}
	}
	o.known[key] = value
}

func (o *object) Has(key string) bool {
	if value, ok := o.known[key]; ok {
		return value != nil
	}
	o.view.enter()
	defer o.view.leave()
	ok, err := o.source.has(key)
	o.view.must(err)
	return ok
}

func (o *object) Set(key string, value goja.Value) bool {
	if !o.Has(key) {
		o.added = append(o.added, key)
	}
	o.view.changed = true
	o.keep(key, value)
	return true
}

func (o *object) Delete(key string) bool {
	if o.Has(key) {
		o.view.changed = true
		o.keep(key, nil)
		o.added = slices.DeleteFunc(o.added, func(k string) bool { return k == key })
	}
	return true
}

// Keys are in JavaScript's order: indices ascending, then the others as they
// came.
func (o *object) Keys() []string {
	o.view.enter()
	defer o.view.leave()
	keys, err := o.source.keys()
	o.view.must(err)
	type index struct {
		n   int64
		key string
	}
	var indices []index
	var names []string
	add := func(key string) {
		if n, ok := arrayIndex(key); ok {
			indices = append(indices, index{n, key})
		} else {
			names = append(names, key)
		}
	}
	for _, key := range keys {
		// One deleted, and perhaps set again, is no longer at its first place.
		if value, ok := o.known[key]; ok && value == nil || slices.Contains(o.added, key) {
			continue
		}
		add(key)
	}
	for _, key := range o.added {
		add(key)
	}
	slices.SortStableFunc(indices, func(a, b index) int { return int(a.n - b.n) })
	ordered := make([]string, 0, len(indices)+len(names))
	for _, i := range indices {
		ordered = append(ordered, i.key)
	}
	return append(ordered, names...)
}
