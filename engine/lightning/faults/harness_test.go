package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/lightning"
	"github.com/millrace/millrace/engine/lightning/standin"
	"github.com/millrace/millrace/engine/uplink/phoenix"
)

// shared is one engine for all tests: starting Node.js is what takes long.
var shared *engine.Engine

func TestMain(m *testing.M) {
	worker, err := filepath.Abs("../../../worker/node/bin/millrace-node-worker.js")
	if err == nil {
		shared, err = engine.New(engine.Options{NodeExecutor: []string{worker}, MaxExecutors: 4})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if programDir != "" {
		os.RemoveAll(programDir)
	}
	if err := shared.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(goleak.IgnoreTopFunction("github.com/millrace/millrace/engine/pool.forkThread")); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// rig is a server and a worker that it has.
type rig struct {
	*standin.Server
	t      *testing.T
	worker *lightning.Worker
	ended  chan error
	// allowed is part of a violation that is none here.
	allowed string
}

// patience is how long any one thing may take, on a busy machine and with the
// race detector. No test passes by waiting for so long.
const patience = 90 * time.Second

// newRig starts both. The worker is quick to try again, so that tests are short.
func newRig(t *testing.T, so standin.Options, change func(*lightning.Options)) *rig {
	t.Helper()
	return newRigFor(t, so, func(_ *standin.Server, o *lightning.Options) {
		if change != nil {
			change(o)
		}
	})
}

// newRigFor is newRig for a worker that is to know something of the server.
func newRigFor(t *testing.T, so standin.Options, change func(*standin.Server, *lightning.Options)) *rig {
	t.Helper()
	if testing.Verbose() {
		so.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", "server")
	}
	server, err := standin.New(so)
	if err != nil {
		t.Fatal(err)
	}
	o := lightning.Options{
		Engine: shared, URL: server.URL(), Secret: server.Secret(), Workloops: lightning.DefaultWorkloops(4),
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, MessageTimeout: patience,
		Socket: phoenix.Options{ReconnectUnit: 5 * time.Millisecond, ReconnectMax: 20 * time.Millisecond},
		Limits: lightning.Limits{Payload: 10 << 20, LogPayload: 1 << 20, RunTimeout: patience},
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("at", "worker")
	}
	change(server, &o)
	worker, err := lightning.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	r := &rig{Server: server, t: t, worker: worker, ended: ended}
	go func() { ended <- worker.Run() }()
	t.Cleanup(r.end)
	return r
}

// end stops both and looks for what was left behind.
func (r *rig) end() {
	r.t.Helper()
	if r.ended != nil {
		r.worker.Retire()
		if err := r.stopped(); err != nil {
			r.t.Error("the worker:", err)
		}
	}
	for _, v := range r.Violations() {
		if r.allowed == "" || !strings.Contains(v.Text, r.allowed) {
			r.t.Error("violation:", v)
		}
	}
	if err := r.Close(); err != nil {
		r.t.Error(err)
	}
	deadline := time.Now().Add(patience)
	for h := shared.Host(); h.StateBytes > 0 || h.Runs > 0; h = shared.Host() {
		if time.Now().After(deadline) {
			r.t.Errorf("left behind: %+v", h)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var errStuck = errors.New("it does not end")

// stopped waits for the worker's end.
func (r *rig) stopped() error {
	r.t.Helper()
	ended := r.ended
	r.ended = nil
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		return errStuck
	}
}

func (r *rig) enqueue(run standin.Run) string {
	r.t.Helper()
	id, err := r.Enqueue(run)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// finish waits for the run's end.
func (r *rig) finish(id string) *standin.RunRecord {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	record, err := r.Wait(ctx, id)
	if err != nil {
		for _, v := range r.Violations() {
			r.t.Error("violation:", v)
		}
		for _, e := range record.Events {
			r.t.Log(e.Time.Format(time.StampMilli), e.Event, e.Job, e.Bytes)
		}
		r.t.Fatal(err)
	}
	return record
}

// run runs it and wants success.
func (r *rig) run(run standin.Run) *standin.RunRecord {
	r.t.Helper()
	record := r.finish(r.enqueue(run))
	if record.Reason != "success" {
		r.t.Errorf("the run ended with %s: %s: %s", record.Reason, record.ErrorType, record.ErrorMessage)
	}
	return record
}

func (r *rig) until(what string, holds func() bool) {
	r.t.Helper()
	r.untilBy(time.Now().Add(patience), what, holds)
}

func (r *rig) untilBy(deadline time.Time, what string, holds func() bool) {
	r.t.Helper()
	ctx, cancel := context.WithDeadline(r.t.Context(), deadline)
	defer cancel()
	if err := r.Until(ctx, holds); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

type object = map[string]any

// line is a run whose jobs a, b, c … follow each other, with the given bodies.
func line(options object, bodies ...string) standin.Run {
	var jobs, edges []object
	for i, body := range bodies {
		id := string(rune('a' + i))
		jobs = append(jobs, object{"id": id, "name": "job " + id, "body": "export default [(state) => {" + body + "; return state; }];"})
		edge := object{"id": "to-" + id, "target_job_id": id, "condition": "always"}
		if i == 0 {
			edge["source_trigger_id"] = "trigger"
		} else {
			edge["source_job_id"] = string(rune('a' + i - 1))
		}
		edges = append(edges, edge)
	}
	return runOf(object{
		"starting_node_id": "trigger", "triggers": []object{{"id": "trigger", "type": "webhook"}},
		"jobs": jobs, "edges": edges, "options": options,
	})
}

func runOf(plan object) standin.Run {
	text, err := json.Marshal(plan)
	if err != nil {
		panic(err) // it is made of literals
	}
	return standin.Run{Plan: text, Dataclip: json.RawMessage(`{"data":{"n":1}}`)}
}

// user returns the messages that the jobs' code logged, in order.
func user(record *standin.RunRecord) []string {
	var all []string
	for _, l := range record.Logs {
		var parts []any
		if l.Source != "JOB" || json.Unmarshal(l.Message, &parts) != nil {
			continue
		}
		all = append(all, strings.TrimSpace(fmt.Sprintln(parts...)))
	}
	return all
}

// wantCounted checks that the jobs' lines are 0 to n-1, each once, in order.
func (r *rig) wantCounted(record *standin.RunRecord, n int) {
	r.t.Helper()
	got := user(record)
	for i, text := range got {
		if text != fmt.Sprint(i) {
			r.t.Fatalf("line %d is %q", i, text)
		}
	}
	if len(got) != n {
		r.t.Errorf("%d lines, want %d", len(got), n)
	}
}

// wantEvents checks the run's events without log lines, in order.
func (r *rig) wantEvents(record *standin.RunRecord, want string) {
	r.t.Helper()
	var got []string
	for _, e := range record.Events {
		if e.Event == "run:log" || e.Event == "run:batch_logs" {
			continue
		}
		got = append(got, strings.TrimSpace(e.Event+" "+e.Job))
	}
	if s := strings.Join(got, ", "); s != want {
		r.t.Errorf("events: %s\nwant:   %s", s, want)
	}
}

// state returns the text of a step's output.
func state(t *testing.T, record *standin.RunRecord, job string, n int) string {
	t.Helper()
	s := record.Step(job, n)
	if s == nil {
		t.Fatalf("job %s has not run %d times", job, n+1)
	}
	return string(record.Dataclips[s.Output].Text)
}

const threeSteps = "run:start, step:start a, step:complete a, step:start b, step:complete b, step:start c, step:complete c, run:complete"

// counting logs 0 to 8 and leaves something of about 1 MB in the state.
var counting = []string{
	`for (let i = 0; i < 3; i++) console.log(i); state.big = Array(20000).fill('"some text"\n, and more of it: ä')`,
	`for (let i = 3; i < 6; i++) console.log(i); state.more = state.big.length`,
	`for (let i = 6; i < 9; i++) console.log(i); state.big = state.big.concat(1)`,
}

// once returns a hook that does something to the n-th message of an event.
func once(event string, n int, a standin.Action) func(standin.Push) standin.Action {
	return func(p standin.Push) standin.Action {
		if p.Event == event && p.Count == n {
			return a
		}
		return standin.Action{}
	}
}
