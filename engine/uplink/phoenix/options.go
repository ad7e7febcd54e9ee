package phoenix

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Framing says how a message is cut into websocket frames.
type Framing int

const (
	// Fragmented writes a message as frames of Options.MaxFrame bytes, as they
	// are made; the length need not be known.
	Fragmented Framing = iota
	// Whole writes a message as one frame. An uncompressed message is made
	// twice: first to know its length, then to send it.
	Whole
)

// Options are a socket's settings. The zero value of each is its default.
type Options struct {
	// URL is the socket's base, such as ws://localhost:4000/worker: the client
	// connects to <URL>/websocket. Schemes: ws, wss, http, https.
	URL string
	// Query returns the parameters of the next attempt to connect, such as a
	// fresh token. "vsn" is added. Nil means none.
	Query func() (url.Values, error)
	// Header is sent with the handshake.
	Header http.Header
	// TLS is the client's configuration; nil is Go's default.
	TLS *tls.Config
	// Proxy chooses a proxy; nil means the one the environment names.
	Proxy func(*http.Request) (*url.URL, error)
	// ConnectTimeout bounds one attempt. Default 10 s.
	ConnectTimeout time.Duration
	// KeepTrying makes Dial return a socket even where the first attempt
	// failed; the socket goes on trying.
	KeepTrying bool
	// ReconnectUnit is by how much the delay before an attempt to reconnect
	// grows; ReconnectMax is where it ends. Defaults 1 s and 10 s. Up to a
	// quarter is added at random.
	ReconnectUnit time.Duration
	ReconnectMax  time.Duration

	// Heartbeat is the time between heartbeats; default 30 s, negative: none.
	Heartbeat time.Duration
	// HeartbeatTolerance is how many heartbeats in a row may be unanswered
	// when the next is due. At 0, the default, the first leads to a new
	// connection; negative: none ever does.
	HeartbeatTolerance int
	// ReplyTimeout is how long an acknowledgement may take, see
	// PushOptions.Timeout. Default 30 s; negative: for ever.
	ReplyTimeout time.Duration
	// RejoinAttempts is how often in a row the server may refuse to let a
	// channel rejoin before the channel is given up. Default 5; negative:
	// there is no limit.
	RejoinAttempts int

	// MaxSends is how many connections, or lives of a channel, in a row may end
	// while one and the same push is on its way before that push is given up
	// with *TooBigError: it might be what the server cannot stand. Default 16;
	// negative: there is no limit.
	MaxSends int

	// Outbox is how many pushes may wait to be sent or acknowledged on the
	// whole socket; the next blocks. Default 1024.
	Outbox int
	// MaxReply bounds, in bytes, what is kept of one message from the server.
	// A larger reply fails its push. Default 16 MiB. A reply that
	// PushOptions.Into takes has no limit.
	MaxReply int64

	// Framing is how messages are cut into frames. Default Fragmented.
	Framing Framing
	// MaxFrame is the size of a fragment, and of the write buffer, in bytes.
	// Default 128 KiB.
	MaxFrame int
	// Compress offers permessage-deflate to the server, and compresses
	// messages of CompressAbove bytes or more (default 16 KiB) when it
	// accepts.
	Compress      bool
	CompressAbove int

	// Logger receives what goes wrong. Default: nothing is logged.
	Logger *slog.Logger
	// OnConnect is called after each connection, before channels rejoin, and
	// OnDisconnect after each loss and each failed attempt, with its cause.
	// Neither may block or call a method that waits.
	OnConnect    func()
	OnDisconnect func(error)
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.ConnectTimeout, 10*time.Second)
	def(&o.ReconnectUnit, time.Second)
	def(&o.ReconnectMax, 10*time.Second)
	def(&o.Heartbeat, 30*time.Second)
	def(&o.ReplyTimeout, 30*time.Second)
	if o.RejoinAttempts == 0 {
		o.RejoinAttempts = 5
	}
	if o.MaxSends == 0 {
		o.MaxSends = 16
	}
	if o.Outbox <= 0 {
		o.Outbox = 1024
	}
	if o.MaxReply <= 0 {
		o.MaxReply = 16 << 20
	}
	if o.MaxFrame <= 0 {
		o.MaxFrame = 128 << 10
	}
	if o.CompressAbove <= 0 {
		o.CompressAbove = 16 << 10
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnConnect == nil {
		o.OnConnect = func() {}
	}
	if o.OnDisconnect == nil {
		o.OnDisconnect = func(error) {}
	}
	return o
}
