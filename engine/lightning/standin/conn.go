package standin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// conn is one socket.
type conn struct {
	s      *Server
	n      int
	ws     *websocket.Conn
	meter  *meter
	worker string

	// Guarded by s.mu.
	queueRef *string            // join_ref of worker:queue; nil: not joined
	capacity int                // as the worker said when it joined
	topics   map[string]*string // join_ref by topic
	open     map[string]bool    // refs without a reply
	ended    map[string]bool    // topics that the server ended by itself
}

// socket is the handler of the worker's socket.
func (s *Server) socket(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	worker, err := checkWorkerToken(query.Get("token"), s.options.Secret)
	if errors.Is(err, errSignature) || s.options.Refuse != nil && s.options.Refuse(req) {
		s.options.Logger.Warn("a worker was refused", "from", req.RemoteAddr, "why", err)
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	var m *meter
	ws, acceptErr := websocket.Accept(&hijacker{w, func(c net.Conn) *meter {
		m = &meter{Conn: c, gate: s.gate, cut: &s.cut, max: max(0, s.options.MaxFrame), closed: make(chan struct{})}
		return m
	}}, req, &websocket.AcceptOptions{CompressionMode: s.options.Compression, InsecureSkipVerify: true})
	if acceptErr != nil {
		s.options.Logger.Warn("no websocket", "from", req.RemoteAddr, "why", acceptErr)
		return
	}
	ws.SetReadLimit(-1)
	c := &conn{s: s, ws: ws, meter: m, worker: worker, topics: make(map[string]*string), open: make(map[string]bool), ended: make(map[string]bool)}
	if !s.enter(c) {
		m.Close()
		return
	}
	defer s.serving.Done()
	defer s.leave(c)
	if err != nil {
		c.violate("", "", err.Error())
	}
	for name, want := range map[string]string{"api_version": "1.2", "vsn": "2.0.0"} {
		if got := query.Get(name); got != want {
			c.violate("", "", "the socket's "+name+" is "+strconv.Quote(got)+": it must be "+want)
		}
	}
	if query.Get("worker_version") == "" {
		c.violate("", "", "the socket's worker_version is missing")
	}
	s.options.Logger.Info("a worker connected", "socket", c.n, "worker", worker)
	c.serve()
	s.options.Logger.Info("a worker's socket closed", "socket", c.n, "worker", worker)
}

func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.serving.Add(1)
	s.opened++
	c.n = s.opened
	s.conns[c] = true
	s.change()
	return true
}

func (s *Server) leave(c *conn) {
	_ = c.ws.CloseNow() // whatever it says, it is closed
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.former.add(c.meter)
	for _, r := range s.runs {
		if r.conn == c {
			r.conn, r.pending = nil, 0
		}
	}
	s.change()
}

func (c *conn) violate(topic, event, text string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.violate(Violation{Conn: c.n, Topic: topic, Event: event, Text: text})
}

// serve reads messages until the socket ends.
func (c *conn) serve() {
	for {
		kind, r, err := c.ws.Reader(c.s.ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			c.violate("", "", "a binary frame: workers send text")
			return
		}
		m, err := readMessage(r, c.s.options.Tap, !c.s.options.CountOnly)
		var bad *notJSONError
		if errors.As(err, &bad) {
			c.violate("", "", "a frame that is no message: "+bad.Error())
			return
		}
		if err != nil || !c.handle(m) {
			return
		}
	}
}

// handle acts on a message; false closes the socket.
func (c *conn) handle(m *message) bool {
	s := c.s
	s.mu.Lock()
	s.counts[m.event]++
	push := Push{Conn: c.n, Topic: m.topic, Event: m.event, Count: s.counts[m.event], Size: m.size, Fields: m.fields}
	s.mu.Unlock()
	var a Action
	if s.options.Hook != nil {
		a = s.options.Hook(push)
	}
	if a.Drop {
		c.meter.Close()
		return false
	}
	if a.Ignore {
		return true
	}
	rep := c.dispatch(m, a)
	if a.DropAfter {
		c.meter.Close()
		return false
	}
	if a.Forgive || rep == nil || a.NoReply {
		c.answered(m)
	}
	if rep == nil || a.NoReply {
		return true
	}
	if a.Delay == 0 {
		c.respond(m, rep, a)
		return true
	}
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		select {
		case <-time.After(a.Delay):
			c.respond(m, rep, a)
		case <-s.ctx.Done():
		}
	}()
	return true
}

