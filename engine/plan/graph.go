package plan

import (
	"strconv"
	"strings"
)

// markLoops sets Loop on the edges that lie on a circle: those between steps
// that can reach one another (Tarjan's strongly connected components).
func markLoops(p *Plan) {
	component := components(p, func(*Edge) bool { return true })
	for _, s := range p.Steps {
		if s == nil {
			continue
		}
		for _, e := range s.Next {
			e.Loop = component[s.Index] == component[e.To.Index]
		}
	}
}

// components numbers the sets of steps that reach one another along the edges
// that are followed. A step alone has a number of its own, whether it leads to
// itself or not.
func components(p *Plan, follow func(*Edge) bool) []int {
	n := len(p.Steps)
	component, low, index := make([]int, n), make([]int, n), make([]int, n)
	onStack := make([]bool, n)
	var stack []int
	count, last := 0, 0
	// An own stack of visits: a chain of a hundred thousand steps is only long.
	type visit struct{ step, next int }
	for root, s := range p.Steps {
		if s == nil || index[root] != 0 {
			continue
		}
		visits := []visit{{step: root}}
		for len(visits) > 0 {
			v := &visits[len(visits)-1]
			at := v.step
			if v.next == 0 {
				last++
				index[at], low[at] = last, last
				stack, onStack[at] = append(stack, at), true
			}
			next := p.Steps[at].Next
			if v.next < len(next) {
				e := next[v.next]
				v.next++
				to := e.To.Index
				switch {
				case !follow(e):
				case index[to] == 0:
					visits = append(visits, visit{step: to})
				case onStack[to]:
					low[at] = min(low[at], index[to])
				}
				continue
			}
			if low[at] == index[at] {
				count++
				for {
					top := stack[len(stack)-1]
					stack, onStack[top] = stack[:len(stack)-1], false
					component[top] = count
					if top == at {
						break
					}
				}
			}
			if visits = visits[:len(visits)-1]; len(visits) > 0 {
				below := visits[len(visits)-1].step
				low[below] = min(low[below], low[at])
			}
		}
	}
	return component
}

// maxNamed bounds how many steps of a loop a message names.
const maxNamed = 12

// endlessLoops warns of steps that lead back to themselves without a condition
// on the way: only the limit, an error or a forward ends such a loop.
func (c *checker) endlessLoops() {
	p := c.plan
	component := components(p, (*Edge).Always)
	members := make(map[int][]string)
	for _, s := range p.Steps {
		if s != nil {
			members[component[s.Index]] = append(members[component[s.Index]], shortName(s.ID))
		}
	}
	for _, s := range p.Steps {
		if s == nil {
			continue
		}
		number := component[s.Index]
		for _, e := range s.Next {
			if !e.Always() || component[e.To.Index] != number || members[number] == nil {
				continue
			}
			names := members[number]
			members[number] = nil // reported
			if more := len(names) - maxNamed; more > 0 {
				names = append(names[:maxNamed:maxNamed], "… "+strconv.Itoa(more)+" more")
			}
			c.warnings = append(c.warnings, &Problem{at: e.at, Message: "this loop has no condition that ends it: " + strings.Join(names, ", "),
				Hint: "only max_iterations ends it, an error, or a step that forwards elsewhere"})
		}
	}
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
