package conformance

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Kind is the kind of code that an executor takes by prepare.
type Kind string

// The kinds.
const (
	// KindFunction is a worker program that has registered the Behaviours.
	KindFunction   Kind = "function"
	KindJavaScript Kind = "javascript"
	KindPython     Kind = "python"
	// KindCommand needs jq and a POSIX shell on this machine.
	KindCommand Kind = "command"
)

// Kinds lists them.
func Kinds() []Kind { return []Kind{KindFunction, KindJavaScript, KindPython, KindCommand} }

// Behaviour is a step whose outcome the cases know.
type Behaviour struct {
	// Name is the function's name in a worker program.
	Name string
	// Does says what the step has to do to its state.
	Does string
	// Optional marks what not every language can do: cases that need it are
	// skipped where a worker program has not registered it.
	Optional bool
}

// Behaviours lists what a worker program under test registers.
func Behaviours() []Behaviour {
	return []Behaviour{
		{Name: "identity", Does: "returns the state, no key touched"},
		{Name: "read", Does: "decodes the key read, fails unless its member list has 1000 items, returns the state unchanged"},
		{Name: "set", Does: `sets the key added to {"list": [1,2,3], "text": T}, T being a"b\c, U+0001, é and U+1F600`},
		{Name: "delete", Does: "deletes the key gone"},
		{Name: "rename", Does: "deletes the key from and sets the key to to its value"},
		{Name: "mutate", Does: "decodes the key data, adds 1 to nested.n in it, in place where the language allows"},
		{Name: "append", Does: `decodes the key value, an array, and appends "end" to it`},
		{Name: "copy", Does: "sets the key copy to the value of the key value"},
		{Name: "keys", Does: "sets the key keys to the list of the state's keys, in order"},
		{Name: "fresh", Does: `returns a new object {"fresh": true}, whatever it was given`},
		{Name: "private", Does: `sets _secret to 1, configuration to {"token": 1} and kept to true`},
		{Name: "allocate", Does: "sets the key big to a text of 8388608 letters x"},
		{Name: "throw", Does: "fails with the message conformance: thrown"},
		{Name: "log", Does: "logs conformance: hello, returns the state"},
		{Name: "sleep", Does: "sleeps for 60 s or until it is cancelled, without keeping the processor busy"},
		{Name: "nap", Does: "sleeps for 300 ms, sets the key napped to true"},
		{Name: "unserialisable", Does: "sets the key bad to what has no JSON form and is an error (a cycle)", Optional: true},
		{Name: "value", Does: "returns the bare value [1,2,3]", Optional: true},
		{Name: "nothing", Does: "returns nothing, in a language where that makes no state", Optional: true},
		{Name: "call", Does: "calls the step other with its state, returns what comes of it", Optional: true},
		{Name: "call-new", Does: `calls other with {"data": [1,2,3]}, sets the key result to the value of what comes of it`, Optional: true},
		{Name: "call-catch", Does: "calls other with its state; when that fails, sets the key error to the failure's [name, severity, called step]", Optional: true},
		{Name: "each", Does: `calls other for each item of the key pages, under data, 3 at a time; appends the elements of each result's data to the array all, by reference, in the order in which they come, and sets order to the items' numbers in that order`, Optional: true},
		{Name: "each-count", Does: "calls other for each item of the key pages, under data, 2 at a time; sets n to the number of results", Optional: true},
		{Name: "forward", Does: "sets the key head to new and forwards to other, no other key touched", Optional: true},
		{Name: "feed", Does: `streams {"i": 0}, {"i": 1} and so on under the key items, as many as the key n says, beside its state`, Optional: true},
		{Name: "feed-fail", Does: "streams three such items, then fails with the message conformance: thrown", Optional: true},
		{Name: "drain", Does: "reads the stream under items to its end, sets the key sum to the sum of their i", Optional: true},
		{Name: "drain-three", Does: "reads three items of the stream under items, sets the key got to 3", Optional: true},
		{Name: "noise", Does: "writes bytes that are no text to its standard output, sets the key noisy to true", Optional: true},
	}
}

// allocated is the length of what allocate sets, quotes included.
const allocated = 8<<20 + 2

// step is how a behaviour is asked for.
type step struct {
	spec any // JSON object of the prepare message
	// rewrites: the step's kind writes the whole state anew, so no row of its
	// input can be passed on.
	rewrites bool
	needs    string // a program that must be in PATH
}

