package lightning

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/uplink/payload"
	"github.com/millrace/millrace/ipc"
)

// finish tells how an engine's run ended.
func (s *session) finish(result *engine.Result) {
	why := reasonOf(result.Err)
	if s.failed != nil {
		why = *s.failed
	}
	if result.Status != engine.StatusSuccess && result.Status != engine.StatusFail {
		result = nil // a run that was cut short has no final state
	}
	s.end(why, result)
}

// end puts the last log lines and run:complete into the outbox.
func (s *session) end(why Reason, result *engine.Result) {
	if why.Message != nil {
		message := s.scrub.text(*why.Message)
		why.Message = &message
	}
	s.begin() // a run ends for Lightning only if it has begun
	now := time.Now()
	logger := s.logger
	if logger == nil {
		logger = newLogger(&converted{}, &s.scrub)
	}
	s.outbox.log(logger.own(sourceRuntime, "Run complete with status: "+why.Reason, "", now))
	if why.Type != nil {
		message := "unknown"
		if *why.Message != "" {
			message = *why.Message
		}
		s.outbox.log(logger.own(sourceRuntime, *why.Type+": "+message, "", now))
	}
	s.outbox.event(func(ctx context.Context) {
		s.sendRunComplete(ctx, runComplete{Timestamp: micros(now), Reason: why}, result)
	})
	s.metrics.runs.WithLabelValues(why.Reason).Inc()
	attrs := []any{"reason", why.Reason}
	if why.Type != nil {
		attrs = append(attrs, "error_type", *why.Type)
	}
	s.log.Info("run ended", attrs...)
}

func (s *session) sendRunComplete(ctx context.Context, m runComplete, result *engine.Result) {
	if ctx.Err() != nil {
		s.log.Error("the run's end was not told: the server will find it lost", "error", context.Cause(ctx))
		return
	}
	var content *states
	if result != nil {
		if len(result.Leaves) == 1 {
			if x := s.executions[result.Leaves[0].Execution]; x != nil {
				m.FinalID = x.clip
			}
		}
		content = s.finalState(result, m.FinalID != "")
	}
	message := payload.New(ledgerOf(content))
	withFields(message, m)
	if content != nil {
		content.put(message, "final_state", false)
		message.IfInvalid(func(error) []byte { return []byte(`"final_state":null`) })
	}
	if err := s.send(ctx, eventRunComplete, message); err != nil {
		s.log.Error("the run's end was not taken: the server may find it lost", "error", err)
	}
	if err := message.Invalid(); err != nil {
		s.log.Error("the final state was not sent: what a step wrote is not valid", "error", err)
	}
}

// finalState is the state that is sent with a run's end; nil where it is not
// wanted or too large. known says that its dataclip was sent.
func (s *session) finalState(result *engine.Result, known bool) *states {
	if s.c.withheld || s.o.NoFinalState && known {
		return nil
	}
	content := finalStates(result)
	_, ok, err := content.fit(s.c.limits.Payload, EncodingObject)
	switch {
	case err != nil:
		s.log.Error("the final state cannot be sent: what a step wrote cannot be read", "error", err)
		return nil
	case !ok:
		s.metrics.tooLarge.Inc() // each step told its own; the last line is that of the end
		s.log.Info("the final state is over the payload limit and was left out")
		return nil
	}
	return content
}

// finalStates is what a run comes to: the state of its only leaf, or an object of
// the leaves' by step, without those that hold nothing.
func finalStates(result *engine.Result) *states {
	all := &states{ledger: result.Ledger()}
	if len(result.Leaves) == 1 {
		all.tables = []ipc.Table{visible(result.Leaves[0].State)}
		return all
	}
	all.names = []string{}
	for i, name := range result.Keys() {
		if state := result.Leaves[i].State; !isEmpty(all.ledger, state) {
			all.names, all.tables = append(all.names, name), append(all.tables, state)
		}
	}
	return all
}

// isEmpty reports whether a state holds nothing, for the reference's rule: it has
// no keys, or only an empty data.
func isEmpty(l *ledger.Ledger, t ipc.Table) bool {
	if t.Kind == ipc.KindAbsent {
		return true
	}
	if t.Kind != ipc.KindObject || len(t.Rows) > 1 {
		return false
	}
	if len(t.Rows) == 0 {
		return true
	}
	row := t.Rows[0]
	if row.Key != "data" || row.Size() > 16 {
		return false
	}
	v, err := l.Value(row)
	if err != nil {
		return false
	}
	text := make([]byte, v.Size())
	if _, err := v.ReadAt(text, 0); err != nil {
		return false
	}
	switch string(bytes.Join(bytes.Fields(text), nil)) {
	case "{}", "[]", `""`:
		return true
	}
	return false
}

// addVersion enters an adaptor's version, as the plan names it.
func addVersion(adaptors map[string][]string, specifier string) {
	name, version := splitAdaptor(specifier)
	if version == "" {
		version = "latest"
	}
	if !slices.Contains(adaptors[name], version) {
		adaptors[name] = append(adaptors[name], version)
		sort.Strings(adaptors[name])
	}
}

// versionText is the log line that tells a run's versions.
func versionText(node, worker string, adaptors map[string][]string) string {
	width := len("node.js")
	for name := range adaptors {
		width = max(width, len(name))
	}
	var b strings.Builder
	b.WriteString("Versions:")
	line := func(name, version string) {
		b.WriteString("\n    ▸ " + name + strings.Repeat(" ", width+4-len(name)) + version)
	}
	line("node.js", node)
	line("worker", worker)
	for _, name := range slices.Sorted(maps.Keys(adaptors)) {
		line(name, strings.Join(adaptors[name], ", "))
	}
	return b.String()
}

func ledgerOf(s *states) *ledger.Ledger {
	if s == nil {
		return nil
	}
	return s.ledger
}
