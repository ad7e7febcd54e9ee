package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/millrace/millrace/engine"
)

// reporter shows a run on standard error.
type reporter interface {
	event(engine.Event)
	warn(message string)
	// logger is for what belongs to no step.
	logger() *slog.Logger
	summary(*engine.Stats, *engine.Result, int64, *outputFile)
	// close takes down what is only live. It is safe to call twice.
	close()
}

func (f *runFlags) reporter(level slog.Level) reporter {
	if f.quiet {
		level = max(level, slog.LevelError)
	}
	if f.logFormat == "json" {
		return &jsonReporter{log: slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})), quiet: f.quiet}
	}
	r := &textReporter{out: os.Stderr, level: level, quiet: f.quiet, colour: useColour(), steps: make(tallies)}
	if !f.quiet && term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb" {
		r.live = newLiveLines(os.Stderr)
	}
	return r
}

// useColour follows https://no-color.org.
func useColour() bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stderr.Fd()))
}

// jsonReporter writes one JSON object a line, for machines.
type jsonReporter struct {
	log   *slog.Logger
	quiet bool
}

func (r *jsonReporter) close()               {}
func (r *jsonReporter) logger() *slog.Logger { return r.log }
func (r *jsonReporter) warn(message string)  { r.log.Warn(message) }

func (r *jsonReporter) event(e engine.Event) {
	attributes := []slog.Attr{slog.String("event", string(e.Type)), slog.String("run", e.Run)}
	if e.Step != "" {
		attributes = append(attributes, slog.String("step", e.Step))
	}
	if e.Attempt > 1 {
		attributes = append(attributes, slog.Int("attempt", e.Attempt))
	}
	level, message := slog.LevelInfo, string(e.Type)
	switch e.Type {
	case engine.EventLog:
		level, message = logLevel(e.Log.Level), e.Log.Message
		attributes = append(attributes, slog.String("source", e.Log.Source), slog.Time("logged", e.Log.Time))
		if e.Log.Structured {
			attributes = append(attributes, slog.Any("message", json.RawMessage(e.Log.Message)))
		}
	case engine.EventEdge:
		level = slog.LevelDebug
		attributes = append(attributes, slog.String("to", e.To), slog.Bool("taken", e.Taken))
	case engine.EventStepComplete:
		attributes = append(attributes, slog.Any("report", e.Report))
	case engine.EventStepRetry:
		level = slog.LevelWarn
		attributes = append(attributes, slog.Duration("delay", e.Delay))
	}
	if e.Err != nil {
		level = slog.LevelError
		attributes = append(attributes, slog.String("error", e.Err.Error()))
	}
	r.log.LogAttrs(context.Background(), level, message, attributes...)
}

func (r *jsonReporter) summary(s *engine.Stats, result *engine.Result, written int64, out *outputFile) {
	r.log.Info("summary", "status", s.Status, "duration_us", s.DurationUS, "payload_bytes", s.PayloadBytes,
		"control_bytes", s.ControlBytes, "output_bytes", written)
}

// textReporter writes lines for people.
type textReporter struct {
	out    io.Writer
	level  slog.Level
	quiet  bool
	colour bool
	live   *liveLines // nil when not a terminal
	failed bool       // a failure was shown
	steps  tallies
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
)

func (r *textReporter) paint(colour, s string) string {
	if !r.colour {
		return s
	}
	return colour + s + "\x1b[0m"
}

// line writes a line that stays.
func (r *textReporter) line(format string, args ...any) {
	s := fmt.Sprintf(format, args...) + "\n"
	if r.live != nil {
		r.live.above(s)
		return
	}
	// Nothing can be done when standard error is gone.
	_, _ = io.WriteString(r.out, s)
}

func (r *textReporter) close() {
	if r.live != nil {
		r.live.stop()
	}
}

func (r *textReporter) warn(message string) {
	if !r.quiet {
		r.line("%s %s", r.paint(yellow, "warning:"), message)
	}
}

func (r *textReporter) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(lineWriter{r}, &slog.HandlerOptions{Level: max(r.level, slog.LevelWarn)}))
}

// lineWriter lets a slog handler write between the live lines.
type lineWriter struct{ r *textReporter }

