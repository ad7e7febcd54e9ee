package phoenix

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestJoinPushLeave(t *testing.T) {
	s := newServer(t, func(c *peer, m inbound) bool {
		switch m.Event {
		case "phx_join":
			c.ok(m, `{"hello":1}`)
		case "old":
			c.send(fmt.Sprintf(`[null,null,%q,"chan_reply_%s",{"status":"ok","response":"old"}]`, m.Topic, *m.Ref))
		case "bad":
			c.reply(m, "error", `{"reason":"no"}`)
		default:
			c.ok(m, string(m.Payload))
		}
		return true
	})
	o := s.options()
	o.Query = func() (url.Values, error) { return url.Values{"token": {"t&k"}, "api_version": {"1.2"}}, nil }
	socket := s.dial(o)
	ctx := testContext(t)
	c := socket.Channel("run:1", func() ([]byte, error) { return []byte(`{"token":"abc"}`), nil })
	if _, err := c.Push(ctx, "early", JSON(1), PushOptions{}); !errors.Is(err, ErrNotJoined) {
		t.Errorf("before the join: %v", err)
	}
	got, err := c.Join(ctx)
	if err != nil || string(got) != `{"hello":1}` {
		t.Fatalf("join: %s, %v", got, err)
	}
	for _, p := range []string{`{"a":[1,"x"]}`, `5`, `"é\n"`} {
		reply, err := c.Push(ctx, "echo", Raw(json.RawMessage(p)), PushOptions{})
		if err != nil || string(reply.Response) != p {
			t.Errorf("%s: %+v, %v", p, reply, err)
		}
	}
	if reply, err := c.Push(ctx, "old", JSON(nil), PushOptions{}); err != nil || string(reply.Response) != `"old"` {
		t.Errorf("older reply: %+v, %v", reply, err)
	}
	var refusal *ReplyError
	if _, err := c.Push(ctx, "bad", JSON(nil), PushOptions{}); !errors.As(err, &refusal) || refusal.Status != "error" || string(refusal.Response) != `{"reason":"no"}` {
		t.Errorf("refused: %v", err)
	}
	if err := c.Leave(ctx); err != nil {
		t.Error(err)
	}
	if len(s.events("phx_leave")) != 1 {
		t.Error("the server saw no leave")
	}
	var closed *ClosedError
	if _, err := c.Push(ctx, "late", JSON(1), PushOptions{}); !errors.As(err, &closed) {
		t.Errorf("after the leave: %v", err)
	}
	if q, _ := url.ParseQuery(s.query[0]); q.Get("token") != "t&k" || q.Get("vsn") != "2.0.0" || q.Get("api_version") != "1.2" {
		t.Errorf("query %s", s.query[0])
	}
	if s.events("phx_join")[0] != `{"token":"abc"}` {
		t.Error(s.events("phx_join"))
	}
	if n := socket.Stats().Outbox; n != 0 {
		t.Errorf("%d pushes left in the outbox", n)
	}
}

func TestDialFails(t *testing.T) {
	s := newServer(t, nil)
	o := s.options()
	o.Query = func() (url.Values, error) { return url.Values{"token": {"secret"}}, nil }
	o.URL = s.http.URL + "/%zz"
	if _, err := Dial(t.Context(), o); err == nil {
		t.Error("a bad address was accepted")
	}
	s.http.Close()
	o.URL = s.http.URL
	_, err := Dial(t.Context(), o)
	var failed *ConnectError
	if !errors.As(err, &failed) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	o.KeepTrying = true
	socket, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if socket.Connected() {
		t.Error("connected to nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := socket.Channel("x", nil).Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("joined nothing: %v", err)
	}
	socket.Close()
}

func TestJoinRefused(t *testing.T) {
	refuse := true
	s := newServer(t, func(c *peer, m inbound) bool {
		if refuse && m.Event == "phx_join" {
			c.reply(m, "error", `{"reason":"unauthorized"}`)
			return true
		}
		c.ok(m, "{}")
		return true
	})
	socket := s.dial(s.options())
	c := socket.Channel("run:1", nil)
	var refusal *ReplyError
	if _, err := c.Join(testContext(t)); !errors.As(err, &refusal) || refusal.Event != "phx_join" {
		t.Fatalf("got %v", err)
	}
	refuse = false
	if _, err := c.Join(testContext(t)); err != nil {
		t.Errorf("the second join: %v", err)
	}
}

// The server refuses to let a channel rejoin: its pushes fail, other channels
// live on.
func TestRejoinRefused(t *testing.T) {
	s := newServer(t, func(c *peer, m inbound) bool {
		switch {
		case m.Event == "phx_join" && m.Topic == "run:gone" && c.count > 1:
			c.reply(m, "error", `{"reason":"gone"}`)
		case m.Event == "drop":
			return false
		default:
			c.ok(m, "{}")
		}
		return true
	})
	o := s.options()
	o.RejoinAttempts = 2
	socket, gone := s.join(o, "run:gone")
	other := socket.Channel("run:other", nil)
	if _, err := other.Join(testContext(t)); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 2)
	gone.OnClose(func(err error) { told <- err })
	if _, err := other.Push(testContext(t), "drop", JSON(1), PushOptions{}); !errors.Is(err, ErrDisconnected) {
		t.Errorf("not to be resent: %v", err)
	}
	_, err := gone.Push(testContext(t), "x", JSON(1), PushOptions{Resend: true})
	var closed *ClosedError
	var refusal *ReplyError
	if !errors.As(err, &closed) || !errors.As(err, &refusal) {
		t.Errorf("got %v", err)
	}
	if err := <-told; !errors.As(err, &closed) {
		t.Errorf("told %v", err)
	}
	if _, err := other.Push(testContext(t), "x", JSON(1), PushOptions{}); err != nil {
		t.Errorf("the other channel: %v", err)
	}
}