// dispatch acts on the message and returns the reply, nil for none.
func (c *conn) dispatch(m *message, a Action) *reply {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.change()
	k := &checker{s: s, conn: c, m: m}
	if m.ref == nil || *m.ref == "" {
		k.bad("it has no ref")
		return nil
	}
	if c.open[*m.ref] {
		k.bad("its ref %q is that of a message without a reply yet", *m.ref)
	}
	c.open[*m.ref] = true
	if m.topic == "phoenix" {
		return k.heartbeat()
	}
	if m.event == "phx_join" {
		if m.joinRef == nil || *m.joinRef != *m.ref {
			k.bad("a join's join_ref must be its ref")
		}
	} else if joined := c.topics[m.topic]; joined == nil {
		if !c.ended[m.topic] { // else it may not have heard of it yet
			k.bad("the topic is not joined on this socket")
		}
		return refuse("unmatched topic")
	} else if m.joinRef == nil || *m.joinRef != *joined {
		k.bad("its join_ref is not that of the join, %q", *joined)
	}
	if a.Refuse != "" {
		s.run(m.topic).refused(m.event)
		return refuse(a.Refuse)
	}
	rep := k.topic()
	if a.DropAfter && m.event == "claim" {
		s.unclaim(rep)
	}
	return rep
}

// answered notes that a message needs no reply any more.
func (c *conn) answered(m *message) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if m.ref != nil {
		delete(c.open, *m.ref)
	}
	if r := c.s.run(m.topic); r != nil && r.conn == c && r.unacked == m {
		r.unacked = nil
		r.pending = 0
	}
}

// respond sends the reply, with whatever goes wrong with it.
func (c *conn) respond(m *message, rep *reply, a Action) {
	if a.Garbage != nil {
		c.write(websocket.MessageText, a.Garbage)
	}
	if a.UnknownRef {
		c.reply(m, "no-such-ref", ok(map[string]any{}))
	}
	c.answered(m)
	c.reply(m, *m.ref, rep)
	if a.Twice {
		c.reply(m, *m.ref, rep)
	}
	if a.Channel != "" {
		c.s.mu.Lock()
		joined := c.topics[m.topic]
		c.forget(m.topic)
		c.ended[m.topic] = true
		c.s.mu.Unlock()
		c.send(joined, joined, m.topic, a.Channel, map[string]any{})
	}
}

// forget ends a topic on this socket. s.mu is held.
func (c *conn) forget(topic string) {
	delete(c.topics, topic)
	if topic == queueTopic {
		c.queueRef = nil
	}
	if r := c.s.run(topic); r != nil && r.conn == c {
		r.conn, r.pending = nil, 0
	}
}

// reply is what a message is answered with: a response, or bytes.
type reply struct {
	status   string
	response any
	bytes    []byte // not nil: a dataclip
}

func ok(response any) *reply { return &reply{status: "ok", response: response} }

func refuse(reason string) *reply {
	return &reply{status: "error", response: map[string]any{"reason": reason}}
}

// reply sends a reply to m under a ref.
func (c *conn) reply(m *message, ref string, rep *reply) {
	if rep.bytes != nil && !c.s.options.DataclipBytes {
		c.binary(m, ref, rep.bytes)
		return
	}
	event := "phx_reply"
	if c.s.options.LegacyReplies {
		event = "chan_reply_" + ref
	}
	response := rep.response
	if rep.bytes != nil {
		values := make([]int, len(rep.bytes))
		for i, b := range rep.bytes {
			values[i] = int(b)
		}
		response = values
	}
	c.send(m.joinRef, &ref, m.topic, event, map[string]any{"status": rep.status, "response": response})
}

// binary sends a reply as a V2 binary frame.
func (c *conn) binary(m *message, ref string, payload []byte) {
	join := ""
	if m.joinRef != nil {
		join = *m.joinRef
	}
	status := "ok"
	head := []byte{1, byte(len(join)), byte(len(ref)), byte(len(m.topic)), byte(len(status))}
	head = append(head, join+ref+m.topic+status...)
	ctx, cancel := context.WithTimeout(c.s.ctx, writeTimeout)
	defer cancel()
	w, err := c.ws.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return
	}
	if _, err = w.Write(head); err == nil {
		_, err = w.Write(payload)
	}
	// A socket that fails here ends in serve.
	_ = errors.Join(err, w.Close())
}

func (c *conn) send(joinRef, ref *string, topic, event string, payload any) {
	b, err := json.Marshal([]any{joinRef, ref, topic, event, payload})
	if err != nil {
		panic(err) // what is sent was made here or parsed before
	}
	c.write(websocket.MessageText, b)
}

// writeTimeout is how long a worker may take to read what it is sent.
const writeTimeout = time.Minute

func (c *conn) write(kind websocket.MessageType, b []byte) {
	ctx, cancel := context.WithTimeout(c.s.ctx, writeTimeout)
	defer cancel()
	_ = c.ws.Write(ctx, kind, b) // a socket that fails here ends in serve
}
