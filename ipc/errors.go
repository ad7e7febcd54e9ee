package ipc

import (
	"errors"
	"fmt"
)

// ErrClosed is returned by calls on a channel that this side closed, and by
// calls that were waiting when it did.
var ErrClosed = errors.New("ipc: control channel closed")

// ErrHangUp is returned when the other side closed its end: its process has
// exited, or is about to.
var ErrHangUp = errors.New("ipc: peer hung up")

// ProtocolError is a peer's breach of the protocol. The channel it came on is
// of no further use.
type ProtocolError struct {
	// Msg says what was sent and what was expected.
	Msg string
}

// Error implements error.
func (e *ProtocolError) Error() string { return "ipc: protocol violation: " + e.Msg }

func protocolErrorf(format string, args ...any) error {
	return &ProtocolError{Msg: fmt.Sprintf(format, args...)}
}

// FrameSizeError is a frame over the limit. Sent by this side it fails that
// message alone; received, it is a breach of the protocol.
type FrameSizeError struct {
	Size, Limit uint64
}

// Error implements error.
func (e *FrameSizeError) Error() string {
	return fmt.Sprintf("ipc: frame of %d bytes is over the limit of %d: a state has too many top-level keys or spans; nest keys under one, or aggregate in larger pieces", e.Size, e.Limit)
}

// MessageError is a message that this side was asked to send and that the peer
// would refuse. Nothing was sent.
type MessageError struct {
	Type Type
	// Msg says what is wrong with it.
	Msg string
}

// Error implements error.
func (e *MessageError) Error() string {
	return fmt.Sprintf("ipc: %s message is malformed and was not sent: %s", e.Type, e.Msg)
}

// VersionError is a peer that speaks no version this side does.
type VersionError struct {
	PeerMin, PeerMax, Min, Max uint16
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("ipc: peer speaks protocol versions %d to %d, this side %d to %d: upgrade the older of the two", e.PeerMin, e.PeerMax, e.Min, e.Max)
}
