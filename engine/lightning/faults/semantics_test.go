package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine/lightning"
	"github.com/millrace/millrace/engine/lightning/standin"
)

// TestReasons: how a run ends, and what its open step is told first.
func TestReasons(t *testing.T) {
	for name, c := range map[string]struct {
		body    string
		options object
		reason  string
		kind    string
		text    string
	}{
		"fail":    {`throw new Error('no luck')`, nil, "fail", "", "no luck"},
		"type":    {`state.x.y.z = 1`, nil, "fail", "RuntimeError", "reading 'y'"},
		"crash":   {`nothere()`, nil, "crash", "ReferenceError", "nothere"},
		"timeout": {`while (true);`, object{"run_timeout_ms": 500}, "kill", "TimeoutError", "500"},
		"memory":  {`const all = []; for (;;) all.push(Array(1e5).fill(all.length))`, object{"run_memory_limit_mb": 200}, "kill", "OOMError", "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, standin.Options{}, nil)
			record := r.finish(r.enqueue(line(c.options, c.body)))
			if record.Reason != c.reason || c.kind != "" && record.ErrorType != c.kind || !strings.Contains(record.ErrorMessage, c.text) {
				t.Errorf("%s: %s: %s", record.Reason, record.ErrorType, record.ErrorMessage)
			}
			step := record.Step("a", 0)
			if step == nil || step.Reason != c.reason {
				t.Fatalf("step: %+v", step)
			}
			if c.reason == "fail" && !strings.Contains(state(t, record, "a", 0), `"errors"`) {
				t.Errorf("its state has no errors: %s", state(t, record, "a", 0))
			}
			if !logged(record, "R/T", "", "Run complete with status: "+c.reason) {
				t.Error("no line tells how the run ended")
			}
		})
	}
}

// logged reports whether there is such a line; step "" is any.
func logged(record *standin.RunRecord, source, step, text string) bool {
	for _, l := range record.Logs {
		if l.Source == source && (step == "" || l.Step == step) && strings.Contains(string(l.Message), text) {
			return true
		}
	}
	return false
}

// TestLeaves: two branches, each with a state of its own.
func TestLeaves(t *testing.T) {
	job := func(id, body string) object {
		return object{"id": id, "body": "export default [(state) => {" + body + "; return state; }];"}
	}
	edge := func(from, to, condition string) object {
		return object{"id": from + to, "source_job_id": from, "target_job_id": to, "condition": condition}
	}
	run := runOf(object{
		"starting_node_id": "a", "triggers": []object{},
		"jobs":  []object{job("a", "state.n = 1"), job("b", "state.n = 2"), job("c", "state.n = 3"), job("d", ""), job("e", "")},
		"edges": []object{edge("a", "b", "always"), edge("a", "c", "state.n === 1"), edge("a", "d", "on_job_failure"), {"id": "x", "source_job_id": "a", "target_job_id": "e", "condition": "always", "enabled": false}},
	})
	r := newRig(t, standin.Options{}, nil)
	record := r.run(run)
	var final map[string]struct{ N int }
	if err := json.Unmarshal(record.Final.Text, &final); err != nil || len(final) != 2 || final["b"].N != 2 || final["c"].N != 3 {
		t.Errorf("final state %s %v", record.Final.Text, err)
	}
	if record.FinalID != "" || len(record.Steps) != 3 {
		t.Errorf("final id %q, %d steps", record.FinalID, len(record.Steps))
	}
	if b := record.Step("b", 0); b.Input != record.Step("a", 0).Output {
		t.Error("b's input is not a's output")
	}
}

// TestTooLarge: a dataclip above the limit is withheld, and the run goes on
// with the whole state.
func TestTooLarge(t *testing.T) {
	r := newRig(t, standin.Options{}, nil)
	record := r.run(line(object{"payload_limit_mb": 1},
		`state.big = 'x'.repeat(2e6)`, `state.length = state.big.length; delete state.big`))
	a, b := record.Step("a", 0), record.Step("b", 0)
	if a.OutputError != "DATACLIP_TOO_LARGE" || b.Input != "" || !strings.Contains(state(t, record, "b", 0), `"length":2000000`) {
		t.Errorf("%+v %+v %s", a, b, state(t, record, "b", 0))
	}
	if !logged(record, "R/T", "", "limit") {
		t.Error("no line tells of it")
	}
}

