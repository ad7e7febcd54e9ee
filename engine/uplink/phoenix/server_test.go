package phoenix

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inbound is a message that the server received.
type inbound struct {
	JoinRef, Ref *string
	Topic, Event string
	Payload      json.RawMessage
}

func (m *inbound) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&m.JoinRef, &m.Ref, &m.Topic, &m.Event, &m.Payload})
}

// server is the other side of the protocol, with a hook for faults.
type server struct {
	t    *testing.T
	http *httptest.Server
	opts websocket.AcceptOptions
	// handle answers one message; the default says ok to everything. A false
	// return hangs up.
	handle func(c *peer, m inbound) bool
	// onOpen may do without the usual loop by returning false.
	onOpen func(c *peer) bool

	mu       sync.Mutex
	peers    []*peer
	received []inbound
	query    []string
}

// peer is one connection of the server's.
type peer struct {
	*websocket.Conn
	s     *server
	count int // of the connection, from 1
}

func newServer(t *testing.T, handle func(c *peer, m inbound) bool) *server {
	s := &server{t: t, handle: handle}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.mu.Lock()
		for _, p := range s.peers {
			go p.CloseNow()
		}
		s.mu.Unlock()
		s.http.Close()
	})
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/websocket") {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	ws, err := websocket.Accept(w, r, &s.opts)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	s.mu.Lock()
	s.query = append(s.query, r.URL.RawQuery)
	c := &peer{Conn: ws, s: s, count: len(s.peers) + 1}
	s.peers = append(s.peers, c)
	s.mu.Unlock()
	if s.onOpen != nil && !s.onOpen(c) {
		return
	}
	for {
		_, b, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		var m inbound
		if err := json.Unmarshal(b, &m); err != nil {
			s.t.Errorf("the client sent %.80q: %v", b, err)
			return
		}
		s.mu.Lock()
		s.received = append(s.received, m)
		s.mu.Unlock()
		if s.handle != nil && m.Event != "heartbeat" {
			if !s.handle(c, m) {
				return
			}
			continue
		}
		c.ok(m, "{}")
	}
}

func (c *peer) send(text string) {
	c.Write(context.Background(), websocket.MessageText, []byte(text))
}

func (c *peer) ok(m inbound, response string) { c.reply(m, "ok", response) }

func (c *peer) reply(m inbound, status, response string) {
	jr, _ := json.Marshal(m.JoinRef)
	c.send(fmt.Sprintf(`[%s,%q,%q,"phx_reply",{"response":%s,"status":%q}]`, jr, *m.Ref, m.Topic, response, status))
}

// events returns the payloads of an event in the order received.
func (s *server) events(event string) (payloads []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.received {
		if m.Event == event {
			payloads = append(payloads, string(m.Payload))
		}
	}
	return payloads
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers)
}

func (s *server) options() Options {
	return Options{
		URL:           "ws" + strings.TrimPrefix(s.http.URL, "http") + "/worker",
		ReconnectUnit: time.Millisecond, ReconnectMax: 10 * time.Millisecond,
	}
}

func (s *server) dial(o Options) *Socket {
	s.t.Helper()
	socket, err := Dial(context.Background(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { socket.Close() })
	return socket
}

func (s *server) join(o Options, topic string) (*Socket, *Channel) {
	s.t.Helper()
	socket := s.dial(o)
	c := socket.Channel(topic, nil)
	if _, err := c.Join(testContext(s.t)); err != nil {
		s.t.Fatal(err)
	}
	return socket, c
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never happened: %s", what)
}

// stream is a payload of a string of n letters that are made as they are sent.
type stream struct {
	n      int64
	before func(written int64) // called now and then
	fail   int64               // where to fail, 0: nowhere
}

func (p stream) WriteJSON(w io.Writer) error {
	piece := []byte(strings.Repeat("x", 64<<10))
	if _, err := w.Write([]byte{'"'}); err != nil {
		return err
	}
	for done := int64(0); done < p.n; {
		if p.before != nil {
			p.before(done)
		}
		if p.fail > 0 && done >= p.fail {
			return errPayload
		}
		n := min(p.n-done, int64(len(piece)))
		if _, err := w.Write(piece[:n]); err != nil {
			return err
		}
		done += n
	}
	_, err := w.Write([]byte{'"'})
	return err
}

var errPayload = fmt.Errorf("the payload is bad")
