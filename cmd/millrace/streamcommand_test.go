package main

import (
	"fmt"
	"strings"
	"testing"
)

// Commands at either end of a stream, with steps of the other languages and with
// each other.
func TestStreamsOfCommands(t *testing.T) {
	run := streamFlow(t)
	const pipe = `
steps:
  - id: rows
    command: [jq, -c, '.rows[]']
    stdout: {stream: rows}
    next: odd
  - id: odd
    command: [jq, -c, 'select(. % 2 == 1)']
    stdin: {stream: rows}
    stdout: {stream: odd}
    next: sorted
  - id: sorted
    command: [sh, -c, 'sort -rn | jq -cs .']
    stdin: {stream: odd}
    stdout: {key: sorted}
`
	rows, sorted := make([]string, 2000), make([]string, 1000)
	for i := range rows {
		rows[i] = fmt.Sprint(i)
		if i%2 == 1 {
			sorted[len(sorted)-1-i/2] = rows[i]
		}
	}
	got, out := run(pipe, `{"n": 1, "rows": [`+strings.Join(rows, ",")+`]}`)
	if want := `{"n":1,"sorted":[` + strings.Join(sorted, ",") + `]}`; got.code != exitOK || out != want {
		t.Errorf("a pipe: exit %d, %.200s\n%s", got.code, out, got.err)
	}
	python := "python: steps.py, function: "
	for name, c := range map[string]struct {
		flow, input, out string
		code             int
		err              []string
	}{
		"from Go": {"  - {id: make, " + goStep(t, "make") + ", next: jq}\n  - {id: jq, command: [jq, -c, -n, '[inputs.i] | add'], stdin: {stream: items}, stdout: {key: sum}}",
			`{"n":3000}`, `{"n":3000,"head":1,"sum":4498500}`, exitOK, nil},
		"to Go": {"  - {id: jq, command: [jq, -c, 'range(.n) | {i: .}'], stdout: {stream: items}, next: total}\n  - {id: total, " + goStep(t, "total") + "}",
			`{"n":3000}`, `{"n":3000,"sum":4498500}`, exitOK, nil},
		"it wants no more": {"  - {id: make, " + python + "make, next: head}\n  - {id: head, command: [head, -n, 1], stdin: {stream: items}, stdout: {key: first}}",
			`{"n":100000000}`, `"first":{"i":0,`, exitOK, []string{"✓ make"}},
		"nobody wants more": {"  - {id: seq, command: [seq, 100000000], stdout: {stream: items}, next: head}\n  - {id: head, command: [head, -n, 1], stdin: {stream: items}, stdout: {key: first}}",
			`{}`, `{"first":1}`, exitOK, []string{"✓ seq"}},
		"it fails": {"  - {id: seq, command: [sh, -c, 'seq 5; exit 3'], stdout: {stream: items}, next: cat}\n  - {id: cat, command: [cat], stdin: {stream: items}, stdout: ignore}",
			`{}`, "", exitFailed, []string{"✗ seq fail: CommandError: sh exited with code 3", `step "seq", which feeds the stream, failed`}},
		"the other one fails": {"  - {id: make, " + python + "make, next: cat}\n  - {id: cat, command: [cat], stdin: {stream: items}, stdout: ignore}",
			`{"n":1000,"fails_at":300}`, "", exitFailed, []string{"✗ cat fail: JobError: ", `step "make", which feeds the stream, failed: ValueError: no item 300`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, out := run("steps:\n"+c.flow+"\n", c.input)
			if got.code != c.code || !strings.Contains(out, c.out) {
				t.Errorf("exit %d: %.200s\n%s", got.code, out, got.err)
			}
			for _, want := range c.err {
				if !strings.Contains(got.err, want) {
					t.Errorf("the report lacks %s: %s", want, got.err)
				}
			}
		})
	}
}
