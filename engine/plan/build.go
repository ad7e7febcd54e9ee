package plan

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// builder fills a Plan from a tree. The tree may be invalid: what the schema
// has reported is left out in silence, and the rest is still read, so that all
// problems of a file come at once.
type builder struct {
	root     *node
	plan     *Plan
	suggest  *suggester
	problems []*Problem
	targets  []edgeTarget
	// faulty holds the places that the schema has reported.
	faulty map[string]bool
}

func (b *builder) problem(at path, format string, args ...any) *Problem {
	p := &Problem{at: at, Message: fmt.Sprintf(format, args...)}
	b.problems = append(b.problems, p)
	return p
}

func (b *builder) warn(at path, hint, format string, args ...any) {
	b.plan.readWarnings = append(b.plan.readWarnings, &Problem{at: at, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

func (b *builder) build() {
	p := b.plan
	var w fileWorkflow
	var options *node
	var at path
	if b.root.get("workflow") != nil {
		outer := bind[filePlan](b.root)
		w, options, at = bind[fileWorkflow](outer.Workflow), outer.Options, path{"workflow"}
		if outer.ID != nil {
			w.ID = outer.ID
		}
	} else {
		s := bind[fileShort](b.root)
		w = fileWorkflow{ID: s.ID, Name: s.Name, Steps: s.Steps, Start: s.Start, Globals: s.Globals, Credentials: s.Credentials}
		options = s.Options
	}
	p.ID, _ = w.ID.argument()
	if p.Name, _ = w.Name.string(); p.Name == "" {
		base := filepath.Base(p.File)
		p.Name = strings.TrimSuffix(base, filepath.Ext(base))
	}
	if text, ok := w.Globals.string(); ok && text != "" {
		s := b.source(text, at.with("globals"))
		p.Globals = &s
	}
	p.Credentials = object(w.Credentials)
	b.options(bind[fileOptions](options), path{"options"}, w.Start, at)
	if w.Steps != nil {
		for i, n := range w.Steps.items {
			b.step(n, at.with("steps", i))
		}
	}
	b.resolveTargets()
}

func (b *builder) options(o fileOptions, at path, workflowStart *node, workflow path) {
	r := &b.plan.Options
	start, startAt := o.Start, at.with("start")
	if start == nil {
		start, startAt = workflowStart, workflow.with("start")
	}
	b.plan.Start = stringList(start)
	b.plan.startAt = startAt
	r.End = stringList(o.End)
	r.Timeout = b.duration(o.Timeout, at.with("timeout"))
	step, name := either(b, at, o.StepTimeout, "step_timeout", o.StepTimeoutMS, "stepTimeout")
	r.StepTimeout = b.duration(step, at.with(name))
	r.Memory = b.size(o.Memory, at.with("memory"))
	r.Concurrency, _ = o.Concurrency.int()
	r.Sanitize, _ = o.Sanitize.string()
	if drop, _ := either(b, at, o.DropKeys, "drop_keys", o.PropsToRemove, "statePropsToRemove"); drop != nil {
		r.DropKeys = append([]string{}, stringList(drop)...)
	}
	r.Node = b.program(o.Node, at.with("node"))
	r.Python = b.program(o.Python, at.with("python"))
	r.Reuse = boolean(o.Reuse)
	r.MaxIterations, _ = o.MaxIterations.int()
	r.MaxCallDepth, _ = o.MaxCallDepth.int()
}

// either returns the one of two names for the same setting that is given.
func either(b *builder, at path, one *node, name string, other *node, otherName string) (*node, string) {
	switch {
	case other == nil:
		return one, name
	case one != nil:
		b.problem(at.with(otherName), "%q and %q are two names for the same setting", otherName, name).onKey = true
	}
	return other, otherName
}

func (b *builder) step(n *node, at path) {
	if n.kind != isObject {
		return
	}
	f := bind[fileStep](n)
	s := &Step{at: at}
	s.ID, _ = f.ID.string()
	s.Name, _ = f.Name.string()
	s.Configuration, s.Credential = object(f.Configuration), text(f.Configuration)
	s.State, s.StateID = object(f.State), text(f.State)
	s.Concurrency, _ = f.Concurrency.int()
	s.Timeout = b.duration(f.Timeout, at.with("timeout"))
	s.Memory = b.size(f.Memory, at.with("memory"))
	s.Retry = b.retry(f.Retry, at.with("retry"))
	s.Reuse = boolean(f.Reuse)
	if s.PerTask = text(f.Process) == "per-task"; s.PerTask && s.Reuse != nil && *s.Reuse {
		b.problem(at.with("reuse"), "a process per task is not used again: leave one of %q and %q out", "process", "reuse").onKey = true
	}
	s.Reserve = b.size(f.Reserve, at.with("reserve"))
	b.demand(s, f, at)
	b.work(s, f, at)
	b.plan.Steps = append(b.plan.Steps, s)
	b.next(s, f.Next, at.with("next"))
}

// demand reads how a step asks for the items of a stream.
func (b *builder) demand(s *Step, f fileStep, at path) {
	s.MaxDemand, _ = f.MaxDemand.int()
	s.MinDemand, _ = f.MinDemand.int()
	s.ManualDemand = text(f.Demand) == "manual"
	if most := orDefault(s.MaxDemand, DefaultMaxDemand); s.MinDemand >= most {
		b.problem(at.with("min_demand"), "%d is not below max_demand, which is %d", s.MinDemand, most)
	}
}

func orDefault(v, fallback int) int {
	if v == 0 {
		return fallback
	}
	return v
}

func (b *builder) retry(n *node, at path) Retry {
	if n == nil {
		return Retry{}
	}
	r := Retry{}
	var f fileRetry
	if n.kind == isNumber {
		r.Attempts, _ = n.int()
	} else {
		f = bind[fileRetry](n)
		r.Attempts, _ = f.Attempts.int()
	}
	if r.Attempts == 0 {
		return r
	}
	r.Backoff, r.Jitter = DefaultBackoff, DefaultJitter
	if f.Backoff != nil {
		r.Backoff = b.duration(f.Backoff, at.with("backoff"))
	}
	r.MaxBackoff = max(DefaultMaxBackoff, r.Backoff)
	if f.MaxBackoff != nil {
		if r.MaxBackoff = b.duration(f.MaxBackoff, at.with("max_backoff")); r.MaxBackoff > 0 && r.MaxBackoff < r.Backoff {
			b.problem(at.with("max_backoff"), "%v is shorter than the first pause of %v", r.MaxBackoff, r.Backoff)
		}
	}
	if f.Jitter != nil && f.Jitter.kind == isNumber {
		// The schema holds it between 0 and 1.
		_ = json.Unmarshal([]byte(f.Jitter.text), &r.Jitter)
	}
	return r
}

func (b *builder) duration(n *node, at path) time.Duration {
	v := b.quantity(n, at, int64(time.Millisecond), "ns", func(s string) (int64, error) {
		d, err := ParseDuration(s)
		return int64(d), err
	})
	d := time.Duration(v)
	if d > 0 && d < time.Second && n.kind == isNumber {
		b.warn(at, "for seconds write "+n.text+"s", "a number alone counts milliseconds: %v", d)
	}
	return d
}

func (b *builder) size(n *node, at path) int64 {
	return b.quantity(n, at, 1, "bytes", ParseSize)
}

// quantity reports only what the schema let pass: amounts out of range.
func (b *builder) quantity(n *node, at path, factor int64, unit string, parse func(string) (int64, error)) int64 {
	if n == nil || n.kind != isNumber && n.kind != isString || b.faulty[at.String()] {
		return 0
	}
	v, err := quantity(n, factor, unit, parse)
	if err != nil {
		b.problem(at, "%s", err).Err = err
	}
	return v
}

// object returns the JSON text of an object, or nil.
func object(n *node) json.RawMessage {
	if n == nil || n.kind != isObject {
		return nil
	}
	return n.json()
}

func text(n *node) string {
	s, _ := n.string()
	return s
}

func boolean(n *node) *bool {
	if n == nil || n.kind != isBool {
		return nil
	}
	v := n.text == "true"
	return &v
}

// stringList reads a string or a list of them.
func stringList(n *node) []string {
	if n == nil {
		return nil
	}
	if s, ok := n.string(); ok {
		return []string{s}
	}
	var all []string
	for _, item := range n.items {
		if s, ok := item.string(); ok {
			all = append(all, s)
		}
	}
	return all
}
