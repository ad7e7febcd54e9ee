package worker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// Kind says what a state is.
type Kind = ipc.Kind

// The kinds of state. A bare value is under the key "".
const (
	Absent = ipc.KindAbsent
	Object = ipc.KindObject
	Value  = ipc.KindValue
)

// Encoding says how the bytes of a key are to be read.
type Encoding = shm.Encoding

// The encodings of a key.
const (
	JSON        = shm.JSON
	ArrowStream = shm.ArrowStream
	Raw         = shm.Raw
)

// indexFrom is from how many rows on a map finds keys.
const indexFrom = 16

// State is what a step receives and makes, and what it calls other steps with:
// an ordered table of keys whose values stay where they were written. A key
// that is not touched is passed on unread. Its methods may be called from
// several goroutines, but not after the function has returned.
type State struct {
	step *step
	mu   *sync.Mutex // the step's

	table ipc.Table          // rows without spans were deleted
	live  int                // rows that were not
	held  []holds            // by row; nil: all inherited
	index map[string]int     // made when there are many rows
	whole map[int][]byte     // by row: ropes that were gathered
	ropes map[int]*rope      // by row: arrays that are appended to
	open  map[*KeyWriter]int // not closed yet

	source *call // a call's result: what its rows are of
	spent  bool  // a call has used it up
	handed bool  // it was handed over with a stream
}

var (
	errOver     = errors.New("the step is over: a State must not be used after its function has returned")
	errSpent    = errors.New("the state was the argument of a call, which has used it up: Fork it before, to use it again")
	errHanded   = errors.New("the state was handed over with the step's stream: it can be read, but not changed")
	errReadOnly = errors.New("it belongs to the result of a call, which cannot be changed: Fork it")
)

func (s *State) init(st *step, t ipc.Table) {
	s.step, s.mu, s.table, s.live = st, &st.mu, t, len(t.Rows)
}

// usable returns why nothing of the state can be read, or nil.
func (s *State) usable(key string) error {
	switch {
	case s.source != nil && (s.step.over || s.source.closed):
		return &KeyError{Key: key, Err: &ExpiredError{Key: key, Step: s.source.name, Call: s.source.id, StepOver: s.step.over}}
	case s.step.over:
		return &KeyError{Key: key, Err: errOver}
	case s.spent:
		return &KeyError{Key: key, Err: errSpent}
	}
	return nil
}

// writable is usable for a change.
func (s *State) writable(key string) error {
	if err := s.usable(key); err != nil {
		return err
	}
	switch {
	case s.source != nil:
		return &KeyError{Key: key, Err: errReadOnly}
	case s.handed:
		return &KeyError{Key: key, Err: errHanded}
	}
	return nil
}

// New returns an empty state to call another step with. It belongs to the step
// of s.
func (s *State) New() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step.newState(ipc.Table{Kind: Object}, nil)
}

// Fork returns a state with the keys of s, passed on by reference: to call
// another step with, or to go on from the result of a call. What is changed in
// one is not changed in the other. It belongs to the step of s.
func (s *State) Fork() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fork()
}

func (s *State) fork() *State {
	_ = s.settle() // result returns the error
	rows := s.liveRows()
	held := make([]holds, 0, len(rows))
	for i := range s.table.Rows {
		if len(s.table.Rows[i].Spans) > 0 {
			held = append(held, s.holdRow(i))
		}
	}
	return s.step.newState(ipc.Table{Kind: s.table.Kind, Rows: rows}, held)
}

// newState returns a state of the step's beside its own. held are holds that it
// takes over.
func (st *step) newState(t ipc.Table, held []holds) *State {
	s := new(State)
	s.init(st, t)
	s.held = held
	if st.over {
		for i := range held {
			_ = held[i].drop() // nothing is freed after the end
		}
		return s
	}
	if st.forks == nil {
		st.forks = make(map[*State]struct{})
	}
	st.forks[s] = struct{}{}
	return s
}

// holdRow returns new holds on what keeps a row.
func (s *State) holdRow(row int) holds {
	var h holds
	switch {
	case s.held != nil:
		h.first = s.held[row].first
		h.more = slices.Clone(s.held[row].more)
	case s.source != nil:
		h.first = s.source
	}
	h.hold()
	return h
}

// release drops all that the state holds; it cannot be used any more.
func (s *State) release() error {
	s.spent = true
	delete(s.step.forks, s)
	for w := range s.open {
		w.block.Abort()
	}
	s.open = nil
	var first error
	for i := range s.ropes {
		if err := s.dropRope(i); first == nil {
			first = err
		}
	}
	for i := range s.held {
		if err := s.held[i].drop(); first == nil {
			first = err
		}
	}
	return first
}

// Kind returns what the state is. An absent one becomes an object by setting a
// key.
func (s *State) Kind() Kind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Kind
}

// Keys returns the keys of an object in order; none for a bare value.
func (s *State) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table.Kind != Object {
		return nil
	}
	return s.keys()
}

