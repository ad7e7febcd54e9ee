package lightning

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/uplink/payload"
	"github.com/millrace/millrace/engine/uplink/phoenix"
	"github.com/millrace/millrace/shm"
)

// execution is one execution of a step, as Lightning knows it.
type execution struct {
	stepID  string
	started time.Time
	// clip is the id of its output, "" when Lightning does not have it. The
	// sender sets and reads it.
	clip string
}

// observe turns the engine's events into Lightning's. It is called for one event
// at a time, and waits when the server is slower than the steps.
func (s *session) observe(e engine.Event) {
	switch e.Type {
	case engine.EventStepStart:
		if s.executions[e.Execution] == nil { // else it is a retry of the same execution
			s.stepStart(e)
		}
	case engine.EventLog:
		stepID := ""
		if x := s.executions[e.Execution]; x != nil {
			stepID = x.stepID
		}
		if line, ok := s.logger.line(e.Log, stepID); ok {
			s.outbox.log(line)
		}
	case engine.EventStepComplete:
		if x := s.executions[e.Execution]; x != nil { // else no executor could be started
			s.stepComplete(e, x)
		}
	}
}

func (s *session) stepStart(e engine.Event) {
	x := &execution{stepID: newID(), started: e.Time}
	s.executions[e.Execution] = x
	from := s.executions[e.From]
	s.outbox.event(func(ctx context.Context) {
		m := stepStart{StepID: x.stepID, JobID: e.Step, Timestamp: micros(e.Time)}
		switch {
		case e.From == 0:
			m.Input = s.c.dataclipID
		case from != nil:
			m.Input = from.clip
		}
		_ = s.send(ctx, eventStepStart, phoenix.JSON(m))
	})
}

func (s *session) stepComplete(e engine.Event, x *execution) {
	m := stepComplete{
		StepID: x.stepID, JobID: e.Step, Thread: e.Execution, Timestamp: micros(e.Time),
		Memory:   memory{Job: e.Report.MemoryBytes, System: ownMemory()},
		Duration: duration(e, x).Milliseconds(),
		Reason:   reasonOf(e.Err),
	}
	var state *engine.State
	if e.State != nil {
		var err error
		if state, err = e.State.Hold(); err != nil {
			s.log.Error("cannot hold a step's output", "step", e.Step, "error", err)
		}
	}
	s.outbox.event(func(ctx context.Context) {
		if state != nil {
			defer state.Release()
		}
		s.sendStepComplete(ctx, m, x, state)
	})
}

// duration is the time in the step's own code, or, where its executor did not
// live to tell it, since it began.
func duration(e engine.Event, x *execution) time.Duration {
	if us := e.Report.DurationUS; us > 0 {
		return time.Duration(us * float64(time.Microsecond))
	}
	return e.Time.Sub(x.started)
}

// sendStepComplete sends a step's end, with its output unless that is too large
// or not wanted.
func (s *session) sendStepComplete(ctx context.Context, m stepComplete, x *execution, state *engine.State) {
	if ctx.Err() != nil {
		return
	}
	if state != nil {
		m.WebhookResponse = s.webhookResponse(state)
	}
	content := stateOf(state)
	asText, whole := false, false
	if s.c.withheld {
		m.OutputID = newID()
	} else if asText, whole = s.fits(content, m.StepID, "Dataclip exceeds payload limit: output will not be sent back to the app."); whole {
		m.OutputID = newID()
	} else {
		m.OutputError = dataclipTooLarge
	}
	x.clip = m.OutputID
	message := withFields(payload.New(content.ledger), m)
	if whole {
		content.put(message, "output_dataclip", asText)
		message.IfInvalid(func(error) []byte { return []byte(`"output_dataclip_id":null,"output_dataclip":null`) })
	}
	err := s.send(ctx, eventStepComplete, message)
	switch invalid := message.Invalid(); {
	case invalid != nil:
		x.clip = ""
		s.log.Error("a state was not sent: what its step wrote is not valid", "error", invalid)
		s.tell("The output could not be sent back to the app: "+invalid.Error(), "")
	case err == nil && whole:
		s.metrics.clips.Inc()
	}
}

// fits measures a content against the payload limit, and chooses how it is
// written. Where it cannot be sent, a log line says so, before the event that
// lacks it.
func (s *session) fits(content *states, stepID, tooLarge string) (asText, ok bool) {
	asText, ok, err := content.fit(s.c.limits.Payload, s.o.Encoding)
	switch {
	case err != nil:
		s.log.Error("a state cannot be sent: what its step wrote cannot be read", "error", err)
		s.tell("The output cannot be sent back to the app: "+err.Error(), stepID)
		return false, false
	case !ok:
		s.metrics.tooLarge.Inc()
		s.tell(tooLarge, stepID)
	}
	return asText, ok
}

// tell sends a line of the worker's own at once: it is called by the sender.
func (s *session) tell(message, stepID string) {
	s.sendLogs(s.ctx, []logLine{s.logger.own(sourceRuntime, message, stepID, time.Now())})
}

// maxWebhookResponse bounds what a job may answer to the webhook that started
// its run, in bytes.
const maxWebhookResponse = 1 << 20

// webhookResponse returns state.webhookResponse, or nil where there is none.
func (s *session) webhookResponse(state *engine.State) json.RawMessage {
	row, ok := state.Table().Get("webhookResponse")
	if !ok || row.Encoding() != shm.JSON {
		return nil
	}
	if n := row.Size(); n > maxWebhookResponse {
		s.log.Warn("a webhook's response is too large and was left out", "bytes", n, "limit", maxWebhookResponse)
		return nil
	}
	v, err := state.Ledger().Value(row)
	if err != nil {
		s.log.Error("reading a webhook's response", "error", err)
		return nil
	}
	text := make([]byte, v.Size())
	if _, err := v.ReadAt(text, 0); err != nil {
		s.log.Error("reading a webhook's response", "error", err)
		return nil
	}
	switch text = bytes.TrimSpace(text); string(text) {
	case "null", "false", "0", `""`:
		return nil
	}
	if !json.Valid(text) {
		s.log.Warn("a webhook's response is not JSON and was left out")
		return nil
	}
	return text
}

// ownMemory returns how much memory this process has now, in bytes.
func ownMemory() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64) // the kernel's own numbers
	return pages * uint64(os.Getpagesize())
}
