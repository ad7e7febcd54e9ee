package standin

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// run is a run and its channel. All of it is guarded by Server.mu.
type run struct {
	record      RunRecord
	plan        json.RawMessage
	facts       facts
	credentials map[string]json.RawMessage
	queue       string
	token       string
	worker      string // that claimed it

	conn    *conn    // that joined last, nil once it is gone
	pending int      // events without an acknowledgement
	unacked *message // the last of them
	planned bool     // the plan was asked for
	over    bool     // its run:complete was refused by a hook
	lost    bool     // its join was
	fresh   bool     // no event came since the join
	last    uint32   // checksum of the last event that was acted on
	lastIs  string   // its name

	updates []Update
}

// Update is something that happened in a run, for those who follow it.
type Update struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	Step  string    `json:"step,omitempty"`
	Job   string    `json:"job,omitempty"`
	Log   *Log      `json:"log,omitempty"`
	// Reason, Error and Duration (ms) are those of a step's or run's end.
	Reason   string  `json:"reason,omitempty"`
	Error    string  `json:"error,omitempty"`
	Duration float64 `json:"duration,omitempty"`
	// Dataclip that came with the event, and its id.
	Dataclip   *Dataclip `json:"dataclip,omitempty"`
	DataclipID string    `json:"dataclip_id,omitempty"`
	// Withheld is why there is none.
	Withheld string `json:"withheld,omitempty"`
}

// newRun checks a run to enqueue.
func newRun(input Run, s *signer) (*run, error) {
	id := newUUID()
	r := &run{credentials: input.Credentials, queue: input.Queue, token: input.Token}
	r.record = RunRecord{ID: id, State: StateAvailable, Dataclips: make(map[string]Dataclip)}
	if r.queue == "" {
		r.queue = "default"
	}
	var plan map[string]json.RawMessage
	if err := json.Unmarshal(input.Plan, &plan); err != nil {
		return nil, fmt.Errorf("the plan is not a JSON object: %w", err)
	}
	set := func(name, value string) { plan[name] = json.RawMessage(jsonscan.AppendString(nil, value)) }
	set("id", id)
	if input.Dataclip != nil {
		if err := jsonscan.Validate(input.Dataclip); err != nil {
			return nil, fmt.Errorf("the initial dataclip: %w", err)
		}
		r.record.Input = newUUID()
		set("dataclip_id", r.record.Input)
		r.record.Dataclips[r.record.Input] = Dataclip{
			Size: int64(len(input.Dataclip)), CRC: crc32.ChecksumIEEE(input.Dataclip), Text: input.Dataclip,
		}
	}
	var err error
	if r.plan, err = json.Marshal(plan); err != nil {
		return nil, fmt.Errorf("the plan: %w", err)
	}
	if err := r.facts.read(r.plan, r.credentials); err != nil {
		return nil, err
	}
	if r.token == "" {
		life := input.TokenLife
		if life == 0 {
			life = runTokenLife
		}
		if r.token, err = s.token(id, time.Now(), life); err != nil {
			return nil, fmt.Errorf("the run's token: %w", err)
		}
	}
	return r, nil
}

// refused notes that a hook refused an event, after which a worker goes on as
// best it can. r may be nil.
func (r *run) refused(event string) {
	if r == nil {
		return
	}
	switch event {
	case "fetch:plan":
		r.planned = true
	case "run:complete":
		r.over = true
	case "phx_join":
		r.lost = true
	}
}

func (r *run) note(u Update) {
	u.Time = time.Now()
	r.updates = append(r.updates, u)
}

// channel acts on a message for a run.
func (k *checker) channel() *reply {
	r := k.r
	r.record.Bytes += k.m.size
	switch k.m.event {
	case "phx_join":
		return k.join()
	case "phx_leave":
		k.rest()
		if r.record.State != StateFinished && !r.over {
			k.bad("the channel is left before run:complete")
		}
		r.record.Left = true
		k.conn.forget(k.m.topic)
		return ok(map[string]any{})
	}
	if r.conn != k.conn {
		return refuse("the run was joined on another socket since")
	}
	switch k.m.event {
	case "fetch:plan":
		k.rest()
		r.planned = true
		r.note(Update{Event: "fetch:plan"})
		return ok(r.plan)
	case "fetch:dataclip":
		return k.fetchDataclip()
	case "fetch:credential":
		return k.fetchCredential()
	}
	return k.event()
}

func (k *checker) join() *reply {
	r := k.r
	token := k.text("token")
	k.rest()
	switch {
	case r.record.State == StateAvailable:
		k.bad("the run was not claimed")
		return refuse("unauthorized")
	case token != r.token:
		k.bad("the token is not the run's")
		return refuse("unauthorized")
	case k.conn.worker != r.worker:
		k.bad("the run was claimed by worker %q, not %q", r.worker, k.conn.worker)
		return refuse("unauthorized")
	}
	k.conn.topics[k.m.topic] = k.m.joinRef
	r.conn, r.pending, r.fresh = k.conn, 0, true
	r.record.Joins++
	r.note(Update{Event: "join"})
	return ok(map[string]any{})
}

func (k *checker) fetchDataclip() *reply {
	id := k.text("id")
	k.rest()
	d, found := k.r.record.Dataclips[id]
	if !found || d.Text == nil {
		k.bad("dataclip %s is not known", id)
		return refuse("not_found")
	}
	k.r.note(Update{Event: "fetch:dataclip", DataclipID: id, Dataclip: &d})
	return &reply{status: "ok", bytes: d.Text}
}

func (k *checker) fetchCredential() *reply {
	id := k.text("id")
	k.rest()
	if !k.r.facts.credentials[id] {
		k.bad("the plan names no credential %q", id)
	}
	c, found := k.r.credentials[id]
	if !found {
		return refuse("not_found")
	}
	k.r.note(Update{Event: "fetch:credential"})
	return ok(c)
}

// event acts on one of the events of which there is one at a time.
func (k *checker) event() *reply {
	r := k.r
	if !r.planned {
		k.bad("it came before fetch:plan")
	}
	if r.pending > 0 {
		k.bad("it came before the acknowledgement of %s", r.unacked.event)
	}
	r.pending++
	r.unacked = k.m
	if r.fresh && r.lastIs == k.m.event && r.last == k.m.sum {
		r.record.Duplicates++
		r.fresh = false
		return ok(map[string]any{})
	}
	r.fresh = false
	if r.record.State == StateFinished {
		k.bad("it came after run:complete")
		return refuse("the run is finished")
	}
	act, found := events[k.m.event]
	if !found {
		k.bad("no such event on this topic")
		return refuse("unmatched event")
	}
	if r.record.State == StateClaimed && k.m.event != "run:start" && k.m.event != "run:complete" {
		k.bad("it came before run:start")
	}
	happened := Event{Event: k.m.event, Time: time.Now(), Bytes: k.m.size}
	act(k, &happened)
	k.rest()
	if k.problems > 0 {
		return &reply{status: "error", response: map[string]any{"errors": map[string]any{"event": []string{"is invalid: see the stand-in's violations"}}}}
	}
	r.last, r.lastIs = k.m.sum, k.m.event
	if !k.s.options.CountOnly || k.m.event != "run:log" && k.m.event != "run:batch_logs" {
		r.record.Events = append(r.record.Events, happened)
	}
	return ok(map[string]any{})
}
