package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// The bounds of a frame.
const (
	// HeaderSize is the length of the fixed header that starts each frame.
	HeaderSize = 24
	// RefSize is the length of an encoded reference.
	RefSize = 32
	// MaxFrameSize is the largest frame either side may send, header included.
	// It bounds what a peer can make the other side buffer; a state's payload
	// is never in a frame, so only a table of very many keys comes near it.
	MaxFrameSize = 8 << 20
	// frameAlign is what each part of a frame is padded to, so that the
	// references in it are aligned.
	frameAlign = 8
)

// Type says what a frame carries. The numbers are part of the protocol.
type Type uint8

// The types of frame, in the order of an executor's life.
const (
	TypeHello      Type = 1  // executor: who I am, what I can do
	TypeWelcome    Type = 2  // supervisor: the version and capabilities in use
	TypeAttach     Type = 3  // either: here is a segment (one descriptor)
	TypeDetach     Type = 4  // either: this segment is gone
	TypeRelease    Type = 5  // supervisor: these blocks of yours are free again
	TypePrepare    Type = 6  // supervisor: the code of a step, once per executor
	TypeExecute    Type = 7  // supervisor: run a step on this state
	TypeDone       Type = 8  // executor: the step's result
	TypeFail       Type = 9  // either: the request failed
	TypeCancel     Type = 10 // supervisor: stop this request
	TypeLog        Type = 11 // executor: a log line of a step
	TypePing       Type = 12 // either: are you there
	TypePong       Type = 13 // either: yes
	TypeShutdown   Type = 14 // supervisor: finish and exit
	TypeDoorbell   Type = 15 // either, on the socket only: look at the ring
	TypeFromSocket Type = 16 // either, on the ring only: the next frame is on the socket
	TypeCall       Type = 17 // executor: run another step on this state, for the step that runs here
	TypeResult     Type = 18 // supervisor: what came of a call
	TypeForget     Type = 19 // executor: the results of these calls are not needed any more
	TypeForward    Type = 20 // executor: this step's result goes on to that step
	TypeStream     Type = 21 // executor: hand this state over now, with a stream that I will feed
	TypeConsume    Type = 22 // executor: I want to read this stream
	TypeStreamRing Type = 23 // supervisor: the memory of a stream (one descriptor)
	TypeWake       Type = 24 // either: look at the stream's ring
	TypeStreamEnd  Type = 25 // either: one end of a stream is finished
)

var typeNames = [...]string{
	TypeHello: "hello", TypeWelcome: "welcome", TypeAttach: "attach", TypeDetach: "detach",
	TypeRelease: "release", TypePrepare: "prepare", TypeExecute: "execute", TypeDone: "done",
	TypeFail: "fail", TypeCancel: "cancel", TypeLog: "log", TypePing: "ping", TypePong: "pong",
	TypeShutdown: "shutdown", TypeDoorbell: "doorbell", TypeFromSocket: "from-socket",
	TypeCall: "call", TypeResult: "result", TypeForget: "forget", TypeForward: "forward",
	TypeStream: "stream", TypeConsume: "consume", TypeStreamRing: "stream-ring",
	TypeWake: "wake", TypeStreamEnd: "stream-end",
}

// String returns the type's name in PROTOCOL.md.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// header is the fixed start of a frame; the comments give byte offsets.
type header struct {
	size      uint32 // 0: whole frame, header included
	typ       Type   // 4
	tableKind Kind   // 5: what the rows are (0 when the message carries no state)
	files     uint8  // 6: descriptors that came with the frame: 0 or 1
	// 7: zero
	id       uint64 // 8: request id, 0 when the message belongs to no request
	headSize uint32 // 16: length of the head, before padding
	rowCount uint32 // 20: rows of the table
}

func (h *header) put(b []byte) {
	_ = b[HeaderSize-1]
	binary.LittleEndian.PutUint32(b[0:], h.size)
	b[4], b[5], b[6], b[7] = byte(h.typ), byte(h.tableKind), h.files, 0
	binary.LittleEndian.PutUint64(b[8:], h.id)
	binary.LittleEndian.PutUint32(b[16:], h.headSize)
	binary.LittleEndian.PutUint32(b[20:], h.rowCount)
}