func (s *State) keys() []string {
	keys := make([]string, 0, s.live)
	for i := range s.table.Rows {
		if r := &s.table.Rows[i]; len(r.Spans) > 0 {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// Has reports whether the state has the key.
func (s *State) Has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key) >= 0
}

// Encoding returns the encoding of the key's value, 0 when there is no such
// key.
func (s *State) Encoding(key string) Encoding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(key); i >= 0 {
		return s.table.Rows[i].Encoding()
	}
	return 0
}

// Size returns the length of the key's value in bytes as it is encoded, 0 when
// there is no such key. It reads nothing.
func (s *State) Size(key string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(key); i >= 0 {
		_ = s.settleRow(i) // result returns the error
		return s.table.Rows[i].Size()
	}
	return 0
}

// Spans returns where the key's value lies, in order: nil when there is no
// such key. It is for runners which hand a segment on as it is.
func (s *State) Spans(key string) []shm.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(key); i >= 0 {
		_ = s.settleRow(i)
		return slices.Clone(s.table.Rows[i].Spans)
	}
	return nil
}

// Table returns the state as it is now.
func (s *State) Table() ipc.Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.settle() // result returns the error
	return ipc.Table{Kind: s.table.Kind, Rows: s.liveRows()}
}

func (s *State) liveRows() []ipc.Row {
	if s.live == len(s.table.Rows) {
		return slices.Clone(s.table.Rows)
	}
	rows := make([]ipc.Row, 0, s.live)
	for i := range s.table.Rows {
		if len(s.table.Rows[i].Spans) > 0 {
			rows = append(rows, s.table.Rows[i])
		}
	}
	return rows
}

// find returns the key's row, or -1.
func (s *State) find(key string) int {
	if len(s.table.Rows) <= indexFrom {
		for i := range s.table.Rows {
			if r := &s.table.Rows[i]; r.Key == key && len(r.Spans) > 0 {
				return i
			}
		}
		return -1
	}
	if s.index == nil {
		s.index = make(map[string]int, len(s.table.Rows))
		for i := range s.table.Rows {
			if r := &s.table.Rows[i]; len(r.Spans) > 0 {
				s.index[r.Key] = i
			}
		}
	}
	if i, ok := s.index[key]; ok {
		return i
	}
	return -1
}

// lookup is find with an error that names the keys there are.
func (s *State) lookup(key string) (int, error) {
	if err := s.usable(key); err != nil {
		return -1, err
	}
	if i := s.find(key); i >= 0 {
		return i, s.settleRow(i)
	}
	hint := "the state is absent"
	switch s.table.Kind {
	case Object:
		hint = "it has " + quoteList(s.keys())
	case Value:
		hint = `it is a bare value, under the key ""`
	}
	return -1, &KeyError{Key: key, Err: fmt.Errorf("%w; %s", ErrNoKey, hint)}
}

// result fills in the answer: the table without private and dropped keys, and
// the blocks that it uses. Everything else that the step wrote is freed.
func (s *State) result(reply *ipc.Envelope, done *ipc.Done) error {
	st := s.step
	st.mu.Lock()
	defer st.unlock()
	st.over = true
	if s.handed { // its stream's reader has it
		st.freeAll()
		done.Decoded, done.Encoded = st.decoded, st.encoded
		reply.Message = done
		return nil
	}
	for w := range s.open {
		return &KeyError{Key: w.key, Err: errNotClosed}
	}
	if err := s.settle(); err != nil {
		return err
	}
	for fork := range st.forks {
		if err := fork.release(); err != nil {
			return err
		}
	}
	if err := s.dropPrivate(); err != nil {
		return err
	}
	for i := len(st.blocks) - 1; i >= 0; i-- {
		if st.blocks[i].rows > 0 {
			continue
		}
		if err := st.blocks[i].free(); err != nil {
			return err
		}
	}
	done.Blocks = refsOf(st.blocks)
	done.Decoded, done.Encoded = st.decoded, st.encoded
	reply.Message = done
	reply.State = s.table
	if s.live < len(s.table.Rows) {
		reply.State.Rows = s.liveRows()
	}
	return nil
}

// dropPrivate removes the keys that never leave a step.
func (s *State) dropPrivate() error {
	if s.table.Kind != Object {
		return nil
	}
	for i := range s.table.Rows {
		if s.step.executor.isPrivate(s.table.Rows[i].Key) {
			if err := s.remove(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// isPrivate reports whether a key of a state never leaves its step.
func (x *executor) isPrivate(key string) bool {
	return strings.HasPrefix(key, "_") || slices.Contains(x.dropKeys, key)
}

// abandon frees all that the step wrote and that was not published.
func (s *State) abandon() {
	st := s.step
	st.mu.Lock()
	defer st.unlock()
	st.over = true
	st.freeAll()
}

func (st *step) freeAll() {
	for _, state := range append(slices.Collect(maps.Keys(st.forks)), &st.state) {
		if err := state.release(); err != nil {
			st.executor.end(err)
		}
	}
	for len(st.blocks) > 0 {
		if err := st.blocks[len(st.blocks)-1].free(); err != nil {
			st.executor.end(err)
		}
	}
}
