package plan

import "strings"

// edgeTarget is an edge whose target's id is not resolved yet.
type edgeTarget struct {
	edge *Edge
	id   string
	// onKey: the id stands as a key at the edge's place.
	onKey bool
}

// next reads a step's edges, with OpenFn's meaning: true is always taken, false
// never, a text is the condition, and an object is taken only if its condition
// holds, so never without one.
func (b *builder) next(from *Step, n *node, at path) {
	if n == nil {
		return
	}
	add := func(to string, e *Edge, place path, onKey bool) {
		e.From, e.at = from, place
		b.targets = append(b.targets, edgeTarget{e, to, onKey})
	}
	switch n.kind {
	case isString:
		if n.text != "" { // as OpenFn: an empty next is none
			add(n.text, &Edge{}, at, false)
		}
	case isArray:
		for i, item := range n.items {
			if id, ok := item.string(); ok && id != "" {
				add(id, &Edge{}, at.with(i), false)
			}
		}
	case isObject:
		for _, m := range n.members {
			place := at.with(m.key)
			add(m.key, b.edge(m.value, place), place, true)
		}
	}
}

func (b *builder) edge(n *node, at path) *Edge {
	const never = "the edge is never taken"
	switch n.kind {
	case isBool:
		return &Edge{Disabled: n.text == "false"}
	case isString:
		if strings.TrimSpace(n.text) == "" {
			b.warn(at, "write true for an edge that is always taken", "%s: its condition is empty", never)
			return &Edge{Disabled: true}
		}
		return &Edge{Condition: n.text}
	}
	f := bind[fileEdge](n)
	e := &Edge{Label: text(f.Label), inObject: true}
	if off := boolean(f.Disabled); off != nil {
		e.Disabled = *off
	}
	switch fixed := boolean(f.Condition); {
	case fixed != nil:
		e.Disabled = e.Disabled || !*fixed
	default:
		e.Condition = text(f.Condition)
		if strings.TrimSpace(e.Condition) == "" {
			if !e.Disabled && !b.faulty[at.with("condition").String()] {
				b.warn(at, "write condition: always for an edge that is always taken", "%s: it has no condition", never)
			}
			e.Condition, e.Disabled = "", true
		}
	}
	return e
}

// resolveTargets finds the steps that the edges lead to, once all are known.
func (b *builder) resolveTargets() {
	byID := make(map[string]*Step, len(b.plan.Steps))
	var ids []string
	for _, s := range b.plan.Steps {
		if _, dup := byID[s.ID]; !dup {
			byID[s.ID] = s
			ids = append(ids, s.ID)
		}
	}
	for _, t := range b.targets {
		if t.edge.To = byID[t.id]; t.edge.To == nil {
			p := b.problem(t.edge.at, "there is no step %q", t.id)
			p.Hint, p.onKey = b.suggest.hint(t.id, ids), t.onKey
			continue
		}
		b.plan.Edges = append(b.plan.Edges, t.edge)
	}
}