// parseHeader reads and checks a header. It is the only place that looks at a
// peer's size field.
func parseHeader(b []byte) (header, error) {
	_ = b[HeaderSize-1]
	h := header{
		size:      binary.LittleEndian.Uint32(b[0:]),
		typ:       Type(b[4]),
		tableKind: Kind(b[5]),
		files:     b[6],
		id:        binary.LittleEndian.Uint64(b[8:]),
		headSize:  binary.LittleEndian.Uint32(b[16:]),
		rowCount:  binary.LittleEndian.Uint32(b[20:]),
	}
	switch {
	case h.size < HeaderSize:
		return h, protocolErrorf("frame size %d is below the header's %d", h.size, HeaderSize)
	case h.size > MaxFrameSize:
		return h, &FrameSizeError{Size: uint64(h.size), Limit: MaxFrameSize}
	case h.size%frameAlign != 0:
		return h, protocolErrorf("frame size %d is not a multiple of %d", h.size, frameAlign)
	case h.headSize > h.size-HeaderSize:
		return h, protocolErrorf("%s: head of %d bytes in a frame of %d", h.typ, h.headSize, h.size)
	case h.files > maxFiles(h.typ):
		return h, protocolErrorf("%s: %d descriptors declared, at most %d allowed", h.typ, h.files, maxFiles(h.typ))
	case (h.typ == TypeAttach || h.typ == TypeStreamRing) && h.files == 0:
		return h, protocolErrorf("%s: no descriptor declared", h.typ)
	case h.tableKind > KindValue:
		return h, protocolErrorf("%s: unknown table kind %d", h.typ, h.tableKind)
	case h.tableKind != KindAbsent && !carriesState(h.typ):
		return h, protocolErrorf("%s: carries a table", h.typ)
	case b[7] != 0:
		return h, protocolErrorf("%s: reserved byte is %d", h.typ, b[7])
	}
	return h, nil
}

// maxFiles is how many descriptors a frame of the type may bring: a segment's
// or a ring's.
func maxFiles(t Type) uint8 {
	switch t {
	case TypeAttach, TypeWelcome, TypeStreamRing:
		return 1
	}
	return 0
}

func carriesState(t Type) bool {
	switch t {
	case TypeExecute, TypeDone, TypeCall, TypeResult, TypeStream:
		return true
	}
	return false
}

func align(n int) int { return (n + frameAlign - 1) &^ (frameAlign - 1) }

// Envelope is one message with what travels beside it.
type Envelope struct {
	// ID is the request this message starts, answers or belongs to; 0 for none.
	ID uint64
	// Message is the head, one of the pointer types in this package.
	Message Message
	// State is the table of a message that carries a state; its zero value
	// elsewhere.
	State Table
	// File is the descriptor that travels with the frame, or nil. On Send it
	// stays the caller's; on Receive it becomes the caller's, to close.
	File *os.File
}

// AppendFrame appends the envelope's frame to b. It fails with a
// *FrameSizeError when the frame would pass MaxFrameSize and with a
// *MessageError when a peer would refuse it; what is returned then is b, its
// capacity maybe grown.
func AppendFrame(b []byte, e *Envelope) ([]byte, error) {
	start := len(b)
	typ := e.Message.Type()
	if err := e.check(typ); err != nil {
		return b, &MessageError{Type: typ, Msg: err.Error()}
	}
	enc := encoder{b: append(b, blankHeader[:]...)}
	e.Message.appendHead(&enc)
	h := header{
		typ:       typ,
		tableKind: e.State.Kind,
		id:        e.ID,
		headSize:  uint32(len(enc.b) - start - HeaderSize),
		rowCount:  uint32(len(e.State.Rows)),
	}
	if e.File != nil {
		h.files = 1
	}
	enc.pad(start)
	for i := range e.State.Rows {
		enc.row(start, &e.State.Rows[i])
	}
	size := len(enc.b) - start
	if size > MaxFrameSize {
		return enc.b[:start], &FrameSizeError{Size: uint64(size), Limit: MaxFrameSize}
	}
	h.size = uint32(size)
	h.put(enc.b[start:])
	return enc.b, nil
}

var blankHeader [HeaderSize]byte

func (e *Envelope) check(typ Type) error {
	switch {
	case e.File != nil && maxFiles(typ) == 0:
		return errors.New("it brings a descriptor")
	case e.File == nil && typ == TypeAttach:
		return errors.New("it brings no descriptor")
	case e.State.Kind != KindAbsent && !carriesState(typ):
		return errors.New("it carries a table")
	}
	return e.State.check()
}

// ParseFrame parses one whole frame (header included). The envelope shares
// nothing with b. It does not fill File: descriptors come beside the bytes.
func ParseFrame(b []byte) (*Envelope, error) {
	if len(b) < HeaderSize {
		return nil, protocolErrorf("frame of %d bytes, the header alone has %d", len(b), HeaderSize)
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if int(h.size) != len(b) {
		return nil, protocolErrorf("%s: frame says %d bytes, %d are there", h.typ, h.size, len(b))
	}
	return parseBody(&h, b)
}

// parseBody parses a frame whose header was checked and whose bytes are all in b.
func parseBody(h *header, b []byte) (*Envelope, error) {
	m, err := newMessage(h.typ)
	if err != nil {
		return nil, err
	}
	dec := decoder{b: b[HeaderSize : HeaderSize+int(h.headSize)]}
	m.parseHead(&dec)
	if dec.err != nil {
		return nil, protocolErrorf("%s: head: %v", h.typ, dec.err)
	}
	e := &Envelope{ID: h.id, Message: m}
	rows := decoder{b: b}
	rows.skip(HeaderSize + align(int(h.headSize)))
	e.State, err = rows.table(h.tableKind, h.rowCount)
	if err != nil {
		return nil, protocolErrorf("%s: table: %v", h.typ, err)
	}
	if len(rows.b) != 0 {
		return nil, protocolErrorf("%s: %d bytes after the table", h.typ, len(rows.b))
	}
	return e, nil
}
