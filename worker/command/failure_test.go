package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func TestExitCodes(t *testing.T) {
	h := start(t)
	state := h.World.State(`{"a":1}`)
	for _, c := range []struct {
		spec    spec
		message string
		details string
	}{
		{shell(`echo first >&2; echo 'the last word' >&2; echo >&2; exit 5`), "sh exited with code 5: the last word",
			`{"argv0":"sh","exit_code":5,"stderr":"first\nthe last word"}`},
		{shell(`exit 1`), "sh exited with code 1", `{"argv0":"sh","exit_code":1,"stderr":""}`},
		{shell(`kill -TERM $$`), "sh was killed by SIGTERM", `{"argv0":"sh","exit_code":null,"signal":"SIGTERM","stderr":""}`},
		{shell(`kill -KILL $$`), "sh was killed by SIGKILL (perhaps because memory ran out)", `{"argv0":"sh","exit_code":null,"signal":"SIGKILL","stderr":""}`},
		{spec{Argv: []string{"jq", ".a.b"}}, "jq exited with code 5: jq: error", ``},
	} {
		f := h.failure(c.spec, state)
		if f.Name != "CommandError" || f.Severity != ipc.SeverityFail || !strings.HasPrefix(f.Message, c.message) {
			t.Errorf("%v: %s %s %q, want %q", c.spec.Argv, f.Severity, f.Name, f.Message, c.message)
		}
		if c.details != "" && f.Details != c.details {
			t.Errorf("%v: details %s, want %s", c.spec.Argv, f.Details, c.details)
		}
	}
	f := h.failure(shell(`head -c 10000 /dev/zero | tr '\0' x >&2; echo end >&2; exit 1`), state)
	var details struct{ Stderr string }
	if err := json.Unmarshal([]byte(f.Details), &details); err != nil {
		t.Fatal(err)
	}
	if n := len(details.Stderr); n > 4096 || n < 4000 || !strings.HasSuffix(details.Stderr, "xend") {
		t.Errorf("the tail of stderr has %d bytes: …%s", n, details.Stderr[max(0, n-20):])
	}
}

func TestOutputThatIsNoState(t *testing.T) {
	h := start(t)
	for _, c := range []struct{ script, message, details string }{
		{`true`, "sh wrote nothing to stdout: it must write the new state as a JSON document; `stdout: ignore` keeps the input state", `"argv0"`},
		{`echo; echo`, "wrote nothing to stdout", ``},
		{`echo hello; echo hint >&2`, `sh wrote to stdout what is not JSON: at byte 0, line 1, near "hello\n"`, `"stderr":"hint"`},
		{`printf '{"a":\n [1,\n  oops]}'`, `at byte 13, line 3, near "{\"a\":\n [1,\n  oops]}"`, `"column":3,"excerpt":"{\"a\":\n [1,\n  oops]}","line":3,"offset":13`},
		{`printf '{"a":1'`, `at byte 6, line 1, near "{\"a\":1"`, `"offset":6`},
		{`echo 1; echo 2`, "wrote more than one JSON document to stdout, the second at byte 2, line 2: wrap them in one, as `jq -s` does, or have one made of all inputs, as `jq -n`", ``},
		{`printf '{}\n\n{}'`, "more than one JSON document to stdout, the second at byte 4, line 3", ``},
		{`printf '{"a":1}}'`, `near "{\"a\":1}}"`, ``},
		{`printf '\357\273\277{}'`, "byte order mark", ``},
		{`printf '"\377"'`, "invalid UTF-8", ``},
		{`head -c 20000 /dev/zero | tr '\0' '['`, "nested", `"offset"`},
	} {
		for _, out := range []any{nil, object{"key": "k"}} {
			s := shell(c.script)
			s.Stdout = out
			f := h.failure(s, ipc.Table{})
			if f.Name != "CommandError" || f.Severity != ipc.SeverityFail || !strings.Contains(f.Message, c.message) || !strings.Contains(f.Details, c.details) {
				t.Errorf("%s: %s %s\n%s\n%s", c.script, f.Severity, f.Name, f.Message, f.Details)
			}
		}
	}
	if n := h.World.Blocks(h.Executor); n != 0 {
		t.Errorf("%d blocks are left", n)
	}
}

