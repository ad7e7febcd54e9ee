package standin

import (
	"encoding/json"
	"slices"
	"time"
)

// events are the run events of which one at a time is sent.
var events = map[string]func(*checker, *Event){
	"run:start":      (*checker).runStart,
	"step:start":     (*checker).stepStart,
	"run:log":        (*checker).runLog,
	"run:batch_logs": (*checker).batchLogs,
	"step:complete":  (*checker).stepComplete,
	"run:complete":   (*checker).runComplete,
}

func (k *checker) runStart(*Event) {
	versions := k.object("versions", true)
	for name, text := range versions {
		var s string
		var list []string // an adaptor's, of which a run may use several
		if (json.Unmarshal(text, &s) != nil || s == "") && (json.Unmarshal(text, &list) != nil || len(list) == 0) {
			k.bad("versions.%s is %.80s: it must be a string, or for an adaptor a list of them", name, text)
		}
	}
	for _, name := range []string{"worker", "node", "engine"} {
		if versions[name] == nil {
			k.bad("versions has no %s", name)
		}
	}
	k.stamp("timestamp")
	if k.r.record.State != StateClaimed {
		k.bad("the run has started before")
		return
	}
	k.r.record.State, k.r.record.Started = StateStarted, time.Now()
	k.r.note(Update{Event: "run:start"})
}

func (k *checker) stepStart(e *Event) {
	s := Step{ID: k.uuid("step_id"), Job: k.text("job_id"), Started: k.stamp("timestamp"), Input: k.optional("input_dataclip_id")}
	e.Step, e.Job = s.ID, s.Job
	if k.r.step(s.ID) != nil {
		k.bad("step %s has started before", s.ID)
		return
	}
	if s.Job != "" && !slices.Contains(k.r.facts.jobs, s.Job) {
		k.bad("job_id %q is none of the plan's jobs", s.Job)
	}
	if _, sent := k.r.record.Dataclips[s.Input]; s.Input != "" && !sent {
		k.bad("input_dataclip_id %s was not sent before", s.Input)
	}
	if s.Input == "" && k.r.record.Input != "" && !k.r.withheld() {
		k.bad("it has no input_dataclip_id, and no dataclip was too large")
	}
	k.r.record.Steps = append(k.r.record.Steps, s)
	k.r.note(Update{Event: "step:start", Step: s.ID, Job: s.Job, DataclipID: s.Input})
}

func (k *checker) stepComplete(e *Event) {
	id, job := k.uuid("step_id"), k.text("job_id")
	e.Step, e.Job = id, job
	s := k.r.step(id)
	switch {
	case s == nil:
		k.bad("step %s has not started", id)
		s = &Step{} // to check the rest
	case !s.Open():
		k.bad("step %s has ended before", id)
		s = &Step{}
	case s.Job != job:
		k.bad("its job_id is %q, at its step's start it was %q", job, s.Job)
	}
	s.Reason, s.ErrorType, s.ErrorMessage = k.reason()
	s.Ended, s.Duration = k.stamp("timestamp"), k.number("duration")
	k.memory(s)
	if _, there := k.want("thread_id", "a number or a string"); there {
		if t := k.m.fields["thread_id"][0]; t != '"' && (t < '0' || t > '9') {
			k.bad("thread_id is %.80s: it must be a number or a string", k.m.fields["thread_id"])
		}
	}
	if text, there := k.take("webhook_response"); there {
		if k.object("webhook_response", true) != nil {
			s.WebhookResponse = text
		}
	}
	k.output(s)
	u := Update{Event: "step:complete", Step: id, Job: s.Job, Reason: s.Reason, Error: joined(s.ErrorType, s.ErrorMessage),
		Duration: s.Duration, DataclipID: s.Output, Withheld: s.OutputError}
	if d, there := k.r.record.Dataclips[s.Output]; there {
		u.Dataclip = &d
	}
	k.r.note(u)
}

