package standin

import (
	"encoding/json"
)

// levels and sources are those that Lightning's log lines have.
var (
	levels  = []string{"success", "always", "info", "warn", "error", "fatal", "debug"}
	sources = []string{"R/T", "JOB", "ADA", "VER", "RTE"}
)

func (k *checker) runLog(*Event) {
	k.runID()
	k.line()
}

func (k *checker) batchLogs(*Event) {
	k.runID()
	text, there := k.want("logs", "a list of lines")
	var lines []map[string]json.RawMessage
	if there && (json.Unmarshal(text, &lines) != nil || len(lines) == 0) {
		k.bad("logs is %.80s: it must be a list of lines, not empty", text)
	}
	for _, fields := range lines {
		sub := &checker{s: k.s, conn: k.conn, r: k.r, m: &message{topic: k.m.topic, event: k.m.event, fields: fields, size: k.m.size}}
		sub.line()
		sub.rest()
		k.problems += sub.problems
	}
	if limit := k.r.facts.logPayload; limit > 0 && int64(len(text)) > limit {
		k.bad("the lines have %d bytes: log_payload_limit_mb allows %d", len(text), limit)
	}
}

func (k *checker) runID() {
	if id := k.text("run_id"); id != "" && id != k.r.record.ID {
		k.bad("its run_id is %q: the topic is of %q", id, k.r.record.ID)
	}
}

// line takes the fields of one log line.
func (k *checker) line() {
	l := Log{Source: k.oneOf("source", sources...), Level: k.oneOf("level", levels...), Time: k.stamp("timestamp"), Step: k.optional("step_id")}
	text, there := k.want("message", "an array")
	if there && text[0] != '[' {
		k.bad("message is %.80s: it must be an array", text)
	}
	if limit := k.r.facts.logPayload; limit > 0 && int64(len(text)) > limit {
		k.bad("the message has %d bytes: log_payload_limit_mb allows %d", len(text), limit)
	}
	l.Message = text
	if s := k.r.step(l.Step); l.Step != "" && (s == nil || !s.Open()) {
		k.bad("a line of step %s, which is not open", l.Step)
	}
	k.r.record.LogLines++
	if !k.s.options.CountOnly {
		k.r.record.Logs = append(k.r.record.Logs, l)
		k.r.note(Update{Event: "log", Step: l.Step, Log: &l})
	}
}

// facts are what the checks need of a plan.
type facts struct {
	jobs           []string
	credentials    map[string]bool
	withoutOutputs bool
	payload        int64 // bytes, 0 for no limit
	logPayload     int64
}

// defaultLogPayload and defaultPayload are the limits that a worker has where
// the plan has none, in MB.
const (
	defaultPayload    = 10
	defaultLogPayload = 1
	megabyte          = 1 << 20
)

// read checks the plan as far as the server depends on it.
func (f *facts) read(text json.RawMessage, credentials map[string]json.RawMessage) error {
	var p planFile
	if err := json.Unmarshal(text, &p); err != nil {
		return invalidPlan("%v", err)
	}
	nodes := make(map[string]bool)
	f.credentials = make(map[string]bool)
	for _, t := range p.Triggers {
		nodes[t.ID] = true
	}
	for _, j := range p.Jobs {
		if j.ID == "" || nodes[j.ID] {
			return invalidPlan("a job has the id %q, which is empty or taken", j.ID)
		}
		nodes[j.ID] = true
		f.jobs = append(f.jobs, j.ID)
		for _, c := range j.credential() {
			f.credentials[c] = true
		}
	}
	if len(p.Jobs) == 0 {
		return invalidPlan("it has no jobs")
	}
	if p.Start != "" && !nodes[p.Start] {
		return invalidPlan("starting_node_id %q is none of its nodes", p.Start)
	}
	for _, e := range p.Edges {
		if !nodes[e.Target] || !nodes[e.SourceJob+e.SourceTrigger] {
			return invalidPlan("edge %q leads from %q to %q, and one of them is none of its nodes", e.ID, e.SourceJob+e.SourceTrigger, e.Target)
		}
	}
	for name := range credentials {
		if !f.credentials[name] {
			return invalidPlan("no job has the credential %q", name)
		}
	}
	f.withoutOutputs = p.Options.OutputDataclips != nil && !*p.Options.OutputDataclips
	f.payload, f.logPayload = limit(p.Options.PayloadLimit, defaultPayload), limit(p.Options.LogPayloadLimit, defaultLogPayload)
	return nil
}

func limit(mb *float64, standard float64) int64 {
	if mb == nil {
		mb = &standard
	}
	return int64(*mb * megabyte)
}
