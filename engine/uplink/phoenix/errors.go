package phoenix

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrClosed is returned after Close of the socket.
	ErrClosed = errors.New("phoenix: the socket is closed")
	// ErrDisconnected fails a push without PushOptions.Resend whose
	// acknowledgement the connection, or the channel, did not live to bring:
	// the server may or may not have handled it.
	ErrDisconnected = errors.New("phoenix: the connection was lost before the acknowledgement came")
	// ErrHeartbeat is why a connection is given up whose server is silent.
	ErrHeartbeat = errors.New("phoenix: the server does not answer heartbeats")
	// ErrNotJoined is returned by a push on a channel that was never joined.
	ErrNotJoined = errors.New("phoenix: the channel is not joined")
)

// ReplyError is a reply with another status than "ok".
type ReplyError struct {
	Topic, Event string
	Status       string
	Response     json.RawMessage // at most what the server sent
}

// Error implements error.
func (e *ReplyError) Error() string {
	response := string(e.Response)
	if len(response) > 300 {
		response = response[:300] + "…"
	}
	return fmt.Sprintf("phoenix: the server answered %s on %s with %q: %s", e.Event, e.Topic, e.Status, response)
}

// TimeoutError is an acknowledgement that did not come in time.
type TimeoutError struct {
	Topic, Event string
	Timeout      time.Duration
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("phoenix: no reply to %s on %s within %s", e.Event, e.Topic, e.Timeout)
}

// ClosedError ends a channel: the server closed it, or refused to let it
// rejoin.
type ClosedError struct {
	Topic string
	Err   error // why, where that is known
}

// Error implements error.
func (e *ClosedError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("phoenix: the server closed the channel %s", e.Topic)
	}
	return fmt.Sprintf("phoenix: the channel %s is closed: %v", e.Topic, e.Err)
}

// Unwrap returns the cause.
func (e *ClosedError) Unwrap() error { return e.Err }

// ConnectError is a failed attempt to connect.
type ConnectError struct {
	URL    string // without its query, which holds the token
	Status int    // of the HTTP response, 0 where there was none
	Err    error
}

// Error implements error.
func (e *ConnectError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("phoenix: %s refused the websocket with HTTP status %d", e.URL, e.Status)
	}
	return fmt.Sprintf("phoenix: cannot connect to %s: %v", e.URL, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// SizeError is a reply larger than Options.MaxReply.
type SizeError struct {
	Topic, Event string
	Limit        int64
}

// Error implements error.
func (e *SizeError) Error() string {
	return fmt.Sprintf("phoenix: the reply to %s on %s is larger than the limit of %d bytes", e.Event, e.Topic, e.Limit)
}

// FormatError is a reply that is not what the protocol says.
type FormatError struct {
	Topic, Event string
	Err          error
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("phoenix: the reply to %s on %s is malformed: %v", e.Event, e.Topic, e.Err)
}

// Unwrap returns the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// TooBigError is a push that the server will not take: it closed the
// connection because of a message over its limit, of which this was the
// largest on its way; or connections broke Sends times while it was.
type TooBigError struct {
	Topic, Event string
	Size         int64 // of the message in bytes, before compression; 0 if unknown
	Sends        int
	Err          error // how the last connection ended
}

// Error implements error.
func (e *TooBigError) Error() string {
	return fmt.Sprintf("phoenix: gave up %s on %s after %d attempts: the server drops the connection at this message of %d bytes: %v",
		e.Event, e.Topic, e.Sends, e.Size, e.Err)
}

// Unwrap returns the cause.
func (e *TooBigError) Unwrap() error { return e.Err }
