package phoenix

import (
	"encoding/json"
	"io"
	"time"
)

// Payload is the JSON value that a push carries.
type Payload interface {
	// WriteJSON writes the value. It is called by one goroutine at a time, and
	// again, for the same bytes, when the message has to be sent again. An
	// error that w returned must be passed on. Any other error fails the push;
	// where bytes were sent already it also costs the connection, as a
	// websocket message cannot be taken back.
	WriteJSON(w io.Writer) error
}

// Sizer is a Payload that knows its length in bytes, so that Whole framing need
// not make it twice.
type Sizer interface {
	Size() (int64, error)
	// Spare is how many bytes more than Size there may turn out to be. A frame
	// has room for them, filled with white space where they are not needed.
	Spare() int64
}

// JSON is a small payload: a value that encoding/json encodes, at once.
func JSON(v any) Payload {
	b, err := json.Marshal(v)
	return encoded{b, err}
}

// Raw is a small payload that is encoded already.
func Raw(b json.RawMessage) Payload { return encoded{b, nil} }

type encoded struct {
	bytes []byte
	err   error
}

// WriteJSON implements Payload.
func (e encoded) WriteJSON(w io.Writer) error {
	if e.err != nil {
		return e.err
	}
	_, err := w.Write(e.bytes)
	return err
}

// PushOptions are the settings of one push.
type PushOptions struct {
	// Timeout is how long the acknowledgement may take, from when the message
	// was wholly written. It does not run while there is no connection: the
	// context bounds that. 0 means Options.ReplyTimeout, negative: for ever.
	Timeout time.Duration
	// Resend sends the push again, in its place, when the connection is lost
	// before its acknowledgement came.
	Resend bool
	// Into is asked where the bytes of a reply go that is binary, or a JSON
	// array of byte values. size is -1 where it is not known yet. The writer
	// is written to while the reply arrives, by the goroutine that reads from
	// the socket, and closed once. What it received is whole only if Push
	// returned without error. With Resend it may be called again: the last
	// writer counts.
	Into func(size int64) (io.WriteCloser, error)
}

// Reply is a server's acknowledgement.
type Reply struct {
	// Response is the response as it came; nil when Into took it.
	Response json.RawMessage
	// Streamed says that Into took the response, of Size bytes.
	Streamed bool
	Size     int64
}
