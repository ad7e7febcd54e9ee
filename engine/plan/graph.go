package plan

import (
	"strconv"
	"strings"
)

// findCycle returns the edges of a loop in the graph, the first in file order,
// or nil. Edges that are never taken do not count. This is the one place that
// decides whether a graph may have loops.
func findCycle(p *Plan) []*Edge {
	const (
		unseen = iota
		open   // on the way from the root of the search
		done
	)
	state := make([]int, len(p.Steps))
	for _, root := range p.Steps {
		if root == nil || state[root.Index] != unseen {
			continue
		}
		// An own stack: a chain of a hundred thousand steps is only long.
		type visit struct {
			step *Step
			next int
		}
		var way []*Edge
		stack := []visit{{step: root}}
		state[root.Index] = open
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(top.step.Next) {
				state[top.step.Index] = done
				if stack = stack[:len(stack)-1]; len(way) > 0 {
					way = way[:len(way)-1]
				}
				continue
			}
			e := top.step.Next[top.next]
			top.next++
			switch state[e.To.Index] {
			case open:
				cycle := append(way, e)
				for i, each := range cycle {
					if each.From == e.To {
						return cycle[i:]
					}
				}
			case unseen:
				state[e.To.Index] = open
				way = append(way, e)
				stack = append(stack, visit{step: e.To})
			}
		}
	}
	return nil
}

// maxNamed bounds how many steps of a loop a message names.
const maxNamed = 12

// reportCycle reports a loop at the edge that closes it.
func (c *checker) reportCycle(cycle []*Edge) {
	last := cycle[len(cycle)-1]
	var names []string
	for i, e := range cycle {
		if i == maxNamed {
			names = append(names, "… "+strconv.Itoa(len(cycle)-i)+" more …")
			break
		}
		names = append(names, shortName(e.From.ID))
	}
	names = append(names, shortName(last.To.ID))
	way := strings.Join(names, " -> ")
	if len(cycle) == 1 {
		c.problem(last.at, "the step leads to itself: %s", way).Hint = "a workflow must not have loops"
		return
	}
	c.problem(last.at, "the steps lead back in a circle: %s", way).Hint = "a workflow must not have loops: remove or disable one of these edges"
}

func shortName(id string) string {
	if r := []rune(id); len(r) > 40 {
		return string(r[:39]) + "…"
	}
	return id
}

// unreachable warns of steps that no run can come to. A plan with a step that
// may call others is left alone: what its code calls is not known here.
func (c *checker) unreachable() {
	p := c.plan
	reached := make([]bool, len(p.Steps))
	var todo []*Step
	reach := func(s *Step) {
		if s != nil && !reached[s.Index] {
			reached[s.Index] = true
			todo = append(todo, s)
		}
	}
	for _, id := range p.Start {
		reach(p.byID[id])
	}
	if len(todo) == 0 {
		return // an unknown start is a problem of its own
	}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if s.Expression != nil || s.Worker != nil || s.Python != nil {
			return
		}
		for _, e := range s.Next {
			reach(e.To)
		}
	}
	for i, s := range p.Steps {
		if s != nil && !reached[i] && s.ID != "" {
			c.warnings = append(c.warnings, &Problem{at: s.at, Message: "step " + strconv.Quote(shortName(s.ID)) +
				" is never reached from " + strings.Join(quoted(p.Start), ", ")})
		}
	}
}
