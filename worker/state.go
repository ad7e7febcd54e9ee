package worker

import (
	"errors"
	"fmt"
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

// State is what a step receives and makes: an ordered table of keys whose
// values stay where they were written. A key that is not touched is passed on
// unread. Its methods may be called from several goroutines, but not after the
// function has returned.
type State struct {
	step *step

	mu     sync.Mutex
	table  ipc.Table          // rows without spans were deleted
	live   int                // rows that were not
	owned  []int              // by row: its block in blocks plus 1; nil: all inherited
	index  map[string]int     // made when there are many rows
	blocks []block            // written by this step
	whole  map[int][]byte     // by row: ropes that were gathered
	open   map[*KeyWriter]int // not closed yet

	decoded, encoded uint64 // bytes
	over             bool   // the function has returned
}

var errOver = errors.New("the step is over: a State must not be used after its function has returned")

// block is one that the step has published in its arena.
type block struct {
	ref  shm.Block
	rows int  // rows that refer into it
	read bool // its bytes were given to the function
	gone bool // freed
}

func (s *State) init(st *step, t ipc.Table) {
	s.step, s.table, s.live = st, t, len(t.Rows)
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
		return slices.Clone(s.table.Rows[i].Spans)
	}
	return nil
}

// Table returns the state as it is now.
func (s *State) Table() ipc.Table {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	if s.over {
		return -1, &KeyError{Key: key, Err: errOver}
	}
	if i := s.find(key); i >= 0 {
		return i, nil
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
// the blocks that it uses. Blocks that it does not use are freed.
func (s *State) result(reply *ipc.Envelope, done *ipc.Done) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for w := range s.open {
		return &KeyError{Key: w.key, Err: errNotClosed}
	}
	x := s.step.executor
	if s.table.Kind == Object {
		for i := range s.table.Rows {
			if key := s.table.Rows[i].Key; strings.HasPrefix(key, "_") || slices.Contains(x.dropKeys, key) {
				if err := s.remove(i); err != nil {
					return err
				}
			}
		}
	}
	for i := range s.blocks {
		b := &s.blocks[i]
		switch {
		case b.gone:
		case b.rows > 0:
			done.Blocks = append(done.Blocks, b.ref)
		default:
			if err := s.freeBlock(b); err != nil {
				return err
			}
		}
	}
	done.Decoded, done.Encoded = s.decoded, s.encoded
	reply.Message = done
	reply.State = s.table
	if s.live < len(s.table.Rows) {
		reply.State.Rows = s.liveRows()
	}
	return nil
}

// abandon frees all that the step wrote.
func (s *State) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for w := range s.open {
		w.block.Abort()
	}
	s.open = nil
	for i := range s.blocks {
		if b := &s.blocks[i]; !b.gone {
			if err := s.freeBlock(b); err != nil {
				s.step.executor.end(err)
			}
		}
	}
}

func (s *State) freeBlock(b *block) error {
	b.gone = true
	return s.step.executor.free(b.ref)
}