// kind is a Kind made ready to use.
type kind struct {
	name  Kind
	steps map[string]step
	dir   string // temporary; "" is none
}

func (k *kind) close() {
	if k.dir != "" {
		_ = os.RemoveAll(k.dir) // temporary files of a few KiB
	}
}

//go:embed steps/steps.py
var pythonSteps []byte

func loadKind(name Kind) (*kind, error) {
	k := &kind{name: name}
	switch name {
	case KindFunction:
		k.steps = make(map[string]step)
		for _, b := range Behaviours() {
			k.steps[b.Name] = step{spec: map[string]string{"function": b.Name}}
		}
	case KindJavaScript:
		k.steps = javascriptSteps()
	case KindCommand:
		k.steps = commandSteps()
	case KindPython:
		dir, err := os.MkdirTemp("", "millrace-conformance-")
		if err != nil {
			return nil, err
		}
		k.dir = dir
		path := filepath.Join(dir, "steps.py")
		if err := os.WriteFile(path, pythonSteps, 0o600); err != nil {
			k.close()
			return nil, err
		}
		k.steps = make(map[string]step)
		for _, b := range Behaviours() {
			if b.Name != "nothing" { // returning None keeps the state
				function := strings.ReplaceAll(b.Name, "-", "_")
				k.steps[b.Name] = step{spec: map[string]string{"path": path, "function": function}}
			}
		}
	default:
		return nil, fmt.Errorf("unknown kind %q: use one of %v", name, Kinds())
	}
	return k, nil
}

// spec returns what prepare says for a behaviour, or skips or fails the case
// where the executor has none.
func (c *check) spec(s *session, behaviour string) string {
	st, ok := c.kind.steps[behaviour]
	if !ok {
		c.skipf("a step of kind %s cannot do %q", c.kind.name, behaviour)
	}
	if st.needs != "" {
		if _, err := exec.LookPath(st.needs); err != nil {
			c.skipf("the step %q needs %s, which is not in PATH", behaviour, st.needs)
		}
	}
	if c.kind.name == KindFunction && !slices.Contains(s.hello.Functions, behaviour) {
		i := slices.IndexFunc(Behaviours(), func(b Behaviour) bool { return b.Name == behaviour })
		if Behaviours()[i].Optional {
			c.skipf("the worker has no function %q", behaviour)
		}
		c.failf("the worker has no function %q (it %s); its hello names: %s", behaviour, Behaviours()[i].Does, strings.Join(s.hello.Functions, ", "))
	}
	text, err := json.Marshal(st.spec)
	c.must(err)
	return string(text)
}

func javascriptSteps() map[string]step {
	bodies := map[string]string{
		"identity":       `return state;`,
		"read":           `if (state.read.list.length !== 1000) throw new Error("read " + state.read.list.length); return state;`,
		"set":            `state.added = { list: [1, 2, 3], text: "a\"b\\c\u0001\u00e9\u{1f600}" }; return state;`,
		"delete":         `delete state.gone; return state;`,
		"rename":         `const { from, ...rest } = state; return { ...rest, to: from };`,
		"mutate":         `state.data.nested.n++; return state;`,
		"append":         `state.value.push("end"); return state;`,
		"copy":           `state.copy = state.value; return state;`,
		"keys":           `state.keys = Object.keys(state); return state;`,
		"fresh":          `return { fresh: true };`,
		"private":        `return { ...state, _secret: 1, configuration: { token: 1 }, kept: true };`,
		"allocate":       `state.big = "x".repeat(8388608); return state;`,
		"throw":          `throw new Error("conformance: thrown");`,
		"log":            `console.log("conformance: hello"); return state;`,
		"sleep":          `await new Promise((resolve) => setTimeout(resolve, 60000)); return state;`,
		"nap":            `await new Promise((resolve) => setTimeout(resolve, 300)); state.napped = true; return state;`,
		"unserialisable": `const bad = {}; bad.self = bad; state.bad = bad; return state;`,
		"value":          `return [1, 2, 3];`,
		"nothing":        ``,
		"call":           `return call("other", state);`,
		"call-new":       `state.result = (await call("other", { data: [1, 2, 3] })).value; return state;`,
		"call-catch":     `try { await call("other", state); } catch (e) { state.error = [e.name, e.severity, e.step]; } return state;`,
		"each":           `state.order = []; for await (const r of each(state.pages, "other", { concurrency: 3 })) { state.order.push(r.index); append(state, "all", r.state.data); } return state;`,
		"each-count":     `let n = 0; for await (const r of each(state.pages, "other", { concurrency: 2 })) n += r.index >= 0; return { n };`,
		"forward":        `return forward("other", { head: "new" });`,
		"feed":           `const { n } = state; return { ...state, items: (function* () { for (let i = 0; i < n; i++) yield { i }; })() };`,
		"feed-fail":      `return { ...state, items: (async function* () { for (let i = 0; i < 3; i++) yield { i }; throw new Error("conformance: thrown"); })() };`,
		"drain":          `let sum = 0; for await (const { i } of state.items) sum += i; return { ...state, sum };`,
		"drain-three":    `let got = 0; for await (const item of state.items) if (++got === 3) break; return { ...state, got };`,
	}
	steps := make(map[string]step)
	for name, body := range bodies {
		steps[name] = step{spec: map[string]any{
			"source": "export default [async (state) => { " + body + " }];",
			"path":   name + ".js",
		}}
	}
	return steps
}

