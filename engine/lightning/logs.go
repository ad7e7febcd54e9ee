package lightning

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/millrace/millrace/engine"
)

// logger makes the log lines of one run.
type logger struct {
	scrub    *scrubber
	sanitize string
	level    int // the least severe that a job's line may be
	limit    int64
}

// levels orders OpenFn's log levels, of lines and of settings.
var levels = map[string]int{
	"trace": 0, "debug": 0, "info": 1, "log": 1, "always": 2, "success": 2, "default": 2, "warn": 2, "error": 3, "none": 9,
}

func newLogger(c *converted, scrub *scrubber) *logger {
	return &logger{scrub: scrub, sanitize: c.sanitize, level: levels[c.logLevel], limit: c.limits.LogPayload}
}

// line makes a line of the engine's; ok says whether it is to be sent.
func (l *logger) line(in *engine.LogLine, stepID string) (out logLine, ok bool) {
	source, level := sourceOf(in.Source), levelOf(in.Level)
	if source == sourceJob && levels[level] < l.level {
		return out, false
	}
	out = logLine{Source: source, Level: level, Timestamp: micros(in.Time), StepID: stepID}
	if l.limit > 0 && int64(len(in.Message)) > l.limit {
		out.Message = l.tooLarge()
		return out, true
	}
	out.Message = l.message(in)
	// Escaping made it grow; together with others, a line's other members count
	// too.
	if l.limit > 0 && int64(out.size()) > l.limit+lineOverhead {
		out.Message = l.tooLarge()
	}
	return out, true
}

func (l *logger) tooLarge() json.RawMessage {
	return encode([]string{fmt.Sprintf("(Log message redacted: exceeds %gmb memory limit)", float64(l.limit)/megabyte)})
}

// message is the line's message as Lightning has it: an array of what was
// logged. A text goes through the fast way; it is most of what is logged.
func (l *logger) message(in *engine.LogLine) json.RawMessage {
	if !in.Structured {
		return encode([]string{l.scrub.text(in.Message)})
	}
	text := strings.TrimSpace(in.Message)
	if l.needsSanitizing(text) {
		var args []json.RawMessage
		if text == "" || text[0] != '[' || json.Unmarshal([]byte(text), &args) != nil {
			args = []json.RawMessage{json.RawMessage(text)}
		}
		if !json.Valid([]byte(text)) { // an executor's own mistake: its text, then
			return encode([]string{l.scrub.text(in.Message)})
		}
		text = string(encode(sanitize(l.sanitize, args)))
	} else if !json.Valid([]byte(text)) {
		return encode([]string{l.scrub.text(in.Message)})
	}
	text = l.scrub.json(text)
	if text[0] != '[' {
		text = "[" + text + "]"
	}
	return json.RawMessage(text)
}

// needsSanitizing reports whether a policy could change the message: it has an
// object or array in it.
func (l *logger) needsSanitizing(text string) bool {
	switch l.sanitize {
	case "remove", "obfuscate", "summarize":
		return strings.ContainsAny(text[min(1, len(text)):], "{[")
	}
	return strings.Contains(text, `"configuration"`)
}

// own makes a line of the worker's.
func (l *logger) own(source, message, stepID string, at time.Time) logLine {
	return logLine{Message: encode([]string{l.scrub.text(message)}), Source: source, Level: "info", Timestamp: micros(at), StepID: stepID}
}

func sourceOf(s string) string {
	switch s {
	case "job":
		return sourceJob
	case "adaptor":
		return sourceAdaptor
	}
	return sourceRuntime
}

// levelOf lets pass only levels that Lightning knows.
func levelOf(s string) string {
	switch s {
	case "debug", "info", "warn", "error", "success", "always":
		return s
	case "trace":
		return "debug"
	case "warning":
		return "warn"
	case "fatal":
		return "error"
	}
	return "info"
}
