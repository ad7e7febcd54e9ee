package worker

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"sync"

	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

const (
	// flushSize is how many encoded bytes are gathered before they go into
	// shared memory.
	flushSize = 64 << 10
	// maxIdleEncoder is the largest buffer kept between values.
	maxIdleEncoder = 256 << 10
	// mapDepth is how deep maps are taken apart.
	mapDepth = 3
)

// jsonEncoder encodes one value at a time into a block. encoding/json builds
// each value in memory before it writes a byte; so maps are encoded member by
// member and slices some elements at a time, which bounds the heap to the
// largest part that encoding/json has to do in one go.
type jsonEncoder struct {
	arena *shm.Arena
	block *shm.BlockWriter // nil while everything fits the buffer
	buf   []byte
	json  *json.Encoder // writes to the jsonEncoder
	list  bool          // what comes is a list whose brackets are left out
	err   error         // of the block
}

var jsonEncoders = sync.Pool{New: func() any {
	e := new(jsonEncoder)
	e.json = json.NewEncoder(e)
	e.json.SetEscapeHTML(false)
	return e
}}

// encodeJSON publishes v as a block of the arena.
func encodeJSON(arena *shm.Arena, v any) (shm.Ref, error) {
	e, err := newEncoding(arena, v)
	if err != nil {
		return shm.Ref{}, err
	}
	defer e.release()
	return e.publish()
}

// newEncoding encodes v. What is short stays in the buffer until publish. The
// caller releases the encoder.
func newEncoding(arena *shm.Arena, v any) (*jsonEncoder, error) {
	e := jsonEncoders.Get().(*jsonEncoder)
	e.arena = arena
	if err := e.value(reflect.ValueOf(v), 0); err != nil {
		defer e.release()
		if e.err != nil {
			return nil, e.err // not the value's fault
		}
		return nil, encodeError(v, err)
	}
	return e, nil
}

// publish makes the value a block.
func (e *jsonEncoder) publish() (shm.Ref, error) {
	if e.block == nil {
		return e.arena.Write(JSON, e.buf)
	}
	if err := e.flush(); err != nil {
		return shm.Ref{}, err
	}
	return e.block.Commit(JSON)
}

func (e *jsonEncoder) release() {
	if e.block != nil {
		e.block.Abort() // nothing after a Commit
	}
	if e.err != nil {
		return // the json.Encoder would repeat the error for ever
	}
	if cap(e.buf) > maxIdleEncoder {
		e.buf = nil
	}
	e.arena, e.block, e.buf, e.list = nil, nil, e.buf[:0], false
	jsonEncoders.Put(e)
}

// Write takes what encoding/json has encoded: one value a call, with a newline
// behind it.
func (e *jsonEncoder) Write(p []byte) (int, error) {
	n := len(p)
	if n > 0 && p[n-1] == '\n' {
		p = p[:n-1]
	}
	if e.list && len(p) >= 2 {
		p = p[1 : len(p)-1]
	}
	if len(p) >= flushSize {
		if err := e.flush(); err != nil {
			return 0, err
		}
		return n, e.toBlock(p)
	}
	e.buf = append(e.buf, p...)
	return n, e.flushIfLarge()
}

func (e *jsonEncoder) flushIfLarge() error {
	if len(e.buf) < flushSize {
		return nil
	}
	return e.flush()
}

func (e *jsonEncoder) flush() error {
	err := e.toBlock(e.buf)
	e.buf = e.buf[:0]
	return err
}

func (e *jsonEncoder) toBlock(p []byte) error {
	if e.block == nil {
		e.block = e.arena.NewBlock(0)
	}
	if _, err := e.block.Write(p); err != nil {
		e.err = err
	}
	return e.err
}

// written returns how many bytes the value has so far.
func (e *jsonEncoder) written() int64 {
	n := int64(len(e.buf))
	if e.block != nil {
		n += e.block.Len()
	}
	return n
}

// value encodes v, taken apart where that is simple.
func (e *jsonEncoder) value(v reflect.Value, depth int) error {
	for v.IsValid() && v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.IsValid() && !encodesItself(v.Type()) {
		switch {
		case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String && !v.IsNil() && depth < mapDepth:
			return e.object(v, depth)
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 && !v.IsNil():
			return e.array(v, depth)
		}
	}
	if !v.IsValid() {
		return e.json.Encode(nil)
	}
	return e.json.Encode(v.Interface())
}

func (e *jsonEncoder) object(v reflect.Value, depth int) error {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch {
		case a.String() < b.String():
			return -1
		case a.String() > b.String():
			return 1
		}
		return 0
	})
	open := byte('{')
	for _, k := range keys {
		e.buf = append(e.buf, open)
		e.buf = jsonscan.AppendKey(e.buf, k.String())
		if err := e.value(v.MapIndex(k), depth+1); err != nil {
			return err
		}
		open = ','
	}
	if len(keys) == 0 {
		e.buf = append(e.buf, open)
	}
	e.buf = append(e.buf, '}')
	return e.flushIfLarge()
}

// array encodes a slice in parts of about flushSize.
func (e *jsonEncoder) array(v reflect.Value, depth int) error {
	e.buf = append(e.buf, '[')
	count := v.Len()
	for at, n := 0, 1; at < count; {
		if at > 0 {
			e.buf = append(e.buf, ',')
		}
		before := e.written()
		end := min(at+n, count)
		if element := v.Index(at); end == at+1 && depth < mapDepth && comesApart(element) {
			if err := e.value(element, depth+1); err != nil {
				return err
			}
		} else {
			// As a part of the list, not on its own: encoding/json asks the
			// pointer's methods of elements, too.
			e.list = true
			err := e.json.Encode(v.Slice(at, end).Interface())
			e.list = false
			if err != nil {
				return err
			}
		}
		perElement := (e.written()-before)/int64(end-at) + 1
		n = int(max(1, min(flushSize/perElement, int64(2*n))))
		at = end
	}
	e.buf = append(e.buf, ']')
	return e.flushIfLarge()
}

// comesApart reports whether a list's element is better encoded by itself.
func comesApart(v reflect.Value) bool {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	} else if encodesItself(reflect.PointerTo(v.Type())) {
		return false
	}
	return v.Kind() == reflect.Map || v.Kind() == reflect.Slice
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// encodesItself reports whether encoding/json would ask the value itself.
func encodesItself(t reflect.Type) bool {
	return t.Implements(jsonMarshaler) || t.Implements(textMarshaler)
}