func (w lineWriter) Write(p []byte) (int, error) {
	w.r.line("%s", strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

func (r *textReporter) event(e engine.Event) {
	switch e.Type {
	case engine.EventLog:
		if level := logLevel(e.Log.Level); level >= r.level {
			r.line("  %s %s", r.paint(dim, e.Step+" │"), r.logText(level, logMessage(e.Log)))
		}
	case engine.EventStepStart:
		switch {
		case r.live != nil:
			r.live.start(e.Step, e.Time)
		case !r.quiet && !r.steps.isRepeated(e.Step):
			r.line("  %s started", e.Step)
		}
	case engine.EventStepRetry:
		if r.live != nil {
			r.live.end(e.Step)
		}
		if !r.quiet {
			r.line("%s %s: attempt %d failed (%v), again in %v", r.paint(yellow, "↻"), e.Step, e.Attempt, e.Err, e.Delay.Round(time.Millisecond))
		}
	case engine.EventEdge:
		if r.level <= slog.LevelDebug {
			r.line("  %s", r.paint(dim, fmt.Sprintf("edge %s → %s: %v", e.Step, e.To, e.Taken)))
		}
	case engine.EventStepComplete:
		if r.live != nil {
			r.live.end(e.Step)
		}
		r.complete(e)
	}
}

func (r *textReporter) logText(level slog.Level, text string) string {
	switch {
	case level >= slog.LevelError:
		return r.paint(red, text)
	case level >= slog.LevelWarn:
		return r.paint(yellow, text)
	}
	return text
}

func (r *textReporter) complete(e engine.Event) {
	p := e.Report
	all, shown := r.steps.add(&e)
	switch {
	case shown:
	case all.milestone() && !r.quiet:
		r.line("  %s", all.text(e.Step))
		return
	default:
		return
	}
	if e.Err != nil {
		r.failed = true
		r.line("%s %s %s: %s", r.paint(red, "✗"), e.Step, p.Status, indent(p.Error))
		return
	}
	if r.quiet {
		return
	}
	figures := []string{
		duration(p.DurationUS),
		fmt.Sprintf("%s → %s", size(p.InputBytes), size(p.OutputBytes)),
	}
	if p.ReusedBytes > 0 {
		figures = append(figures, size(p.ReusedBytes)+" passed on")
	}
	if p.MemoryBytes > 0 {
		figures = append(figures, "memory "+size(p.MemoryBytes))
	}
	r.line("%s %-20s %s", r.paint(green, "✓"), e.Step, strings.Join(figures, "  "))
}

func indent(s string) string { return strings.ReplaceAll(s, "\n", "\n    ") }

func (r *textReporter) summary(s *engine.Stats, result *engine.Result, written int64, out *outputFile) {
	r.close()
	switch {
	case result.Err != nil && !r.failed: // nothing has said why yet
		r.line("%s %s after %s: %v", r.paint(red, "✗"), s.Status, duration(s.DurationUS), indent(result.Err.Error()))
	case result.Err != nil && !r.quiet:
		r.line("%s after %s", r.paint(red, string(s.Status)), duration(s.DurationUS))
	}
	if r.quiet {
		return
	}
	for _, step := range r.steps.repeated() {
		r.line("  %s", r.steps[step].text(step))
	}
	if result.Err == nil {
		r.line("%s in %s: %s of state written by steps, %s across the control channel, supervisor peak %s",
			r.paint(green, "success"), duration(s.DurationUS), size(s.PayloadBytes), size(s.ControlBytes), size(s.PeakRSSBytes.Supervisor))
	}
	switch {
	case out == nil:
		r.line("  the final state was not written: name a file with -o")
	case written > 0 && out.path != "":
		r.line("  final state: %s in %s", size(uint64(written)), out.path)
	}
	for _, leaf := range result.Leaves {
		for _, key := range leaf.Streams {
			r.line(`  state.%s of step %q is "[stream]": nobody read or kept its items, so this state cannot be the input of another run`, key, leaf.Step)
		}
	}
}

// logMessage prints a structured line as people would write it: a record's
// message and its fields behind it, the arguments of console.log one after
// another.
func logMessage(l *engine.LogLine) string {
	if !l.Structured {
		return l.Message
	}
	var arguments []json.RawMessage
	if json.Unmarshal([]byte(l.Message), &arguments) == nil {
		words := make([]string, len(arguments))
		for i, a := range arguments {
			words[i] = plainText(a)
		}
		return strings.Join(words, " ")
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(l.Message), &fields) != nil || fields["msg"] == nil {
		return l.Message
	}
	text := plainText(fields["msg"])
	delete(fields, "msg")
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		text += fmt.Sprintf(" %s=%s", key, fields[key])
	}
	return text
}

// plainText is a string without its quotes, and anything else as it is.
func plainText(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	return string(value)
}

func logLevel(name string) slog.Level {
	switch name {
	case "debug", "trace":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "fatal":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// size prints bytes for people.
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < 5 {
		value /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %cB", value, " kMGTP"[unit])
}

// duration prints microseconds for people.
func duration(us float64) string {
	d := time.Duration(us * 1e3)
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Nanosecond).String()
}
