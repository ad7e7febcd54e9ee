package phoenix

import (
	"context"
	"encoding/json"
	"errors"
)

// Socket is a connection to a Phoenix server that is made again whenever it is
// lost. Its methods may be called from any goroutine.
type Socket struct {
	opts Options
}

// Dial makes the first connection and returns the socket, which reconnects by
// itself until Close. Errors: *ConnectError, except with Options.KeepTrying.
func Dial(ctx context.Context, o Options) (*Socket, error) {
	return &Socket{opts: o.withDefaults()}, errors.ErrUnsupported
}

// Close leaves no channel, but ends the connection and everything that waits
// on the socket, with ErrClosed. It returns when all goroutines have ended.
func (s *Socket) Close() error { return nil }

// Connected says whether there is a connection now.
func (s *Socket) Connected() bool { return false }

// Stats returns counts since Dial.
func (s *Socket) Stats() Stats { return Stats{} }

// Stats counts what happened on a socket.
type Stats struct {
	Connects  int64 // connections made
	Messages  int64 // pushes written, resends and heartbeats included
	Resent    int64 // pushes written again
	Bytes     int64 // of JSON text written, before compression
	Unmatched int64 // replies to nothing that waits: late, second or unknown
	Garbage   int64 // frames that are no Phoenix message
	Outbox    int   // pushes waiting to be sent or acknowledged now
}

// Channel returns the topic's channel, to be joined. join makes the payload of
// each join afresh; nil means {}. There is one channel a topic: asking again
// returns the same one until Leave or a close.
func (s *Socket) Channel(topic string, join func() ([]byte, error)) *Channel {
	return &Channel{}
}

// Channel is one topic on a socket. Its methods may be called from any
// goroutine.
type Channel struct{}

// Join joins and returns the server's response. From then on the channel
// rejoins by itself. Errors: *ReplyError when the server refuses, *TimeoutError,
// the context's.
func (c *Channel) Join(ctx context.Context) (json.RawMessage, error) {
	return nil, errors.ErrUnsupported
}

// Push sends an event and waits for the acknowledgement. It blocks while the
// outbox is full, there is no connection, or the server does not read; ctx
// ends the waiting. A push whose context ends while it is being written is
// written to its end. Errors: *ReplyError, *TimeoutError, *SizeError,
// *ClosedError, ErrDisconnected, ErrNotJoined, ErrClosed, the context's and the
// payload's.
func (c *Channel) Push(ctx context.Context, event string, p Payload, opts PushOptions) (*Reply, error) {
	return nil, errors.ErrUnsupported
}

// On calls f for each message of the event that the server sends on this
// channel, in order, from the goroutine that reads from the socket: f must not
// block, nor call Push. It replaces an earlier f; nil removes it.
func (c *Channel) On(event string, f func(payload json.RawMessage)) {}

// OnClose calls f, once, when the channel ends other than by Leave or Close:
// the server closed it, or refused to let it rejoin. The rules are those of On.
func (c *Channel) OnClose(f func(error)) {}

// Leave tells the server, waits for its answer and ends the channel: pushes
// that still wait fail with *ClosedError. Without a connection nothing is sent.
func (c *Channel) Leave(ctx context.Context) error { return nil }
