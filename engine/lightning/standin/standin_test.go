package standin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a worker that sends what it is told.
type client struct {
	t    *testing.T
	ws   *websocket.Conn
	refs int
	join map[string]string
}

func serve(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dial(t *testing.T, s *Server) *client {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "urn:openfn:worker", "worker_id": "w", "iat": 1}).SignedString([]byte(s.Secret()))
	if err != nil {
		t.Fatal(err)
	}
	q := url.Values{"token": {token}, "api_version": {"1.2"}, "worker_version": {"1"}, "vsn": {"2.0.0"}}
	ws, _, err := websocket.Dial(t.Context(), s.URL()+"/websocket?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { ws.CloseNow() })
	return &client{t: t, ws: ws, join: make(map[string]string)}
}

func (c *client) send(topic, event, payload string) string {
	c.t.Helper()
	c.refs++
	ref := fmt.Sprint(c.refs)
	if event == "phx_join" {
		c.join[topic] = ref
	}
	join := "null"
	if j := c.join[topic]; j != "" {
		join = `"` + j + `"`
	}
	text := fmt.Sprintf(`[%s,"%s","%s","%s",%s]`, join, ref, topic, event, payload)
	if err := c.ws.Write(c.t.Context(), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
	return ref
}

// push sends and returns the reply's status and response.
func (c *client) push(topic, event, payload string) (string, json.RawMessage) {
	c.t.Helper()
	ref := c.send(topic, event, payload)
	for {
		kind, b, err := c.ws.Read(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if kind == websocket.MessageBinary {
			n := 5 + int(b[1]) + int(b[2]) + int(b[3]) + int(b[4])
			return "ok", b[n:]
		}
		var frame [5]json.RawMessage
		if err := json.Unmarshal(b, &frame); err != nil {
			c.t.Fatal(err)
		}
		if string(frame[1]) != `"`+ref+`"` {
			continue
		}
		var p struct {
			Status   string
			Response json.RawMessage
		}
		if err := json.Unmarshal(frame[4], &p); err != nil {
			c.t.Fatal(err)
		}
		return p.Status, p.Response
	}
}

func (c *client) ok(topic, event, payload string) json.RawMessage {
	c.t.Helper()
	status, response := c.push(topic, event, payload)
	if status != "ok" {
		c.t.Fatalf("%s: %s %s", event, status, response)
	}
	return response
}

const simplePlan = `{"starting_node_id":"t","triggers":[{"id":"t"}],"jobs":[{"id":"j","body":"fn(s=>s)","credential_id":"c"}],
	"edges":[{"id":"e","source_trigger_id":"t","target_job_id":"j","condition":"always"}]}`

func simpleRun() Run {
	return Run{Plan: json.RawMessage(simplePlan), Dataclip: json.RawMessage(`{"a":1}`), Credentials: map[string]json.RawMessage{"c": json.RawMessage(`{"password":"x"}`)}}
}

// claim joins the queue and claims the one run that waits.
func (c *client) claim() (topic string) {
	c.t.Helper()
	c.ok("worker:queue", "phx_join", `{"capacity":2,"queues":{"manual>*":2}}`)
	var claimed struct{ Runs []struct{ ID, Token string } }
	response := c.ok("worker:queue", "claim", `{"demand":1,"worker_name":null,"queues":["manual","*"]}`)
	if err := json.Unmarshal(response, &claimed); err != nil || len(claimed.Runs) != 1 {
		c.t.Fatalf("%s %v", response, err)
	}
	topic = "run:" + claimed.Runs[0].ID
	c.ok(topic, "phx_join", `{"token":"`+claimed.Runs[0].Token+`"}`)
	return topic
}

func now() string { return fmt.Sprintf(`"%d"`, time.Now().UnixMicro()) }

const stepID, clipID = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"

func complete(fields string) string {
	return `{"step_id":"` + stepID + `","job_id":"j","mem":{"job":1,"system":2},"duration":3,"thread_id":1,"timestamp":` + now() +
		`,"reason":"success","error_type":null,"error_message":null` + fields + `}`
}

func TestARun(t *testing.T) {
	s := serve(t, Options{})
	id, err := s.Enqueue(simpleRun())
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	topic := c.claim()
	var plan struct {
		ID         string
		DataclipID string `json:"dataclip_id"`
	}
	if err := json.Unmarshal(c.ok(topic, "fetch:plan", `{}`), &plan); err != nil || "run:"+plan.ID != topic {
		t.Fatal(plan, err)
	}
	if got := c.ok(topic, "fetch:dataclip", `{"id":"`+plan.DataclipID+`"}`); string(got) != `{"a":1}` {
		t.Errorf("dataclip %s", got)
	}
	if got := c.ok(topic, "fetch:credential", `{"id":"c"}`); string(got) != `{"password":"x"}` {
		t.Errorf("credential %s", got)
	}
	c.ok(topic, "run:start", `{"versions":{"worker":"1","node":"2","engine":"3"},"timestamp":`+now()+`}`)
	start := `{"step_id":"` + stepID + `","job_id":"j","timestamp":` + now() + `,"input_dataclip_id":"` + plan.DataclipID + `"}`
	c.ok(topic, "step:start", start)
	line := `"message":["hello",1],"source":"JOB","level":"info","timestamp":` + now() + `,"step_id":"` + stepID + `"`
	c.ok(topic, "run:log", `{"run_id":"`+id+`",`+line+`}`)
	c.ok(topic, "run:batch_logs", `{"run_id":"`+id+`","logs":[{`+line+`},{`+line+`}]}`)
	c.ok(topic, "step:complete", complete(`,"output_dataclip_id":"`+clipID+`","output_dataclip":"{\"a\":\"\\u00e9\u00e9\\n\\\"\"}"`))
	c.ok(topic, "run:complete", `{"timestamp":`+now()+`,"final_state":{"a":1},"final_dataclip_id":"`+clipID+`","reason":"success","error_type":null,"error_message":null}`)
	c.ok(topic, "phx_leave", `{}`)
	record, err := s.Wait(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range s.Violations() {
		t.Error(v)
	}
	clip := record.Dataclips[clipID]
	if want := `{"a":"\u00e9é\n\""}`; string(clip.Text) != want || clip.Form != "string" {
		t.Errorf("dataclip %s %s, want %s", clip.Form, clip.Text, want)
	}
	if record.LogLines != 3 || len(record.Steps) != 1 || record.Steps[0].Output != clipID || record.Reason != "success" || len(record.Events) != 6 {
		t.Errorf("record %+v", record)
	}
}

// started brings a run to its first step.
func started(t *testing.T, o Options) (*Server, *client, string) {
	t.Helper()
	s := serve(t, o)
	if _, err := s.Enqueue(simpleRun()); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	topic := c.claim()
	c.ok(topic, "fetch:plan", `{}`)
	c.ok(topic, "run:start", `{"versions":{"worker":"1","node":"2","engine":"3"},"timestamp":`+now()+`}`)
	record, err := s.Run(topic[4:])
	if err != nil {
		t.Fatal(err)
	}
	c.ok(topic, "step:start", `{"step_id":"`+stepID+`","job_id":"j","timestamp":`+now()+`,"input_dataclip_id":"`+record.Input+`"}`)
	return s, c, topic
}

func TestViolations(t *testing.T) {
	output := `,"output_dataclip_id":"` + clipID + `","output_dataclip":`
	for name, v := range map[string]struct{ event, payload, want string }{
		"missing field":      {"run:log", `{}`, "run_id is missing"},
		"text timestamp":     {"step:complete", strings.Replace(complete(output+`"{}"`), now()[:5], `"x`, 1), "microseconds"},
		"number timestamp":   {"run:complete", `{"timestamp":1,"reason":"success","error_type":null,"error_message":null}`, "timestamp is 1"},
		"milliseconds":       {"run:complete", fmt.Sprintf(`{"timestamp":"%d","reason":"success","error_type":null,"error_message":null}`, time.Now().UnixMilli()), "not of today"},
		"open step":          {"run:complete", `{"timestamp":` + now() + `,"reason":"success","error_type":null,"error_message":null}`, "has no step:complete"},
		"text in the string": {"step:complete", complete(output + `"{\"a\":}"`), "not JSON"},
		"half a character":   {"step:complete", complete(output + `"{\"a\":\"\ud800x\"}"`), "half of a character"},
		"no object":          {"step:complete", complete(output + `"[1]"`), "must be an object"},
		"no output":          {"step:complete", complete(``), "no output_dataclip_id"},
		"both":               {"step:complete", complete(output + `"{}","output_dataclip_error":"DATACLIP_TOO_LARGE"`), "and an id"},
		"extra field":        {"step:complete", complete(output + `"{}","mood":1`), `"mood"`},
		"unknown event":      {"run:party", `{}`, "no such event"},
		"second start":       {"run:start", `{"versions":{"worker":"1","node":"2","engine":"3"},"timestamp":` + now() + `}`, "started before"},
		"unknown dataclip":   {"fetch:dataclip", `{"id":"x"}`, "not known"},
		"array":              {"run:log", `[]`, "must be an object"},
		"closed step's line": {"run:log", `{"run_id":"x","message":[],"source":"JOB","level":"info","timestamp":` + now() + `,"step_id":"y"}`, "not open"},
		"success with error": {"step:complete", strings.Replace(complete(output+`"{}"`), `"error_type":null`, `"error_type":"X"`, 1), "success has an error"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c, topic := started(t, Options{})
			if status, _ := c.push(topic, v.event, v.payload); status != "error" {
				t.Errorf("status %s", status)
			}
			for _, got := range s.Violations() {
				if strings.Contains(got.Text, v.want) {
					return
				}
			}
			t.Errorf("%v, want one with %q", s.Violations(), v.want)
		})
	}
}

func TestOneEventAtATime(t *testing.T) {
	s, c, topic := started(t, Options{Hook: func(p Push) Action {
		if p.Event == "run:log" && p.Count == 1 {
			return Action{Delay: 50 * time.Millisecond}
		}
		return Action{}
	}})
	line := `{"run_id":"` + topic[4:] + `","message":[],"source":"JOB","level":"info","timestamp":` + now() + `}`
	c.send(topic, "run:log", line)
	c.push(topic, "run:log", strings.Replace(line, "[]", "[1]", 1))
	if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0].Text, "before the acknowledgement") {
		t.Error(v)
	}
}