// Ten times the connection breaks, at different moments; every event arrives,
// in order, and none twice but those whose acknowledgement was lost.
func TestReconnectsKeepOrder(t *testing.T) {
	for _, framing := range []Framing{Fragmented, Whole} {
		t.Run(fmt.Sprint(framing), func(t *testing.T) {
			const breaks = 10
			seen := map[string][]int{}
			drops, applied := 0, 0
			s := newServer(t, nil)
			s.handle = func(c *peer, m inbound) bool {
				if m.Event != "event" {
					c.ok(m, "{}")
					return true
				}
				var p struct{ Run, N int }
				if err := json.Unmarshal(m.Payload, &p); err != nil {
					t.Error(err)
				}
				s.mu.Lock()
				list := seen[m.Topic]
				fresh := len(list) == 0 || list[len(list)-1] < p.N // by id, as a server would
				if fresh {
					seen[m.Topic] = append(list, p.N)
					applied++
				}
				drop := fresh && drops < breaks && applied%17 == 0
				if drop {
					drops++
				}
				unanswered := drop && applied%2 == 0
				s.mu.Unlock()
				if unanswered {
					return false // handled, and not acknowledged
				}
				c.ok(m, "{}")
				return !drop
			}
			o := s.options()
			o.Framing = framing
			socket, first := s.join(o, "run:0")
			channels := []*Channel{first}
			for i := 1; i < 3; i++ {
				c := socket.Channel(fmt.Sprint("run:", i), nil)
				if _, err := c.Join(testContext(t)); err != nil {
					t.Fatal(err)
				}
				channels = append(channels, c)
			}
			const events = 100
			ctx := testContext(t)
			var group sync.WaitGroup
			for i, c := range channels {
				group.Go(func() {
					for n := range events {
						if _, err := c.Push(ctx, "event", JSON(map[string]int{"run": i, "n": n}), PushOptions{Resend: true}); err != nil {
							t.Errorf("run %d, event %d: %v", i, n, err)
							return
						}
					}
				})
			}
			group.Wait()
			if drops != breaks {
				t.Errorf("%d drops", drops)
			}
			for topic, list := range seen {
				for i, n := range list {
					if n != i {
						t.Fatalf("%s: event %d in place %d", topic, n, i)
					}
				}
				if len(list) != events {
					t.Errorf("%s: %d events", topic, len(list))
				}
			}
			if got := socket.Stats(); got.Connects != breaks+1 || got.Unmatched != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Pushes that are under way together keep the order in which they were made.
func TestPipelinedPushesKeepOrder(t *testing.T) {
	var order []int
	s := newServer(t, nil)
	s.handle = func(c *peer, m inbound) bool {
		if m.Event != "event" {
			c.ok(m, "{}")
			return true
		}
		var n int
		json.Unmarshal(m.Payload, &n)
		if c.count == 1 {
			return n < 19 // takes them all, acknowledges none
		}
		s.mu.Lock()
		order = append(order, n)
		s.mu.Unlock()
		c.ok(m, "{}")
		return true
	}
	socket, c := s.join(s.options(), "run:1")
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			if _, err := c.Push(testContext(t), "event", JSON(n), PushOptions{Resend: true}); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the push is in the outbox", func() bool { return socket.Stats().Outbox > n || n == 19 })
	}
	group.Wait()
	for i, n := range order {
		if i != n {
			t.Fatalf("order %v", order)
		}
	}
}

func TestReplyTimes(t *testing.T) {
	s := newServer(t, nil)
	s.handle = func(c *peer, m inbound) bool {
		switch m.Event {
		case "silent":
		case "twice":
			c.ok(m, "1")
			c.ok(m, "2")
		case "late":
			time.AfterFunc(60*time.Millisecond, func() { c.ok(m, "{}") })
		case "unknown":
			c.send(`[null,"99999","run:1","phx_reply",{"status":"ok","response":{}}]`)
			c.send(`[null,` + fmt.Sprintf("%q", *m.Ref) + `,"run:2","phx_reply",{"status":"ok","response":"another topic's"}]`)
			c.ok(m, "{}")
		default:
			c.ok(m, "{}")
		}
		return true
	}
	o := s.options()
	o.ReplyTimeout = 20 * time.Millisecond
	socket, c := s.join(o, "run:1")
	ctx := testContext(t)
	var late *TimeoutError
	for _, event := range []string{"silent", "late"} {
		if _, err := c.Push(ctx, event, JSON(1), PushOptions{}); !errors.As(err, &late) || late.Timeout != o.ReplyTimeout {
			t.Errorf("%s: %v", event, err)
		}
	}
	if _, err := c.Push(ctx, "late", JSON(1), PushOptions{Timeout: 10 * time.Second}); err != nil {
		t.Errorf("with patience: %v", err)
	}
	if r, err := c.Push(ctx, "twice", JSON(1), PushOptions{}); err != nil || string(r.Response) != "1" {
		t.Errorf("twice: %+v, %v", r, err)
	}
	if r, err := c.Push(ctx, "unknown", JSON(1), PushOptions{}); err != nil || string(r.Response) != "{}" {
		t.Errorf("unknown: %+v, %v", r, err)
	}
	eventually(t, "four replies to nothing", func() bool { return socket.Stats().Unmatched == 4 })
	if socket.Stats().Connects != 1 {
		t.Error("the connection did not survive")
	}
}

func TestGarbage(t *testing.T) {
	garbage := []string{
		``, `{}`, `[]`, `[1]`, `nonsense`, `["1","2","run:1","phx_reply"]`, `[null,null,"run:1","x",{]`,
		"[\x00", `[[[[[[`, `["` + strings.Repeat("x", 2*maxName) + `"]`,
		`[null,null,"run:1",5,{}]`, `[null,null,"run:1","x",` + strings.Repeat("[", 100_000),
	}
	s := newServer(t, nil)
	s.handle = func(c *peer, m inbound) bool {
		if m.Event == "garbage" {
			for _, g := range garbage {
				c.send(g)
			}
			for _, b := range [][]byte{{}, {1}, {1, 255, 255, 255, 255}, {0, 1, 1, 1}, {7}, {2, 1, 1, 'a', 'b', 'c'}} {
				c.Write(context.Background(), websocket.MessageBinary, b)
			}
		}
		c.ok(m, "{}")
		return true
	}
	socket, c := s.join(s.options(), "run:1")
	if _, err := c.Push(testContext(t), "garbage", JSON(1), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := socket.Stats(); got.Connects != 1 || got.Garbage != int64(len(garbage))+6 {
		t.Errorf("%+v", got)
	}
}

func TestMalformedReplies(t *testing.T) {
	for _, body := range []string{`5`, `{"response":{}}`, `{"status":"ok","response":nope}`, `{"status":5}`, `{"status":"ok","response":[1,2,300]}`, `{"status":"ok","response":[1,,2]}`, `{"status":"ok","response":[1,2`} {
		s := newServer(t, func(c *peer, m inbound) bool {
			if m.Event == "phx_join" {
				c.ok(m, "{}")
			} else {
				c.send(fmt.Sprintf(`[null,%q,"run:1","phx_reply",%s]`, *m.Ref, body))
			}
			return true
		})
		socket, c := s.join(s.options(), "run:1")
		var out closer
		_, err := c.Push(testContext(t), "x", JSON(1), PushOptions{Into: out.into})
		var bad *FormatError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %v", body, err)
		}
		if socket.Stats().Connects != 1 {
			t.Errorf("%s: the connection did not survive", body)
		}
	}
}

// closer is where a reply's bytes go.
type closer struct {
	bytes.Buffer
	opened, closed int
}

func (c *closer) into(int64) (io.WriteCloser, error) {
	c.opened++
	c.Reset()
	return c, nil
}

func (c *closer) Close() error {
	c.closed++
	return nil
}

func TestStreamedReplies(t *testing.T) {
	want := make([]byte, 300_000)
	for i := range want {
		want[i] = byte(i * 7)
	}
	var list strings.Builder
	for i, b := range want {
		fmt.Fprintf(&list, "%s%d", map[bool]string{true: " ,\n", false: ","}[i%100 == 0], b)
	}
	array := "[ " + strings.TrimLeft(list.String(), " ,\n") + " ]"
	s := newServer(t, func(c *peer, m inbound) bool {
		switch m.Event {
		case "binary", "binary error":
			status := map[string]string{"binary": "ok", "binary error": "error"}[m.Event]
			b := []byte{1, byte(len(*m.JoinRef)), byte(len(*m.Ref)), byte(len(m.Topic)), byte(len(status))}
			b = append(append(b, *m.JoinRef+*m.Ref+m.Topic+status...), want...)
			c.Write(context.Background(), websocket.MessageBinary, b)
		case "array":
			c.ok(m, array)
		case "status first":
			c.send(fmt.Sprintf(`[null,%q,%q,"phx_reply",{"status":"ok","response":%s}]`, *m.Ref, m.Topic, array))
		case "empty":
			c.ok(m, "[]")
		case "object":
			c.ok(m, `{"a":[1,2]}`)
		case "objects":
			c.ok(m, `[{"a":1}]`)
		case "array error":
			c.reply(m, "error", array)
		default:
			c.ok(m, "{}")
		}
		return true
	})
	o := s.options()
	o.MaxReply = 100_000 // streamed ones have no limit
	_, c := s.join(o, "run:1")
	ctx := testContext(t)
	for event, content := range map[string]string{"binary": string(want), "array": string(want), "status first": string(want), "empty": ""} {
		var out closer
		r, err := c.Push(ctx, event, JSON(1), PushOptions{Into: out.into})
		if err != nil || !r.Streamed || r.Response != nil || r.Size != int64(len(content)) || out.String() != content || out.opened != 1 || out.closed != 1 {
			t.Errorf("%s: %+v, %v; %d bytes, opened %d, closed %d", event, r, err, out.Len(), out.opened, out.closed)
		}
	}
	for event, response := range map[string]string{"object": `{"a":[1,2]}`, "objects": `[{"a":1}]`} {
		var out closer
		r, err := c.Push(ctx, event, JSON(1), PushOptions{Into: out.into})
		if err != nil || r.Streamed || string(r.Response) != response || out.opened != 0 {
			t.Errorf("%s: %+v, %v", event, r, err)
		}
	}
	var refusal *ReplyError
	var out closer
	if _, err := c.Push(ctx, "array error", JSON(1), PushOptions{Into: out.into}); !errors.As(err, &refusal) || out.opened != out.closed {
		t.Errorf("array error: %v", err)
	}
	var large *SizeError
	for _, event := range []string{"binary", "binary error", "array"} {
		if _, err := c.Push(ctx, event, JSON(1), PushOptions{}); !errors.As(err, &large) || large.Limit != o.MaxReply {
			t.Errorf("%s kept: %v", event, err)
		}
	}
	full := errors.New("disk full")
	if _, err := c.Push(ctx, "array", JSON(1), PushOptions{Into: func(int64) (io.WriteCloser, error) { return nil, full }}); !errors.Is(err, full) {
		t.Errorf("nowhere to go: %v", err)
	}
	if _, err := c.Push(ctx, "binary", JSON(1), PushOptions{Into: func(int64) (io.WriteCloser, error) { return failing{full}, nil }}); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
	if _, err := c.Push(ctx, "x", JSON(1), PushOptions{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error              { return nil }

func TestServerEvents(t *testing.T) {
	s := newServer(t, func(c *peer, m inbound) bool {
		switch m.Event {
		case "go":
			c.send(`[null,null,"run:1","work-available",{}]`)
			c.send(`["stale",null,"run:1","work-available","of an earlier life"]`)
			c.send(`[null,null,"run:2","work-available","another's"]`)
			c.send(`[null,null,"run:1","work-available","text"]`)
			c.ok(m, "{}")
		case "crash":
			c.ok(m, "{}")
			c.send(fmt.Sprintf(`[%q,%q,"run:1","phx_error",{}]`, *m.JoinRef, *m.JoinRef))
		case "close":
			c.send(fmt.Sprintf(`[%q,null,"run:1","phx_close",{}]`, *m.JoinRef))
		default:
			c.ok(m, "{}")
		}
		return true
	})
	_, c := s.join(s.options(), "run:1")
	var got []string
	var mu sync.Mutex
	c.On("work-available", func(p json.RawMessage) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(p))
	})
	ctx := testContext(t)
	if _, err := c.Push(ctx, "go", JSON(1), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if fmt.Sprint(got) != `[{} "text"]` {
		t.Errorf("handed out %v", got)
	}
	mu.Unlock()
	if _, err := c.Push(ctx, "crash", JSON(1), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the channel is rejoined after its crash", func() bool { return len(s.events("phx_join")) == 2 })
	if _, err := c.Push(ctx, "go", JSON(1), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	c.OnClose(func(err error) { told <- err })
	var closed *ClosedError
	if _, err := c.Push(ctx, "close", JSON(1), PushOptions{Resend: true}); !errors.As(err, &closed) {
		t.Errorf("closed by the server: %v", err)
	}
	<-told
}