// TestEscapingCounts: a dataclip is measured as it goes over the wire.
func TestEscapingCounts(t *testing.T) {
	r := newRig(t, standin.Options{}, func(o *lightning.Options) { o.Encoding = lightning.EncodingAuto })
	record := r.run(line(object{"payload_limit_mb": 1}, `state.big = Array(250000).fill('')`))
	if d := record.Dataclips[record.Step("a", 0).Output]; d.Form != "object" || d.Size < 750_000 {
		t.Errorf("%s of %d bytes", d.Form, d.Size)
	}
}

func TestWithoutOutputDataclips(t *testing.T) {
	r := newRig(t, standin.Options{}, nil)
	record := r.run(line(object{"output_dataclips": false}, `state.n = 1`, `state.n++`))
	a, b := record.Step("a", 0), record.Step("b", 0)
	if a.Output == "" || b.Input != a.Output || !record.Dataclips[a.Output].Withheld {
		t.Errorf("%+v %+v", a, b)
	}
}

func TestWebhookResponse(t *testing.T) {
	r := newRig(t, standin.Options{}, nil)
	record := r.run(line(nil, `state.webhookResponse = { status: 201, body: { done: true } }`))
	if got := string(record.Step("a", 0).WebhookResponse); got != `{"status":201,"body":{"done":true}}` {
		t.Errorf("%s", got)
	}
}

// TestCredentialsAreNowhere: not in a line, an error, a state, or anything else
// that the server receives.
func TestCredentialsAreNowhere(t *testing.T) {
	const secret, other = "hunter2-is-secret", "abc/+secret=="
	var mu sync.Mutex
	var all bytes.Buffer
	r := newRig(t, standin.Options{Tap: func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		all.Write(b)
	}}, nil)
	run := runOf(object{
		"starting_node_id": "a", "triggers": []object{},
		"jobs": []object{{"id": "a", "credential_id": "mine", "body": `export default [(state) => {
			const c = state.configuration;
			console.log('password', c.password, c);
			console.log(JSON.stringify({ nested: { c } }));
			console.error(new Error('bad ' + c.password));
			throw new Error('cannot log in with ' + c.password + ' and ' + c.deep.token);
		}];`}},
		"edges": []object{},
	})
	run.Credentials = map[string]json.RawMessage{"mine": json.RawMessage(fmt.Sprintf(`{"username":"me","password":%q,"deep":{"token":%q}}`, secret, other))}
	record := r.finish(r.enqueue(run))
	if record.Reason != "fail" || len(user(record)) < 3 {
		t.Errorf("%s, %q", record.Reason, user(record))
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range []string{secret, other} {
		if i := strings.Index(all.String(), s); i >= 0 {
			t.Errorf("the server received %q: …%s…", s, all.String()[max(0, i-200):i+len(s)])
		}
	}
}

// TestStop: everything ends at once, with the server none the wiser.
func TestStop(t *testing.T) {
	r := newRig(t, standin.Options{}, func(o *lightning.Options) { o.Limits.RunTimeout = time.Hour })
	id := r.enqueue(line(nil, `while (true)`))
	r.until("the step starts", func() bool {
		record, err := r.Run(id)
		return err == nil && len(record.Steps) == 1
	})
	r.allowed = "left before run:complete"
	r.worker.Stop()
	if err := r.stopped(); errors.Is(err, errStuck) {
		t.Error(err) // the step would go on until the run's time is over
	} else if err != nil {
		t.Log("ended with:", err)
	}
}

// TestManyRuns: nothing is lost, mixed up or out of order.
func TestManyRuns(t *testing.T) {
	n := 60
	if os.Getenv("MILLRACE_SOAK") != "" {
		n = 200
	}
	r := newRig(t, standin.Options{}, func(o *lightning.Options) { o.Workloops = lightning.DefaultWorkloops(20) })
	ids := make([]string, n)
	for i := range ids {
		run := line(nil, `console.log(0); state.mine = state.data.n`, `console.log(1)`)
		run.Dataclip = json.RawMessage(fmt.Sprintf(`{"data":{"n":%d}}`, i))
		ids[i] = r.enqueue(run)
	}
	deadline := time.Now().Add(3 * patience)
	r.untilBy(deadline, "all runs", func() bool { return r.Count("run:complete") >= n })
	for i, id := range ids {
		record := r.finish(id)
		r.wantCounted(record, 2)
		r.wantEvents(record, "run:start, step:start a, step:complete a, step:start b, step:complete b, run:complete")
		if s := state(t, record, "b", 0); !strings.Contains(s, fmt.Sprintf(`"mine":%d}`, i)) {
			t.Errorf("run %d: %s", i, s)
		}
	}
}
