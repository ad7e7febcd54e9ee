package plan

import (
	"math"
	"strings"
	"time"
)

// fields checks what the schema checks for a file: the values of a step that
// was made in Go.
func (c *checker) fields(s *Step) {
	if all := s.kinds(); len(all) > 1 {
		names := make([]string, len(all))
		for i, k := range all {
			names[i] = string(k)
		}
		c.problem(s.at, "several kinds of work in one step: %s", strings.Join(quoted(names), ", "))
	}
	if s.Command != nil {
		c.argv(s.Command.Argv, s.at.with("command"))
		c.command(s.Command, s.at)
	}
	if s.Worker != nil {
		c.argv(s.Worker.Argv, s.at.with("worker"))
		if s.Worker.Function == "" {
			c.problem(s.at, "%q needs %q beside it", "worker", "function")
		}
	}
	if s.Python != nil && s.Python.Path == "" {
		c.problem(s.at.with("python"), "must not be empty")
	}
	if s.Files != nil && len(s.Files.Paths) == 0 {
		c.problem(s.at.with("source"), "names no file")
	}
	if s.Expression != nil && s.Expression.Text == "" && s.Expression.Path == "" {
		c.problem(s.at.with("expression"), "must not be empty")
	}
	c.jsonObject(s.Configuration, s.at.with("configuration"))
	c.jsonObject(s.State, s.at.with("state"))
	if s.Configuration != nil && s.Credential != "" {
		c.problem(s.at.with("configuration"), "has both an object and a credential's id")
	}
	if s.State != nil && s.StateID != "" {
		c.problem(s.at.with("state"), "has both an object and a stored state's id")
	}
	c.atLeastZero(int64(s.Concurrency), s.at.with("concurrency"))
	c.atLeastZero(s.Memory, s.at.with("memory"))
	c.notNegative(s.Timeout, s.at.with("timeout"))
	c.atLeastZero(s.Reserve, s.at.with("reserve"))
	c.atLeastZero(int64(s.MaxDemand), s.at.with("max_demand"))
	c.atLeastZero(int64(s.MinDemand), s.at.with("min_demand"))
	if s.MaxDemand > 0 && s.MinDemand >= s.MaxDemand {
		c.problem(s.at.with("min_demand"), "%d is not below max_demand, which is %d", s.MinDemand, s.MaxDemand)
	}
	r := s.Retry
	c.atLeastZero(int64(r.Attempts), s.at.with("retry", "attempts"))
	c.notNegative(r.Backoff, s.at.with("retry", "backoff"))
	c.notNegative(r.MaxBackoff, s.at.with("retry", "max_backoff"))
	if r.MaxBackoff > 0 && r.MaxBackoff < r.Backoff {
		c.problem(s.at.with("retry", "max_backoff"), "%v is shorter than the first pause of %v", r.MaxBackoff, r.Backoff)
	}
	if math.IsNaN(r.Jitter) || r.Jitter < 0 || r.Jitter > 1 {
		c.problem(s.at.with("retry", "jitter"), "must be between 0 and 1, not %v", r.Jitter)
	}
}

func (c *checker) argv(words []string, at path) {
	if len(words) == 0 || words[0] == "" {
		c.problem(at, "names no program")
	}
	for i, w := range words {
		if strings.ContainsRune(w, 0) {
			c.problem(at.with(i), "must not contain a NUL character")
		}
	}
}

func (c *checker) command(cmd *Command, at path) {
	switch cmd.Stdin.From {
	case ChannelState, ChannelNone, ChannelKey, ChannelStream:
	default:
		c.problem(at.with("stdin"), "unknown source %q", string(cmd.Stdin.From))
	}
	switch cmd.Stdout.To {
	case ChannelState, ChannelNone, ChannelKey, ChannelStream:
	default:
		c.problem(at.with("stdout"), "unknown target %q", string(cmd.Stdout.To))
	}
	switch cmd.Stdout.Encoding {
	case "", EncodingJSON, EncodingArrow, EncodingRaw:
	default:
		c.problem(at.with("stdout", "encoding"), "unknown encoding %q", string(cmd.Stdout.Encoding))
	}
	if cmd.Stdout.To == ChannelStream && cmd.Stdout.Encoding == EncodingArrow {
		c.problem(at.with("stdout", "encoding"), "the items of a stream are lines, which are %q or %q", EncodingJSON, EncodingRaw)
	}
	for i, v := range cmd.Env {
		if v.Name == "" || strings.ContainsAny(v.Name, "=\x00") || strings.ContainsRune(v.Value, 0) {
			c.problem(at.with("env", i), "%q is no name for a variable, or its value contains a NUL character", v.Name)
		}
	}
}

func (c *checker) runOptions() {
	o, at := &c.plan.Options, path{"options"}
	c.jsonObject(c.plan.Credentials, path{"credentials"})
	c.notNegative(o.Timeout, at.with("timeout"))
	c.notNegative(o.StepTimeout, at.with("step_timeout"))
	c.atLeastZero(o.Memory, at.with("memory"))
	c.atLeastZero(int64(o.Concurrency), at.with("concurrency"))
	c.atLeastZero(int64(o.MaxIterations), at.with("max_iterations"))
	c.atLeastZero(int64(o.MaxCallDepth), at.with("max_call_depth"))
	switch o.Sanitize {
	case "", "none", "remove", "obfuscate", "summarize":
	default:
		c.problem(at.with("sanitize"), "unknown policy %q", o.Sanitize)
	}
}

func (c *checker) atLeastZero(v int64, at path) {
	if v < 0 {
		c.problem(at, "must not be negative, is %d", v)
	}
}

func (c *checker) notNegative(d time.Duration, at path) {
	if d < 0 {
		c.problem(at, "must not be negative, is %v", d)
	}
}
