package shm

import "fmt"

// Encoding says how the bytes of a [Ref] are to be read. Its values cross the
// control channel, so they never change meaning; 0 is invalid, so that a
// zeroed reference is refused.
type Encoding uint8

// The encodings of a row.
const (
	JSON        Encoding = 1 // one JSON text in UTF-8
	ArrowStream Encoding = 2 // one Arrow IPC stream: schema, batches, end of stream
	Raw         Encoding = 3 // bytes without a meaning to the engine
)

var encodingNames = [...]string{JSON: "json", ArrowStream: "arrow-stream", Raw: "raw"}

// Valid reports whether e is one of the encodings above.
func (e Encoding) Valid() bool { return e >= JSON && e <= Raw }

// String returns the name that [ParseEncoding] accepts, or "encoding(N)" for
// an invalid value.
func (e Encoding) String() string {
	if !e.Valid() {
		return fmt.Sprintf("encoding(%d)", uint8(e))
	}
	return encodingNames[e]
}

// ParseEncoding is the inverse of String: "json", "arrow-stream" or "raw".
func ParseEncoding(name string) (Encoding, error) {
	for e := JSON; e.Valid(); e++ {
		if encodingNames[e] == name {
			return e, nil
		}
	}
	return 0, fmt.Errorf("shm: unknown encoding %q (use json, arrow-stream or raw)", name)
}

// Flags are properties of a reference beside its encoding. Unknown bits are
// carried, not interpreted.
type Flags uint16

// FlagStream marks a row that is a live stream, not a finished value.
const FlagStream Flags = 1
