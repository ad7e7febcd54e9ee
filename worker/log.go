package worker

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/millrace/millrace/ipc"
)

// maxLogMessage bounds a log line, bytes.
const maxLogMessage = 256 << 10

// Log sends a line of the step's log. source says where it comes from: "job",
// "stderr", …; level is debug, info, warn or error. ctx is a step's; with any
// other, and after the step has ended, the line is dropped.
func Log(ctx context.Context, level, source, message string) {
	if s, ok := ctx.Value(stepKey{}).(*step); ok {
		s.log(&ipc.Log{Level: level, Source: source, Message: message})
	}
}

// log sends a line unless the step is over. It waits while the supervisor does
// not keep up.
func (s *step) log(m *ipc.Log) {
	if m.Time == 0 {
		m.Time = uint64(time.Now().UnixMicro())
	}
	m.Message = text(m.Message, maxLogMessage)
	s.logging.RLock()
	defer s.logging.RUnlock()
	if s.mute {
		return
	}
	if err := s.executor.channel.Send(&ipc.Envelope{ID: s.id, Message: m}); err != nil {
		s.executor.end(err)
	}
}

// logHandler is the slog.Handler behind Logger. A record without attributes is
// sent as text, one with them as a JSON object with the text under "msg".
type logHandler struct {
	step *step
	with []func(slog.Handler) slog.Handler // WithAttrs and WithGroup, in order
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	m := &ipc.Log{Level: levelName(r.Level), Source: "job", Message: r.Message}
	if !r.Time.IsZero() {
		m.Time = uint64(r.Time.UnixMicro())
	}
	if r.NumAttrs() > 0 || len(h.with) > 0 {
		var b bytes.Buffer
		var j slog.Handler = slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.Level(-128), ReplaceAttr: dropLevel})
		for _, with := range h.with {
			j = with(j)
		}
		bare := slog.NewRecord(time.Time{}, r.Level, r.Message, 0)
		r.Attrs(func(a slog.Attr) bool { bare.AddAttrs(a); return true })
		if err := j.Handle(ctx, bare); err != nil {
			return err
		}
		if b.Len() <= maxLogMessage { // cut, it would be no JSON any more
			m.Message, m.Structured = strings.TrimSuffix(b.String(), "\n"), true
		}
	}
	h.step.log(m)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.and(func(j slog.Handler) slog.Handler { return j.WithAttrs(attrs) })
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.and(func(j slog.Handler) slog.Handler { return j.WithGroup(name) })
}

func (h *logHandler) and(with func(slog.Handler) slog.Handler) slog.Handler {
	return &logHandler{step: h.step, with: append(h.with[:len(h.with):len(h.with)], with)}
}

// dropLevel leaves the handler's own level out; the message has it already.
func dropLevel(groups []string, a slog.Attr) slog.Attr {
	if _, own := a.Value.Any().(slog.Level); own && len(groups) == 0 && a.Key == slog.LevelKey {
		return slog.Attr{}
	}
	return a
}

func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	}
	return "error"
}