func TestStderrBecomesLines(t *testing.T) {
	h := start(t)
	script := strings.Join([]string{
		`printf 'plain\n\nwindows\r\n' >&2`,
		`printf '10%%\r50%%\r100%%\ndone\r' >&2`,
		`printf '\ninvalid \377 byte\n' >&2`,
		`head -c 100000 /dev/zero | tr '\0' y >&2; echo >&2`,
		`printf 'no newline' >&2; echo 1`,
	}, ";")
	h.document(shell(script), ipc.Table{})
	h.Sync()
	want := []string{"plain", "windows", "100%", "done", "invalid \uFFFD byte",
		strings.Repeat("y", 65536), strings.Repeat("y", 100000-65536), "no newline"}
	logs := h.Logs()
	if len(logs) != len(want) {
		t.Fatalf("%d lines: %.300s", len(logs), h.LogText())
	}
	for i, l := range logs {
		if l.Source != "stderr" || l.Level != "info" || l.Message != want[i] {
			t.Errorf("line %d: %s %s %.60q, want %.60q", i, l.Level, l.Source, l.Message, want[i])
		}
	}
}

func TestBudget(t *testing.T) {
	h := start(t)
	const limit = 20 << 20
	for role, out := range map[string]any{"stream": nil, "sparse": object{"key": "k", "encoding": "raw"}} {
		s := self(role)
		s.Stdout = out
		m := h.code(s)
		m.Budget = limit
		f := h.Run(m, ipc.Table{}).Fail
		var details struct {
			Key         string
			Size, Limit int64
		}
		if f == nil || json.Unmarshal([]byte(f.Details), &details) != nil {
			t.Fatalf("%s: %+v", role, f)
		}
		if f.Name != "StateTooLargeError" || f.Severity != ipc.SeverityKill || details.Limit != limit || details.Size <= limit || out != nil && details.Key != "k" {
			t.Errorf("%s: %+v", role, f)
		}
		if role == "stream" && details.Size > 10*limit {
			t.Errorf("it was stopped at %d bytes, the limit was %d", details.Size, limit)
		}
	}
	m := h.code(shell(`printf '"'; head -c 100000 /dev/zero | tr '\0' x; printf '"'`))
	m.Budget = 50_000
	if f := h.Run(m, ipc.Table{}).Fail; f == nil || f.Name != "StateTooLargeError" {
		t.Errorf("a short one over the budget: %+v", f)
	}
	m.Budget = 200_000
	h.Must(m, ipc.Table{})
}

// pids reads process ids that a script wrote to a file, one a line.
func pids(t testing.TB, path string, n int) []int {
	t.Helper()
	var list []int
	eventually(t, "the script has started", func() bool {
		b, _ := os.ReadFile(path)
		list = nil
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return false
			}
			list = append(list, pid)
		}
		return len(list) >= n
	})
	return list
}

