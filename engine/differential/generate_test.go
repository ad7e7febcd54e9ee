package differential

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// flow is one generated case: an OpenFn execution plan and its input.
type flow struct {
	Seed  uint64 `json:"-"`
	Plan  any    `json:"plan"`
	Input any    `json:"input"`
	// crashes counts the steps and conditions that can end the run.
	crashes int
}

type object = map[string]any

// generator makes flows of one seed.
type generator struct {
	*rand.Rand
	crashes int
}

func newFlow(seed uint64) flow {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0x6d696c6c))}
	p, input := g.plan(), g.input()
	return flow{Seed: seed, Plan: p, Input: input, crashes: g.crashes}
}

func pick[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// keys that states have; few, so that steps meet each other's.
func (g *generator) key() string {
	return pick(g, "a", "b", "list", "n", "text", "deep", "schlüssel", "0", "a b")
}

// value is any JSON value. Some are larger than what the executor decodes at
// once, so that its stand-ins are met.
func (g *generator) value(depth int) any {
	if depth > 0 && g.chance(55) {
		if g.chance(50) {
			list := []any{}
			for range g.IntN(5) {
				list = append(list, g.value(depth-1))
			}
			return list
		}
		o := object{}
		for range g.IntN(5) {
			o[g.key()] = g.value(depth - 1)
		}
		return o
	}
	switch g.IntN(12) {
	case 0:
		return nil
	case 1:
		return g.chance(50)
	case 2:
		return g.IntN(100) - 50
	case 3:
		return g.Float64() * 1e6
	case 4:
		return ""
	case 5:
		return pick(g, "naïve", "日本語", "🙂 and\nmore", "\u2028\"\\\u0000", "false", "0")
	case 6:
		return strings.Repeat(pick(g, "long ", "ü", "🙂"), 400)
	case 7:
		rows := []any{}
		for i := range 60 {
			rows = append(rows, object{"id": i, "name": fmt.Sprint("row ", i), "on": i%3 == 0})
		}
		return rows
	case 8:
		wide := object{}
		for i := range 90 {
			wide[fmt.Sprint("member", i)] = i
		}
		return wide
	case 9:
		return json.RawMessage(pick(g, "1.0", "1e3", "-0", "1E-7", "123456789012345678901234567890", "0.1", `"\u00e9\/"`))
	default:
		return g.IntN(10)
	}
}

// input is a state of any JSON shape.
func (g *generator) input() any {
	if g.chance(12) {
		return pick[any](g, 5, true, []any{1, 2, 3}, []any{}, object{}, []any{object{"data": 1}, "x", []any{}})
	}
	o := object{}
	for range g.IntN(5) {
		o[g.key()] = g.value(3)
	}
	if g.chance(70) {
		o["data"] = g.value(3)
	}
	if g.chance(15) {
		o["references"] = []any{g.value(1)}
	}
	if g.chance(10) {
		o["errors"] = object{"earlier": object{"name": "JobError", "message": "before"}}
	}
	if g.chance(15) {
		o["configuration"] = object{"token": "from the input", "user": "u"}
	}
	if g.chance(8) {
		o["response"] = object{"status": 200}
	}
	return o
}

func (g *generator) plan() object {
	n := 1 + g.IntN(6)
	id := func(i int) string { return string(rune('a' + i)) }
	steps := make([]any, n)
	shape := g.IntN(4)
	for i := range n {
		step := object{"id": id(i)}
		if !g.chance(8) {
			step["expression"] = g.expression()
			if g.chance(15) {
				step["configuration"] = object{"token": "of step " + id(i), "deep": object{"x": 1}}
			}
			if g.chance(20) {
				step["state"] = g.defaults()
			}
		}
		var targets []string
		switch shape {
		case 0: // a line
			if i+1 < n {
				targets = []string{id(i + 1)}
			}
		case 1: // a fan
			if i == 0 {
				for j := 1; j < n; j++ {
					targets = append(targets, id(j))
				}
			}
		default: // any graph without cycles; steps are reached from several
			for j := i + 1; j < n; j++ {
				if g.chance(45) {
					targets = append(targets, id(j))
				}
			}
		}
		if next := g.next(targets); next != nil {
			step["next"] = next
		}
		steps[i] = step
	}
	workflow := object{"steps": steps}
	if g.chance(15) {
		workflow["credentials"] = object{"token": "of the workflow", "shared": true}
	}
	options := object{}
	if g.chance(10) {
		workflow["start"] = id(g.IntN(n))
	}
	return object{"id": "p", "workflow": workflow, "options": options}
}

func (g *generator) defaults() object {
	o := object{}
	for range g.IntN(3) {
		o[g.key()] = g.value(1)
	}
	if g.chance(60) {
		o["data"] = pick[any](g, object{"fallback": 1, "a": "default"}, object{"deep": object{"x": []any{1}}}, object{})
	}
	return o
}

func (g *generator) next(targets []string) any {
	if len(targets) == 0 {
		return nil
	}
	if len(targets) == 1 && g.chance(30) {
		return targets[0]
	}
	edges := object{}
	for _, to := range targets {
		switch g.IntN(8) {
		case 0, 1, 2:
			edges[to] = true
		case 3:
			edges[to] = g.condition()
		case 4:
			edges[to] = object{"condition": g.condition(), "label": "if so"}
		case 5:
			edges[to] = object{"condition": pick(g, "always", "on_job_success", "on_job_failure")}
		case 6:
			edges[to] = pick[any](g, false, object{"condition": "always", "disabled": true}, object{"label": "no condition"})
		case 7:
			edges[to] = pick(g, "always", "on_job_success", "on_job_failure")
		}
	}
	return edges
}

func (g *generator) condition() string {
	if g.chance(4) {
		g.crashes++
		return pick(g, "state.missing.deeper", "nothing + 1", "state.data.x.y.z.w")
	}
	return pick(g,
		"state?.data", "!state?.data", "state?.n > 1", "!state?.errors", "Boolean(state?.errors?.a)",
		"Array.isArray(state?.data)", "state?.list?.length > 2", "state?.data?.a === 1",
		"upstreamStepId === 'a'", "Object.keys(state ?? {}).length > 3", "JSON.stringify(state ?? 0).length > 200",
		"typeof state === 'object'", "state != null && 'a' in Object(state)", "state?.text", "/long/.test(state?.text)",
		"state?.deep?.a ?? true", "(state?.references ?? []).length === 0", "state?.configuration === undefined", "true", "false", "0", "''",
		"Array.isArray(state?.list) && state.list.some((x) => x?.id > 3)",
	)
}

// expression is a job in OpenFn's compiled form.
func (g *generator) expression() string {
	if g.chance(1) {
		g.crashes++
		return pick(g, "export default 5;", "export default [5];", "export default [(s) => s, 'no'];", "import { nothing } from 'no-such-module-at-all'; export default [nothing];", "export default [(s) => {", "nothingHere(); export default [];")
	}
	prelude := ""
	operations := make([]string, 1+g.IntN(3))
	for i := range operations {
		operations[i] = g.operation()
		if g.chance(10) {
			operations[i] = fmt.Sprintf("nested(%s, %s)", operations[i], g.operation())
		}
		if g.chance(6) {
			operations[i] = fmt.Sprintf("guarded(%s)", operations[i])
		}
	}
	all := strings.Join(operations, ",\n  ")
	if strings.Contains(all, "nested(") {
		prelude += "const nested = (...ops) => async (state) => { for (const op of ops) state = (await op(state)) ?? state; return state; };\n"
	}
	if strings.Contains(all, "guarded(") {
		prelude += "const guarded = (op) => async (state) => { try { return await op(state); } catch (e) { return { ...state, caught: e?.name ?? typeof e }; } };\n"
	}
	return prelude + "export default [\n  " + all + "\n];"
}

// js writes a value as JavaScript source.
func js(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (g *generator) operation() string {
	k, v := js(g.key()), js(g.value(2))
	o := js(g.key())
	switch roll := g.IntN(100); {
	case roll < 74:
		return strings.NewReplacer("$K", k, "$V", v, "$O", o).Replace(pick(g, benign...))
	case roll < 82:
		return strings.NewReplacer("$K", k, "$V", v, "$O", o).Replace(pick(g, shapes...))
	case roll < 88:
		return pick(g, returns...)
	case roll < 98:
		return pick(g, failures...)
	default:
		g.crashes++
		return pick(g, crashes...)
	}
}

// sortedKeys are an object's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