func commandSteps() map[string]step {
	type spec map[string]any
	key := func(k string) spec { return spec{"key": k} }
	sh := func(script string, stdin, stdout any) step {
		return step{spec: spec{"argv": []string{"sh", "-c", script}, "stdin": stdin, "stdout": stdout}}
	}
	// jq over the whole state writes all of it anew.
	jq := func(program string) step {
		return step{spec: spec{"argv": []string{"jq", "-c", program}, "stdin": "state", "stdout": "state"}, rewrites: true, needs: "jq"}
	}
	of := func(program, in, out string) step {
		return step{spec: spec{"argv": []string{"jq", "-c", program}, "stdin": key(in), "stdout": key(out)}, needs: "jq"}
	}
	return map[string]step{
		"identity":       sh("exit 0", "none", "ignore"),
		"read":           sh("test $(wc -c) -gt 1000", key("read"), "ignore"),
		"set":            sh(`printf '%s' '{"list":[1,2,3],"text":"a\"b\\c\u0001é😀"}'`, "none", key("added")),
		"delete":         jq(`del(.gone)`),
		"rename":         jq(`.from as $v | del(.from) | .to = $v`),
		"mutate":         of(`.nested.n += 1`, "data", "data"),
		"append":         of(`. + ["end"]`, "value", "value"),
		"copy":           sh("cat", key("value"), key("copy")),
		"keys":           jq(`. + {keys: keys_unsorted}`),
		"fresh":          {spec: spec{"argv": []string{"printf", `{"fresh":true}`}, "stdin": "none", "stdout": "state"}, rewrites: true},
		"private":        jq(`. + {_secret: 1, configuration: {token: 1}, kept: true}`),
		"allocate":       sh(`printf '"'; head -c 8388608 /dev/zero | tr '\0' x; printf '"'`, "none", key("big")),
		"throw":          sh(`echo "conformance: thrown" >&2; exit 3`, "none", "ignore"),
		"log":            sh(`echo "conformance: hello" >&2`, "none", "ignore"),
		"sleep":          sh(`exec sleep 60`, "none", "ignore"),
		"nap":            sh(`sleep 0.3; echo true`, "none", key("napped")),
		"feed":           sh(`seq 0 $(($(cat) - 1)) | sed 's/.*/{"i":&}/'`, key("n"), spec{"stream": "items"}),
		"feed-fail":      sh(`printf '{"i":0}\n{"i":1}\n{"i":2}\n'; echo "conformance: thrown" >&2; exit 3`, "none", spec{"stream": "items"}),
		"drain":          {spec: spec{"argv": []string{"jq", "-s", "map(.i) | add"}, "stdin": spec{"stream": "items"}, "stdout": key("sum")}, needs: "jq"},
		"drain-three":    sh(`head -n 3 | wc -l`, spec{"stream": "items"}, key("got")),
		"unserialisable": sh(`printf '{"bad": nope}'`, "none", key("bad")),
		"value":          {spec: spec{"argv": []string{"printf", `[1,2,3]`}, "stdin": "none", "stdout": "state"}, rewrites: true},
	}
}
