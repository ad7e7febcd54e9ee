package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const streamPython = `
import os

def make(state):
    def items():
        for i in range(state["n"]):
            if i == state.get("fails_at"):
                raise ValueError("no item %d" % i)
            if i == state.get("dies_at"):
                os._exit(7)
            yield {"i": i, "text": "x" * 200}
    return {**dict(state), "head": 1, "items": items()}

def total(state):
    total = 0
    for item in state["items"]:
        if item["i"] == state.get("bad"):
            raise KeyError("item %d is bad" % item["i"])
        if item["i"] == state.get("kills_at"):
            os._exit(9)
        total += item["i"]
    return {"sum": total, "head": state["head"]}

def first(state):
    for item in state["items"]:
        return {"first": item["i"]}

def passes(state):
    state["passed"] = True
    return state

def pipe(state):
    def odd():
        for item in state["items"]:
            if item["i"] % 2:
                yield item
    return {"head": 2, "items": odd()}

def recovers(state):
    return {"recovered": sorted(state["errors"])}
`

const streamJavaScript = `export default [async (state) => {
  async function* items() {
    for (let i = 0; i < state.n; i++) yield { i, text: 'x'.repeat(200) };
  }
  return { head: 1, items: items() };
}]`

const totalJavaScript = `export default [async (state) => {
  let sum = 0;
  for await (const item of state.items) sum += item.i;
  return { sum, head: state.head };
}]`

// streamFlow is a workflow's folder with steps of both languages.
func streamFlow(t *testing.T) (run func(flow, input string) (ended, string)) {
	t.Helper()
	python := needs(t, "python3")
	needsNode(t)
	dir := t.TempDir()
	write := writer(t, dir)
	write("steps.py", streamPython)
	write("make.js", streamJavaScript)
	write("total.js", totalJavaScript)
	return func(flow, input string) (ended, string) {
		t.Helper()
		out := filepath.Join(dir, "out.json")
		_ = os.Remove(out)
		cmd := start(t, "run", write("flow.yaml", flow), "-i", write("in.json", input), "-o", out, "--python", python)
		cmd.Env = append(append(os.Environ(), asWorker+"=1"), libraries(t)...)
		got := finish(t, cmd, "")
		b, err := os.ReadFile(out)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return got, strings.TrimSpace(string(b))
	}
}

func TestStreamsBetweenLanguages(t *testing.T) {
	run := streamFlow(t)
	steps := map[string][2]string{
		"python":     {"python: steps.py, function: make", "python: steps.py, function: total"},
		"javascript": {"expression: ./make.js", "expression: ./total.js"},
		"go":         {goStep(t, "make"), goStep(t, "total")},
	}
	for from, makes := range steps {
		for to, totals := range steps {
			t.Run(from+" to "+to, func(t *testing.T) {
				flow := fmt.Sprintf("steps:\n  - {id: make, %s, next: total}\n  - {id: total, %s}\n", makes[0], totals[1])
				got, out := run(flow, `{"n": 5000}`)
				var state struct{ Sum, Head int }
				if err := json.Unmarshal([]byte(out), &state); err != nil || got.code != exitOK || state.Sum != 5000*4999/2 || state.Head != 1 {
					t.Fatalf("exit %d, %v: %s\n%s", got.code, err, out, got.err)
				}
			})
		}
	}
}

// A stream of lines that are no JSON is one of bytes.
func TestRawStreams(t *testing.T) {
	run := streamFlow(t)
	got, out := run(`steps:
  - {id: lines, command: [printf, 'ab\ncd\n'], stdin: none, stdout: {stream: items, encoding: raw}, next: join}
  - id: join
    expression: |
      export default [async (state) => {
        let text = '';
        for await (const line of state.items) text += Buffer.from(line).toString() + '.';
        return { text };
      }];
`, `{}`)
	if got.code != exitOK || out != `{"text":"ab.cd."}` {
		t.Fatalf("exit %d: %s\n%s", got.code, out, got.err)
	}
}

// TestStreamEnds has either side of a stream end in each way there is.
func TestStreamEnds(t *testing.T) {
	run := streamFlow(t)
	py := func(id, function, rest string) string {
		return fmt.Sprintf("  - {id: %s, python: steps.py, function: %s%s}\n", id, function, rest)
	}
	two := "steps:\n" + py("make", "make", ", next: total") + py("total", "total", "")
	for name, c := range map[string]struct {
		flow, input string
		code        int
		out         []string // what stands in the final state
		err         []string // and in the report
	}{
		"the reader wants no more": {
			flow: "steps:\n" + py("make", "make", ", next: first") + py("first", "first", ""), input: `{"n": 1000000}`,
			code: exitOK, out: []string{`{"first":0}`}, err: []string{"✓ make"},
		},
		"nobody reads it": {
			flow: "steps:\n" + py("make", "make", ", next: passes") + py("passes", "passes", ""), input: `{"n": 1000000}`,
			code: exitOK, out: []string{`"items":"[stream]"`, `"passed":true`}, err: []string{"✓ make", "cannot be the input"},
		},
		"it is passed on unread": {
			flow: "steps:\n" + py("make", "make", ", next: passes") + py("passes", "passes", ", next: total") + py("total", "total", ""), input: `{"n": 1000}`,
			code: exitOK, out: []string{`{"sum":499500,"head":1}`},
		},
		"a step between reads one and feeds one": {
			flow: "options: {concurrency: 1}\nsteps:\n" + py("make", "make", ", next: pipe") + py("pipe", "pipe", ", next: total") + py("total", "total", ""), input: `{"n": 1000}`,
			code: exitOK, out: []string{`{"sum":250000,"head":2}`},
		},
		"the feeder fails": {
			flow: two, input: `{"n": 1000, "fails_at": 300}`,
			code: exitFailed, out: []string{`"errors":{"total":`, `step \"make\", which feeds the stream, failed: ValueError: no item 300`}, err: []string{"✗ make fail: JobError: ValueError: no item 300"},
		},
		"the feeder dies": {
			flow: two, input: `{"n": 1000, "dies_at": 300}`,
			code: exitFailed, err: []string{"exited with code: 7"},
		},
		"the reader fails": {
			flow: "steps:\n" + py("make", "make", ", next: total") + py("total", "total", ", retry: 2, next: {recovers: on_job_failure}") + py("recovers", "recovers", ""), input: `{"n": 100000, "bad": 50}`,
			code: exitOK, out: []string{`{"recovered":["total"]}`}, err: []string{"it cannot be tried again: it has read state.items, a stream of step \"make\"", "✗ make fail"},
		},
		"the reader dies": {
			flow: two, input: `{"n": 100000, "kills_at": 300}`,
			code: exitFailed, err: []string{"total crash: ExitError: Process exited with code: 9"},
		},
		"a state in which one was is an input": {
			flow: two, input: `{"n": 1, "items": "[stream]"}`,
			code: exitUsage, err: []string{`state.items is "[stream]"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, out := run(c.flow, c.input)
			if got.code != c.code {
				t.Errorf("exit %d, want %d", got.code, c.code)
			}
			for _, want := range c.out {
				if !strings.Contains(out, want) {
					t.Errorf("the final state lacks %s", want)
				}
			}
			for _, want := range c.err {
				if !strings.Contains(got.err, want) {
					t.Errorf("the report lacks %s", want)
				}
			}
			if t.Failed() {
				t.Logf("%s\n%s", out, got.err)
			}
		})
	}
}
