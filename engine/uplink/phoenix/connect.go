package phoenix

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// connection is one websocket, until it breaks.
type connection struct {
	ws   *websocket.Conn
	wire *wire
	out  message // for the goroutine that writes

	failed chan struct{} // closed by fail
	err    error         // set before failed is closed; under Socket.mu
}

// connect makes one attempt.
func (s *Socket) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.ConnectTimeout)
	defer cancel()
	u, err := url.Parse(s.opts.URL)
	if err != nil {
		return nil, &ConnectError{URL: "the socket", Err: err}
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/websocket") + "/websocket"
	query := url.Values{}
	if s.opts.Query != nil {
		if query, err = s.opts.Query(); err != nil {
			return nil, &ConnectError{URL: u.Redacted(), Err: err}
		}
	}
	query.Set("vsn", "2.0.0")
	address := u.Redacted()
	u.RawQuery = query.Encode()

	transport := &http.Transport{
		Proxy: s.opts.Proxy, TLSClientConfig: s.opts.TLS,
		TLSHandshakeTimeout: s.opts.ConnectTimeout, DisableKeepAlives: true,
		// A websocket needs HTTP/1.1.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	defer transport.CloseIdleConnections()
	grab := &grabber{transport: transport}
	opts := &websocket.DialOptions{HTTPClient: &http.Client{Transport: grab}, HTTPHeader: s.opts.Header}
	if s.opts.Compress {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
	}
	ws, resp, err := websocket.Dial(ctx, u.String(), opts)
	if err != nil {
		e := &ConnectError{URL: address, Err: withoutQuery(err)}
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			e.Status = resp.StatusCode
		}
		return nil, e
	}
	ws.SetReadLimit(-1) // what is kept is bounded where it is kept
	c := &connection{ws: ws, wire: grab.wire, failed: make(chan struct{})}
	deflated := strings.Contains(resp.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate")
	c.out = newMessage(c.wire, &s.opts, deflated)
	return c, nil
}

// withoutQuery removes from an error the address with its token.
func withoutQuery(err error) error {
	for e := err; e != nil; {
		if u, ok := e.(*url.Error); ok {
			return u.Err
		}
		unwrapper, ok := e.(interface{ Unwrap() error })
		if !ok {
			break
		}
		e = unwrapper.Unwrap()
	}
	return err
}

// grabber puts a wire under the connection that a handshake leads to.
type grabber struct {
	transport *http.Transport
	wire      *wire
}

// RoundTrip implements http.RoundTripper.
func (g *grabber) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.transport.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	if body, ok := resp.Body.(readWriteCloser); ok {
		g.wire = &wire{ReadWriteCloser: body}
		resp.Body = g.wire
	}
	return resp, nil
}

type readWriteCloser interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
	Close() error
}

// close ends the connection, politely where that takes no time.
func (c *connection) close(polite bool) {
	if !polite {
		c.ws.CloseNow()
		return
	}
	timer := time.AfterFunc(time.Second, func() { c.wire.Close() })
	defer timer.Stop()
	c.ws.Close(websocket.StatusNormalClosure, "")
}
