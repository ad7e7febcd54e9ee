package standin

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// DefaultMaxFrame is the largest frame in bytes that the public server accepts.
const DefaultMaxFrame = 11_000_000

// Options configure a Server. Zero values mean the defaults named.
type Options struct {
	// Addr to listen on. Default: 127.0.0.1 and a free port.
	Addr string
	// Secret that worker tokens are signed with. Default: a random one.
	Secret string
	// MaxFrame is the largest frame, and the largest message made of several,
	// in bytes on the wire. What exceeds it has its whole socket dropped without
	// a word, as the public server does. Default: DefaultMaxFrame; negative: no
	// limit.
	MaxFrame int64
	// Compression offered to workers. Default: none.
	Compression websocket.CompressionMode
	// LegacyReplies names replies chan_reply_<ref>, as older servers do.
	LegacyReplies bool
	// IgnoreHeartbeats leaves heartbeats without an answer.
	IgnoreHeartbeats bool
	// DataclipBytes answers fetch:dataclip with a JSON array of byte values
	// instead of a binary frame.
	DataclipBytes bool
	// RSA signs run tokens with RS256 instead of ES256.
	RSA bool
	// CountOnly keeps no dataclip, no final state and no log line: they are
	// counted and checksummed.
	CountOnly bool
	// History is how many finished runs are kept; 0 keeps all.
	History int
	// Tap gets the text of every message as it was received, after inflation,
	// piece by piece. Calls come from one goroutine for each socket.
	Tap func(piece []byte)
	// Hook decides what goes wrong with a message. Nil: nothing does.
	Hook func(Push) Action
	// Refuse refuses a socket with status 403 before it is opened.
	Refuse func(*http.Request) bool
	// Logger gets a line for each connection, claim and end. Default: discarded.
	Logger *slog.Logger
}

// Run is a run to enqueue.
type Run struct {
	// Plan is a Lightning plan: jobs, triggers, edges, options. Its id and its
	// dataclip_id are set by Enqueue.
	Plan json.RawMessage
	// Dataclip is the initial state, a JSON document; nil for none.
	Dataclip json.RawMessage
	// Credentials by the ids that the plan's jobs name.
	Credentials map[string]json.RawMessage
	// Queue the run waits in. Default: default.
	Queue string
	// Token replaces the run's signed token, for a worker that must refuse it.
	Token string
	// TokenLife is how long the signed token is valid; negative: it has expired.
	// Default: an hour.
	TokenLife time.Duration
}

// Push is a message of a worker, as a Hook sees it.
type Push struct {
	// Conn counts sockets from 1.
	Conn         int
	Topic, Event string
	// Count is how many messages of this event there were, this one included,
	// over all sockets and topics.
	Count int
	// Size of the message in bytes.
	Size int64
	// Fields of the payload, without large ones.
	Fields map[string]json.RawMessage
}

// Action says what goes wrong with a message. The zero value: nothing.
type Action struct {
	// Drop closes the socket instead of acting on the message.
	Drop bool
	// DropAfter acts on the message and closes the socket instead of replying.
	DropAfter bool
	// Ignore neither acts on the message nor replies to it.
	Ignore bool
	// NoReply acts on the message without a reply.
	NoReply bool
	// Delay of the reply.
	Delay time.Duration
	// Forgive has the message count as acknowledged at once, whenever its reply
	// comes: a worker may give up waiting.
	Forgive bool
	// Twice sends the reply twice.
	Twice bool
	// Refuse replies with this error instead of acting on the message.
	Refuse string
	// UnknownRef sends a reply to a message that was never sent, before the
	// right one.
	UnknownRef bool
	// Garbage is sent as a text frame before the reply.
	Garbage []byte
	// Channel is phx_close or phx_error: it is sent for the topic after the
	// reply, and the channel ends.
	Channel string
}