// memory takes mem: {job, system}, both bytes.
func (k *checker) memory(s *Step) {
	m := k.object("mem", true)
	sub := &checker{s: k.s, conn: k.conn, m: &message{topic: k.m.topic, event: k.m.event, fields: m}}
	s.JobMemory, s.SystemMemory = sub.integer("job"), sub.integer("system")
	sub.rest()
	k.problems += sub.problems
}

// outputTooLarge is the only reason for which an output is withheld.
const outputTooLarge = "DATACLIP_TOO_LARGE"

// output takes the three fields of a step's output.
func (k *checker) output(s *Step) {
	s.OutputError = k.optional("output_dataclip_error")
	_, hasID := k.take("output_dataclip_id")
	c := k.clip("output_dataclip")
	if s.OutputError != "" {
		if s.OutputError != outputTooLarge {
			k.bad("output_dataclip_error is %q: it must be %s", s.OutputError, outputTooLarge)
		}
		if hasID || c != nil {
			k.bad("it has an output_dataclip_error, and an id or a content")
		}
		return
	}
	if !hasID && c == nil {
		if s.Reason == "success" || s.Reason == "fail" {
			k.bad("a %s has no output_dataclip_id", s.Reason)
		}
		return
	}
	s.Output = k.uuid("output_dataclip_id")
	if _, known := k.r.record.Dataclips[s.Output]; known {
		k.bad("output_dataclip_id %s was used before", s.Output)
		return
	}
	if k.r.facts.withoutOutputs {
		if c != nil {
			k.bad("it has an output_dataclip, and the plan's output_dataclips is false")
		}
		k.r.record.Dataclips[s.Output] = Dataclip{Withheld: true}
		return
	}
	if c == nil {
		k.bad("it has no output_dataclip")
		return
	}
	if limit := k.r.facts.payload; limit > 0 && c.Wire > limit {
		k.bad("the dataclip has %d bytes in the message: payload_limit_mb allows %d", c.Wire, limit)
	}
	k.r.record.Dataclips[s.Output] = *c
}

// clip takes a state; nil where it is absent.
func (k *checker) clip(name string) *Dataclip {
	k.used = append(k.used, name)
	c := k.m.clips[name]
	if c == nil {
		return nil
	}
	d, err := c.finish(name == "output_dataclip")
	if err != nil {
		k.bad("%s: %v", name, err)
	}
	return d
}

func (k *checker) runComplete(*Event) {
	r := &k.r.record
	k.stamp("timestamp")
	r.Reason, r.ErrorType, r.ErrorMessage = k.reason()
	if r.State == StateClaimed && (r.Reason == "success" || r.Reason == "fail") {
		k.bad("a run that never started has the reason %q", r.Reason)
	}
	for i := range r.Steps {
		if r.Steps[i].Open() {
			k.bad("step %s (%s) has no step:complete", r.Steps[i].ID, r.Steps[i].Job)
		}
	}
	r.Final = k.clip("final_state")
	if r.Final != nil && r.Final.Form == "string" {
		k.bad("final_state is a string: it must be JSON itself")
	}
	if r.FinalID = k.optional("final_dataclip_id"); r.FinalID != "" {
		if _, known := r.Dataclips[r.FinalID]; !known || r.FinalID == r.Input {
			k.bad("final_dataclip_id %s is no step's output", r.FinalID)
		}
	}
	r.State, r.Finished = StateFinished, time.Now()
	k.r.note(Update{Event: "run:complete", Reason: r.Reason, Error: joined(r.ErrorType, r.ErrorMessage), Dataclip: r.Final, DataclipID: r.FinalID})
	k.s.options.Logger.Info("complete", "run", r.ID, "reason", r.Reason)
	k.s.finish(r.ID)
}

func joined(kind, message string) string {
	if kind != "" && message != "" {
		return kind + ": " + message
	}
	return kind + message
}

func (r *run) step(id string) *Step {
	for i := range r.record.Steps {
		if r.record.Steps[i].ID == id {
			return &r.record.Steps[i]
		}
	}
	return nil
}

// withheld reports whether a dataclip of the run was too large, so that a step
// has no input to name.
func (r *run) withheld() bool {
	return slices.ContainsFunc(r.record.Steps, func(s Step) bool { return s.OutputError != "" })
}