func TestCancel(t *testing.T) {
	for _, c := range []struct {
		name, script string
		atLeast      time.Duration
	}{
		{"obedient", `echo $$ >> $F; (echo $BASHPID >/dev/null; sh -c 'echo $$ >> $F; sleep 60'); echo 1`, 0},
		{"deaf", `trap '' TERM; echo $$ >> $F; sh -c 'trap "" TERM; echo $$ >> $F; while :; do sleep 1; done'; echo 1`, 400 * time.Millisecond},
	} {
		h := start(t)
		file := t.TempDir() + "/pids"
		s := shell(c.script)
		s.Env = map[string]string{"F": file}
		request := h.Begin(h.code(s), ipc.Table{})
		running := pids(t, file, 2)
		before := time.Now()
		if err := h.Send(&ipc.Envelope{ID: request.ID, Message: &ipc.Cancel{Reason: "enough"}}); err != nil {
			t.Fatal(err)
		}
		f := h.End(request).Fail
		if f == nil || f.Name != "CancelError" || f.Severity != ipc.SeverityCancel || !strings.Contains(f.Message, "enough") {
			t.Errorf("%s: %+v", c.name, f)
		}
		if took := time.Since(before); took < c.atLeast || took > 10*time.Second {
			t.Errorf("%s: it took %v", c.name, took)
		}
		for _, pid := range running {
			if alive(pid) {
				t.Errorf("%s: process %d is alive", c.name, pid)
			}
		}
		if got := h.document(spec{Argv: []string{"echo", "1"}}, ipc.Table{}); got != "1" {
			t.Errorf("%s: afterwards %s", c.name, got)
		}
	}
}

func TestTimeout(t *testing.T) {
	h := start(t)
	m := h.code(shell(`sleep 60`))
	m.Timeout = 50 * time.Millisecond
	f := h.Run(m, h.World.State(`{"big":"`+strings.Repeat("x", 4<<20)+`"}`)).Fail
	if f == nil || f.Name != "TimeoutError" || f.Severity != ipc.SeverityKill || !strings.Contains(f.Message, "50ms") {
		t.Errorf("%+v", f)
	}
}

func TestDescendantsDieWithTheStep(t *testing.T) {
	h := start(t)
	file := t.TempDir() + "/pids"
	s := shell(`setsid sh -c 'echo $$ >> $F; exec sleep 60' & (sh -c 'echo $$ >> $F; exec sleep 60' &) ; while [ "$(wc -l < $F)" -lt 2 ]; do sleep 0.01; done; echo 1`)
	s.Env = map[string]string{"F": file}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := h.document(s, ipc.Table{}); got != "1" {
		t.Errorf("got %s", got)
	}
	for _, pid := range pids(t, file, 2) {
		if alive(pid) {
			t.Errorf("process %d outlived the step", pid)
		}
	}
}

func TestChildrenDieWithTheExecutor(t *testing.T) {
	for name, end := range map[string]func(*harness){
		"killed":  func(h *harness) { _ = h.Cmd.Process.Kill() },
		"hung up": func(h *harness) { _ = h.Channel.Close() },
	} {
		h := start(t)
		file := t.TempDir() + "/pids"
		s := shell(`echo $$ >> $F; exec sleep 60`)
		s.Env = map[string]string{"F": file}
		h.Begin(h.code(s), ipc.Table{})
		running := pids(t, file, 1)
		end(h)
		_ = h.Exited()
		eventually(t, name+": the command has died", func() bool { return !alive(running[0]) })
	}
}

func TestNothingIsLeaked(t *testing.T) {
	w := testhost.NewWorld(t)
	h := startIn(t, w)
	entries := func(what string) int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", h.Cmd.Process.Pid, what))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	round := func() {
		r := h.Must(h.code(shell(`printf '"'; head -c 100000 /dev/zero | tr '\0' x; printf '"'`)), ipc.Table{})
		r2 := h.Must(h.code(spec{Argv: []string{"cat"}}), r.State)
		h.Release(append(r.Done.Blocks, r2.Done.Blocks...)...)
		h.failure(shell(`echo {; exit 0`), ipc.Table{})
		h.failure(spec{Argv: []string{"no-such-command"}}, ipc.Table{})
		s := shell(`exit 3`)
		s.StateFD = true
		h.failure(s, ipc.Table{})
		h.Sync()
	}
	for range 3 {
		round()
	}
	before := entries("fd")
	for range 20 {
		round()
	}
	if after := entries("fd"); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if n := entries("task"); n > 40 {
		t.Errorf("%d threads", n)
	}
}