func TestADuplicateIsDropped(t *testing.T) {
	s, c, topic := started(t, Options{Hook: func(p Push) Action {
		return Action{DropAfter: p.Event == "run:log" && p.Count == 1}
	}})
	line := `{"run_id":"` + topic[4:] + `","message":[],"source":"JOB","level":"info","timestamp":` + now() + `}`
	c.send(topic, "run:log", line)
	if _, _, err := c.ws.Read(t.Context()); err == nil {
		t.Fatal("the socket is open")
	}
	c = dial(t, s)
	s.mu.Lock()
	token := s.run(topic).token
	s.mu.Unlock()
	c.ok("worker:queue", "phx_join", `{"capacity":1}`)
	c.ok(topic, "phx_join", `{"token":"`+token+`"}`)
	c.ok(topic, "run:log", line)
	c.ok(topic, "run:log", strings.Replace(line, "[]", "[1]", 1))
	record, err := s.Run(topic[4:])
	if err != nil || record.LogLines != 2 || record.Duplicates != 1 || record.Joins != 2 {
		t.Errorf("%+v %v", record, err)
	}
	for _, v := range s.Violations() {
		t.Error(v)
	}
}

func TestALargeFrameDropsTheSocket(t *testing.T) {
	s, c, topic := started(t, Options{MaxFrame: 10_000})
	payload := complete(`,"output_dataclip_id":"` + clipID + `","output_dataclip":{"a":"` + strings.Repeat("x", 10_000) + `"}`)
	frame := fmt.Sprintf(`["%s","x","%s","step:complete",%s]`, c.join[topic], topic, payload)
	_ = c.ws.Write(t.Context(), websocket.MessageText, []byte(frame)) // it may be cut off
	if _, _, err := c.ws.Read(t.Context()); err == nil {
		t.Fatal("the socket is open")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Until(ctx, func() bool { return s.Wire().Oversized == 1 }); err != nil {
		t.Errorf("%v: %+v", err, s.Wire())
	}
}
