package frames

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The header of a frame, little-endian:
//
//	 0  4 bytes  "MRF1"
//	 4  4 bytes  length of the meta in bytes
//	 8  8 bytes  length of the payload in bytes
//	16           the meta, then the payload
const (
	magic      = "MRF1"
	headerSize = 16
	// MaxMeta bounds the meta, in bytes.
	MaxMeta = 16 << 20
)

// Meta is a frame's meta: what happened, and what its payload consists of.
type Meta struct {
	Type string    `json:"type"` // the engine's event types
	Time time.Time `json:"time"`
	Run  string    `json:"run"`
	// Step, Attempt, Execution and From are as in engine.Event.
	Step      string `json:"step,omitempty"`
	Attempt   int    `json:"attempt,omitempty"`
	Execution int    `json:"execution,omitempty"`
	From      int    `json:"from,omitempty"`
	// Status is set on step:complete and run:complete, Error where that is no
	// success.
	Status string `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
	// DurationUS is a step's time in microseconds, MemoryBytes its largest
	// resident size.
	DurationUS  float64 `json:"duration_us,omitempty"`
	MemoryBytes uint64  `json:"memory_bytes,omitempty"`
	Log         *Log    `json:"log,omitempty"`
	// States say what the payload is: their values' bytes one after another,
	// in this order. There is one on step:complete, and one for each leaf on
	// run:complete.
	States []State `json:"states,omitempty"`
}

// Log is a line that a step logged.
type Log struct {
	Level      string `json:"level"`
	Source     string `json:"source"`
	Message    string `json:"message"`
	Structured bool   `json:"structured,omitempty"` // Message is JSON
}

// State describes one state in the payload.
type State struct {
	// Leaf is the name of a final state: its step's id, with a number where
	// the step was reached more than once.
	Leaf string `json:"leaf,omitempty"`
	// Kind is "object", with a value for each top-level key; "value", with
	// one value under an empty key; or "absent", with none.
	Kind   string  `json:"kind"`
	Values []Value `json:"values,omitempty"`
	// Streams are the keys whose value, "[stream]", stands for items that were
	// not kept: with them the state is no input for another run.
	Streams []string `json:"streams,omitempty"`
}

// Value is one run of bytes in the payload.
type Value struct {
	Key      string `json:"key"`
	Encoding string `json:"encoding"` // "json", "arrow-stream", "raw"
	Size     uint64 `json:"size"`
}

// FormatError is a stream that is not frames.
type FormatError struct {
	Frame int64 // its number, from 1
	Msg   string
}

// Error implements error.
func (e *FormatError) Error() string { return fmt.Sprintf("frame %d: %s", e.Frame, e.Msg) }

// MetaError is a meta larger than MaxMeta.
type MetaError struct{ Size, Limit int }

// Error implements error.
func (e *MetaError) Error() string {
	return fmt.Sprintf("the meta of a frame has %d bytes: the limit is %d; the state has too many keys, or the log line is too long", e.Size, e.Limit)
}

func appendHeader(b []byte, meta int, payload uint64) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(meta))
	return binary.LittleEndian.AppendUint64(b, payload)
}

func parseHeader(b []byte) (meta uint32, payload uint64, err error) {
	if string(b[:4]) != magic {
		return 0, 0, fmt.Errorf("it starts with %q instead of %q", b[:4], magic)
	}
	meta, payload = binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])
	if meta > MaxMeta {
		return 0, 0, fmt.Errorf("a meta of %d bytes: the limit is %d", meta, MaxMeta)
	}
	if payload > 1<<62 {
		return 0, 0, errors.New("a payload of more than 2^62 bytes")
	}
	return meta, payload, nil
}
