package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const flowSteps = `
import millrace

def pages(state):
    big = state.raw("big").nbytes
    results = state.each((list(range(i, i + 10)) for i in range(60)), "double", 4, until="leaf")
    for r in results:
        state.append("all", r, "data")
    try:
        state.call("fails", state)
    except millrace.CallError as e:
        state["error"] = [e.name, e.severity, str(e), e.step]
    for i in range(3):
        state.set_raw("note", "json", b'"%d"' % i)
        state["sizes"] = state.call("sizes", state)["sizes"]
    assert state["sizes"] == [big, len(state["all"])], state["sizes"]
    state["sum"] = sum(state["all"])
    state["nested"] = state.call("nests", {"n": 4})["n"]
    del state["big"]
    return state.forward("last", forwarded=True)

def double(state):
    state["data"] = [2 * x for x in state["data"]]

def add(state):
    state["data"] = [x + 1 for x in state["data"]]

def fails(state):
    raise ValueError(f"no use for {len(state)} keys")

def sizes(state):
    return {"sizes": [state.raw("big").nbytes, len(state["all"])]}

def nests(state):
    return {"n": state["n"] + (state.call("nests", {"n": state["n"] - 1})["n"] if state["n"] else 0)}
`

// TestPythonCalls has Python steps call each other through the engine: pages by
// each, an array by reference, an error, a call that nests, and a forward.
func TestPythonCalls(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("steps.py", flowSteps)
	flow := write("flow.yaml", `
steps:
  - {id: pages, python: steps.py, function: pages, concurrency: 1, next: {double: false, fails: false, sizes: false, nests: false, last: false}}
  - {id: double, python: steps.py, function: double, next: add}
  - {id: add, python: steps.py, function: add}
  - {id: fails, python: steps.py, function: fails}
  - {id: sizes, python: steps.py, function: sizes}
  - {id: nests, python: steps.py, function: nests}
  - id: last
    command: [jq, -c, '{sum, count: (.all | length), error, nested, note, forwarded}']
`)
	big := write("big.json", `["`+strings.Repeat("9", 300_000)+`"]`)
	worker, err := filepath.Abs("../../worker/python/millrace_worker.py")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.json")
	cmd := start(t, "run", flow, "-i", "big="+big, "-o", out, "--python", python)
	cmd.Env = append(os.Environ(), "MILLRACE_PYTHON_EXECUTOR="+worker)
	if got := finish(t, cmd, ""); got.code != exitOK {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var state struct {
		Sum, Count, Nested int
		Error              []string
		Note               string
		Forwarded          bool
	}
	if err := json.Unmarshal(b, &state); err != nil {
		t.Fatal(err)
	}
	want := 0
	for i := range 60 {
		for j := range 10 {
			want += 2*(i+j) + 1
		}
	}
	if state.Sum != want || state.Count != 600 || state.Nested != 10 || state.Note != "2" || !state.Forwarded {
		t.Errorf("got %s, want a sum of %d", b, want)
	}
	if len(state.Error) != 4 || state.Error[0] != "JobError" || state.Error[2] != "ValueError: no use for 2 keys" || state.Error[3] != "fails" {
		t.Errorf("the error is %q", state.Error)
	}
}
