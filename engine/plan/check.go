package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Validate checks a plan made or changed in Go, and completes it: indexes,
// Step.Next, the default start, drop keys and the other defaults which the
// fields name. It reports every problem in an *InvalidError. It must not be
// called while the plan is in use; calling it again is harmless.
func (p *Plan) Validate(opts ...Options) error {
	c := &checker{plan: p, opts: only(opts), suggest: &suggester{}}
	c.check()
	for _, found := range append(c.problems, c.warnings...) {
		found.File, found.Path = p.File, found.at.String()
	}
	p.Warnings = append(append([]*Problem(nil), p.readWarnings...), c.warnings...)
	return invalid(c.problems)
}

// checker holds the rules that a schema cannot say. They are the same for a
// file and for a plan made in Go.
type checker struct {
	plan     *Plan
	opts     Options
	suggest  *suggester
	problems []*Problem
	warnings []*Problem
	// fromFile: the schema has checked what fields hold.
	fromFile bool
	// line of a place in the file; nil for a plan made in Go.
	line func(path) int
}

func (c *checker) problem(at path, format string, args ...any) *Problem {
	p := &Problem{at: at, Message: fmt.Sprintf(format, args...)}
	c.problems = append(c.problems, p)
	return p
}

func (c *checker) check() {
	p := c.plan
	p.byID = make(map[string]*Step, len(p.Steps))
	if !c.fromFile && len(p.Steps) == 0 {
		c.problem(path{"steps"}, "a workflow needs at least one step")
	}
	for i, s := range p.Steps {
		if s == nil {
			c.problem(path{"steps", i}, "is nil")
			continue
		}
		s.Index, s.Next = i, nil
		if s.at == nil || !c.fromFile {
			s.at = c.placeOf(s, i)
		}
		c.id(s)
		c.complete(s)
		if !c.fromFile {
			c.fields(s)
		}
	}
	if !c.fromFile {
		c.runOptions()
	}
	c.edges()
	c.starts()
	p.Options.MaxIterations = orDefault(p.Options.MaxIterations, DefaultMaxIterations)
	p.Options.MaxCallDepth = orDefault(p.Options.MaxCallDepth, DefaultMaxCallDepth)
	markLoops(p)
	c.endlessLoops()
	c.unreachable()
}

// placeOf keeps the place in the file of a step that was read, as long as the
// plan was not rearranged.
func (c *checker) placeOf(s *Step, i int) path {
	if n := len(s.at); n > 0 && s.at[n-1] == i {
		return s.at
	}
	return path{"steps", i}
}

func (c *checker) id(s *Step) {
	switch {
	case s.ID == "":
		if !c.fromFile {
			c.problem(s.at, "the step has no id")
		}
		return
	case len(s.ID) > MaxIDBytes && utf8.RuneCountInString(s.ID) <= MaxIDBytes || len(s.ID) > MaxIDBytes && !c.fromFile:
		c.problem(s.at.with("id"), "is %d bytes long, the limit is %d", len(s.ID), MaxIDBytes)
	case !c.fromFile && (!utf8.ValidString(s.ID) || strings.ContainsFunc(s.ID, unicode.IsControl)):
		c.problem(s.at.with("id"), "must be UTF-8 without control characters")
	}
	first := c.plan.byID[s.ID]
	if first == nil {
		c.plan.byID[s.ID] = s
		return
	}
	where := first.at.String()
	if c.line != nil {
		where = fmt.Sprintf("line %d", c.line(first.at.with("id")))
		c.problem(s.at.with("id"), "duplicate id %q at line %d: already used at %s", s.ID, c.line(s.at.with("id")), where)
		return
	}
	c.problem(s.at.with("id"), "duplicate id %q: already used at %s", s.ID, where)
}

// complete sets the defaults of a step.
func (c *checker) complete(s *Step) {
	o := &c.plan.Options
	if s.Timeout == 0 {
		s.Timeout = o.StepTimeout
	}
	if s.Reuse == nil {
		s.Reuse = o.Reuse
	}
	s.MaxDemand = orDefault(s.MaxDemand, DefaultMaxDemand)
	s.MinDemand = orDefault(s.MinDemand, s.MaxDemand/2)
	if s.Python != nil && s.Python.Function == "" {
		s.Python.Function = DefaultPythonFunction
	}
	if s.Command != nil {
		if s.Command.Stdin.From == "" {
			s.Command.Stdin.From = ChannelState
		}
		if s.Command.Stdout.To == "" {
			s.Command.Stdout.To = ChannelState
		}
		if (s.Command.Stdout.To == ChannelKey || s.Command.Stdout.To == ChannelStream) && s.Command.Stdout.Encoding == "" {
			s.Command.Stdout.Encoding = EncodingJSON
		}
	}
	if o.DropKeys == nil {
		o.DropKeys = append([]string{}, DefaultDropKeys...)
	}
}

// edges checks both ends and the condition of each edge, and fills Step.Next.
func (c *checker) edges() {
	p := c.plan
	for i, e := range p.Edges {
		at := path{"edges", i}
		if e == nil || !c.owns(e.From) || !c.owns(e.To) {
			c.problem(at, "must lead from one step of the plan to another")
			continue
		}
		if e.at == nil {
			e.at = e.From.at.with("next", e.To.ID)
		}
		if !e.Disabled {
			e.From.Next = append(e.From.Next, e)
		}
		if e.Condition == "" || c.opts.CheckCondition == nil {
			continue
		}
		if err := c.opts.CheckCondition(e.Condition); err != nil {
			at := e.at
			if e.inObject {
				at = at.with("condition")
			}
			c.problem(at, "the condition is not valid: %s", err).Err = err
		}
	}
}

func (c *checker) owns(s *Step) bool {
	return s != nil && s.Index >= 0 && s.Index < len(c.plan.Steps) && c.plan.Steps[s.Index] == s
}

func (c *checker) starts() {
	p := c.plan
	if len(p.Start) == 0 && len(p.Steps) > 0 && p.Steps[0] != nil {
		p.Start = []string{p.Steps[0].ID}
	}
	var ids []string
	for _, s := range p.Steps {
		if s != nil {
			ids = append(ids, s.ID)
		}
	}
	known := func(all []string, at path, what string) {
		seen := map[string]bool{}
		for i, id := range all {
			place := at
			if len(all) > 1 || !c.fromFile {
				place = at.with(i)
			}
			switch {
			case id == "" && c.fromFile: // reported: a step without an id, or an empty text
			case p.byID[id] == nil:
				c.problem(place, "there is no step %q to %s", id, what).Hint = c.suggest.hint(id, ids)
			case seen[id] && !c.fromFile:
				c.problem(place, "%q is in the list twice", id)
			}
			seen[id] = true
		}
	}
	at := p.startAt
	if at == nil || !c.fromFile {
		at = path{"start"}
	}
	known(p.Start, at, "start at")
	known(p.Options.End, path{"options", "end"}, "end at")
}

// jsonObject reports JSON text that is not an object.
func (c *checker) jsonObject(text json.RawMessage, at path) {
	if text == nil {
		return
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		c.problem(at, "must be a JSON object").Err = err
	}
}
