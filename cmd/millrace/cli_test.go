package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/worker"
)

// program is the real command, built once: the tests run it as a person would.
var program string

// asWorker, in the environment, makes this binary a worker for its own tests.
const asWorker = "MILLRACE_TEST_WORKER"

var testFunctions = worker.Functions{
	// pack compresses data into packed.
	"pack": func(_ context.Context, s *worker.State) error {
		data, err := s.Raw("data")
		if err != nil {
			return err
		}
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		frame := encoder.EncodeAll(data, nil)
		return errors.Join(encoder.Close(), s.SetRaw("packed", worker.Raw, frame), s.Delete("data"))
	},
}

func TestMain(m *testing.M) {
	if os.Getenv(asWorker) != "" {
		worker.Main(testFunctions)
	}
	dir, err := os.MkdirTemp("", "millrace-cli")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "millrace")
	if out, err := exec.Command("go", "build", "-o", dir+"/", ".", "../millrace-source").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

type ended struct {
	code        int
	stdout, err string
}

func millrace(t *testing.T, stdin string, args ...string) ended {
	t.Helper()
	return finish(t, start(t, args...), stdin)
}

func start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

func finish(t *testing.T, cmd *exec.Cmd, stdin string) ended {
	t.Helper()
	var out, diagnostics bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &diagnostics
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), out.String(), diagnostics.String()}
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const double = `
name: double
steps:
  - id: double
    command: [jq, -c, '.n *= 2']
`

func TestRun(t *testing.T) {
	flow := file(t, "flow.yaml", double)
	input := file(t, "state.json", `{"n": 21, "other": [1, 2, 3]}`)
	dir := t.TempDir()
	out, stats := filepath.Join(dir, "out.json"), filepath.Join(dir, "stats.json")
	got := millrace(t, "", "run", flow, "-i", input, "-o", out, "--stats", stats)
	if got.code != exitOK {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	for _, words := range []string{"✓ double", "success in", out} {
		if !strings.Contains(got.err, words) {
			t.Errorf("standard error does not say %q:\n%s", words, got.err)
		}
	}
	if strings.Contains(got.err, "\x1b") {
		t.Errorf("escape sequences, and no terminal: %q", got.err)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != `{"n":42,"other":[1,2,3]}`+"\n" {
		t.Errorf("wrote %q, %v", b, err)
	}
	var figures map[string]any
	b, err := os.ReadFile(stats)
	if err != nil || json.Unmarshal(b, &figures) != nil {
		t.Fatalf("stats: %v\n%s", err, b)
	}
	for _, name := range []string{"payload_bytes", "control_bytes", "supervisor_decodes", "supervisor_encodes", "peak_rss_bytes", "steps"} {
		if _, ok := figures[name]; !ok {
			t.Errorf("stats have no %s", name)
		}
	}
	if figures["supervisor_decodes"] != 0.0 || figures["supervisor_encodes"] != 0.0 {
		t.Errorf("the supervisor decoded or encoded: %s", b)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left beside the output: %v", entries)
	}
}

func TestStreams(t *testing.T) {
	flow := file(t, "flow.yaml", double)
	if got := millrace(t, `{"n":1}`, "run", flow, "-i", "-"); got.code != exitOK || got.stdout != `{"n":2}`+"\n" {
		t.Errorf("exit %d, %q, %s", got.code, got.stdout, got.err)
	}
	if got := millrace(t, `{"n":1}`, "run", flow, "-i", "-", "-o", "-", "-k", "n", "-q"); got.stdout != "2" || got.err != "" {
		t.Errorf("one key: %q, %q", got.stdout, got.err)
	}
}

func TestInputByKey(t *testing.T) {
	flow := file(t, "flow.yaml", "steps:\n  - id: a\n    command: [jq, -c, '{n: (.data | length), raw: .blob[\"@encoding\"]}']\n")
	data := file(t, "data.json", `[1,2,3]`)
	blob := file(t, "blob.bin", "\x00\x01\x02")
	got := millrace(t, "", "run", flow, "-i", "data="+data, "-i", "blob="+blob)
	if got.code != exitOK || got.stdout != `{"n":3,"raw":"raw"}`+"\n" {
		t.Errorf("exit %d, %q, %s", got.code, got.stdout, got.err)
	}
}

func TestJSONLog(t *testing.T) {
	flow := file(t, "flow.yaml", "steps:\n  - id: a\n    command: [sh, -c, 'echo hello >&2; echo {}']\n")
	got := millrace(t, "", "run", flow, "--log-format", "json")
	seen := false
	for line := range strings.Lines(got.err) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		seen = seen || (entry["msg"] == "hello" && entry["step"] == "a" && entry["source"] == "stderr")
	}
	if !seen {
		t.Errorf("the step's line is not there:\n%s", got.err)
	}
}

// Each kind of bad input has its exit code and says what is wrong and where.
func TestErrors(t *testing.T) {
	good := file(t, "flow.yaml", double)
	state := file(t, "state.json", `{"n":1}`)
	flow := func(steps string) string { return file(t, "bad.yaml", "steps:\n"+steps) }
	plain := file(t, "script", "#!/bin/sh\necho {}\n")
	dir := t.TempDir()
	unreadable := file(t, "secret.json", "{}")
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	step := func(argv string) string { return flow("  - id: a\n    command: " + argv + "\n") }
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"no command", []string{"walk"}, exitUsage, []string{"walk", "--help"}},
		{"unknown flag", []string{"run", good, "--fast"}, exitUsage, []string{"--fast"}},
		{"no workflow", []string{"run"}, exitUsage, []string{"1 arg"}},
		{"workflow missing", []string{"run", "nowhere.yaml"}, exitUsage, []string{"nowhere.yaml"}},
		{"unknown key", []string{"run", flow("  - id: a\n    comand: [true]\n")}, exitUsage, []string{"bad.yaml:3:", "did you mean", "command"}},
		{"missing target", []string{"run", flow("  - id: a\n    next: bee\n  - id: bees\n")}, exitUsage, []string{"bee", "did you mean"}},
		{"two steps, one id", []string{"run", flow("  - id: a\n  - id: a\n")}, exitUsage, []string{"a", "line"}},
		{"loop without an end", []string{"run", flow("  - id: a\n    next: a\n")}, exitFailed, []string{"bad.yaml:3:", "no condition that ends it", "IterationLimitError", `the edge from "a" to "a"`}},
		{"bad condition", []string{"run", flow("  - id: a\n    next: {b: 'state.('}\n  - id: b\n")}, exitUsage, []string{"bad.yaml:3:"}},
		{"condition that throws", []string{"run", flow("  - id: a\n    next: {b: 'state.x.y'}\n  - id: b\n")}, exitFailed, []string{"EdgeConditionError", "state.x.y"}},
		{"condition that never ends", []string{"run", flow("  - id: a\n    next: {b: '(() => { for (;;); })()'}\n  - id: b\n")}, exitFailed, []string{"EdgeConditionError"}},
		{"input missing", []string{"run", good, "-i", "nowhere.json"}, exitUsage, []string{"nowhere.json"}},
		{"input is a directory", []string{"run", good, "-i", dir}, exitUsage, []string{"directory"}},
		{"input is not JSON", []string{"run", good, "-i", plain}, exitUsage, []string{plain, "line 1"}},
		{"input key missing", []string{"run", good, "-i", "data=nowhere.json"}, exitUsage, []string{"nowhere.json"}},
		{"start missing", []string{"run", good, "--start", "x"}, exitUsage, []string{"--start", "double"}},
		{"log level", []string{"run", good, "--log-level", "loud"}, exitUsage, []string{"loud"}},
		{"output is a directory", []string{"run", good, "-o", dir}, exitOutput, []string{dir}},
		{"output has no folder", []string{"run", good, "-o", dir + "/x/out.json"}, exitOutput, []string{"out.json"}},
		{"disk full", []string{"run", good, "-i", state, "-o", "/dev/full"}, exitOutput, []string{"no space"}},
		{"stats has no folder", []string{"run", good, "-i", state, "--stats", dir + "/x/s.json"}, exitOutput, []string{"s.json"}},
		{"unknown program", []string{"run", step("[no-such-program]")}, exitFailed, []string{"no-such-program"}},
		{"not executable", []string{"run", step("[" + plain + "]")}, exitFailed, []string{plain, "not executable"}},
		{"non-zero exit", []string{"run", step("[sh, -c, 'echo it broke >&2; exit 4']")}, exitFailed, []string{"exited with code", "4", "it broke"}},
		{"output not JSON", []string{"run", step("[echo, hello]")}, exitFailed, []string{"JSON"}},
		{"output of two documents", []string{"run", step("[echo, '{} {}']")}, exitFailed, []string{"jq"}},
		{"no output", []string{"run", step("['true']")}, exitFailed, []string{"stdout"}},
		{"over budget", []string{"run", step(`[sh, -c, "printf '\"'; head -c 10000000 /dev/zero | tr '\\0' x; printf '\"'"]`), "--memory", "1MB"}, exitFailed, []string{"StateTooLargeError", "1000000"}},
		{"step timeout", []string{"run", flow("  - id: a\n    timeout: 100ms\n    command: [sleep, '60']\n")}, exitFailed, []string{"TimeoutError", "100ms"}},
		{"run timeout", []string{"run", step("[sleep, '60']"), "--timeout", "100ms"}, exitFailed, []string{"TimeoutError", "100ms"}},
		{"not a worker", []string{"run", flow("  - id: a\n    worker: ['true']\n    function: f\n")}, exitFailed, []string{"hello"}},
		{"worker missing", []string{"run", flow("  - id: a\n    worker: /no/such/worker\n    function: f\n")}, exitUsage, []string{"/no/such/worker", "a"}},
		{"validate", []string{"validate", flow("  - id: a\n    comand: [true]\n")}, exitUsage, []string{"did you mean"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := millrace(t, "", c.args...)
			if got.code != c.code {
				t.Errorf("exit %d, want %d: %s", got.code, c.code, got.err)
			}
			for _, words := range c.words {
				if !strings.Contains(strings.ToLower(got.err), strings.ToLower(words)) {
					t.Errorf("does not say %q:\n%s", words, got.err)
				}
			}
			if strings.Contains(got.err, "panic") || strings.Contains(got.err, "goroutine ") {
				t.Errorf("a stack trace is no message:\n%s", got.err)
			}
		})
	}
	if os.Getuid() != 0 { // root may read everything
		if got := millrace(t, "", "run", good, "-i", unreadable); got.code != exitUsage || !strings.Contains(got.err, "permission denied") {
			t.Errorf("unreadable input: exit %d, %s", got.code, got.err)
		}
	}
}

// A disk that fills up while the output is written leaves what was there.
func TestDiskFullKeepsTheOldOutput(t *testing.T) {
	flow := file(t, "flow.yaml", "steps:\n  - id: a\n    command: [jq, -c, -n, '{data: [range(200000)]}']\n")
	mount := t.TempDir()
	script := `mount -t tmpfs -o size=256k none "$1" && echo old > "$1/out.json" && { "$2" run "$3" -o "$1/out.json"; echo "exit $?"; ls -A "$1"; cat "$1/out.json"; }`
	cmd := exec.CommandContext(t.Context(), "unshare", "-rm", "sh", "-c", script, "sh", mount, program, flow)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := fmt.Sprintf("exit %d\nout.json\nold\n", exitOutput)
	if !strings.HasSuffix(string(out), want) || !strings.Contains(string(out), "no space left") {
		t.Errorf("got\n%s\nwant it to end with\n%s", out, want)
	}
}

// Ctrl-C and SIGTERM end the run and everything it started.
func TestSignals(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: exitInterrupt, syscall.SIGTERM: exitTerminate} {
		mark := filepath.Join(t.TempDir(), "pid")
		flow := file(t, "flow.yaml", fmt.Sprintf("steps:\n  - id: a\n    command: [sh, -c, 'echo $$ > %s; sleep 300']\n", mark))
		cmd := start(t, "run", flow)
		var diagnostics bytes.Buffer
		cmd.Stderr = &diagnostics
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := waitForPID(t, mark)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { result <- cmd.Wait() }()
		select {
		case <-result:
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("%v: exit %d, want %d: %s", sig, got, code, &diagnostics)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("%v: still running", sig)
		}
		gone(t, pid)
	}
}

// When the supervisor is killed, so is everything below it.
func TestKilledSupervisorLeavesNothing(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "pid")
	flow := file(t, "flow.yaml", fmt.Sprintf("steps:\n  - id: a\n    command: [sh, -c, 'echo $$ > %s; sleep 300']\n", mark))
	cmd := start(t, "run", flow)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := waitForPID(t, mark)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	gone(t, pid)
}

// The supervisor is killed at random instants of runs: whatever it had started
// is gone, and with it the memory, which nothing names.
func TestSupervisorKilledAtRandom(t *testing.T) {
	flow := file(t, "flow.yaml", `
steps:
  - id: a
    command: [jq, -c, -n, '{data: [range(20000)]}']
    next: {b: true, c: true}
  - id: b
    command: [jq, -c, '.b = (.data | length)']
    next: d
  - id: c
    command: [sh, -c, 'cat; sleep 0.01']
  - id: d
    command: [jq, -c, '.data = null']
`)
	const mark = "MILLRACE_TEST_MARK"
	finished := 0
	for i := range 50 {
		value := fmt.Sprintf("%d-%d", os.Getpid(), i)
		cmd := start(t, "run", flow, "-q")
		cmd.Env = append(os.Environ(), mark+"="+value)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(rand.IntN(80))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		if cmd.Wait() == nil {
			finished++
		}
		deadline := time.Now().Add(5 * time.Second)
		for left := marked(mark + "=" + value); len(left) > 0; left = marked(mark + "=" + value) {
			if time.Now().After(deadline) {
				t.Fatalf("left behind: %v", left)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if finished == 50 {
		t.Error("every run finished: nothing was tested")
	}
}

// marked returns the live processes with a variable in their environment.
func marked(variable string) []string {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []string
	for _, p := range paths {
		environ, err := os.ReadFile(p)
		if err != nil || !strings.Contains("\x00"+string(environ), "\x00"+variable+"\x00") {
			continue
		}
		if cmdline, err := os.ReadFile(filepath.Dir(p) + "/cmdline"); err == nil && len(cmdline) > 0 {
			found = append(found, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

func waitForPID(t *testing.T, path string) int {
	t.Helper()
	for range 1000 {
		if b, err := os.ReadFile(path); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				return pid
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the step did not start")
	return 0
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

// One state through steps in four languages, its large key untouched by all.
func TestLanguages(t *testing.T) {
	for _, interpreter := range []string{"node", "python3"} {
		if _, err := exec.LookPath(interpreter); err != nil {
			t.Skipf("%s is not installed", interpreter)
		}
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("step.py", "def step(state):\n    print('from python')\n    state['python'] = state['n'] + 1\n    return state\n")
	flow := write("flow.yaml", `
steps:
  - id: jq
    command: [jq, -c, '. + 1']
    stdin: {key: n}
    stdout: {key: n}
    next: {python: state.n === 2}
  - id: python
    python: step.py
    next: {javascript: state.python === 3}
  - id: javascript
    expression: |
      export default [(state) => { console.log('from javascript'); return { ...state, javascript: state.python + 1 }; }]
    next: {last: state.javascript === 4}
  - id: last
    command: [jq, -c, 'length']
    stdin: {key: big}
    stdout: {key: length}
`)
	big := write("big.json", "["+strings.Repeat("1,", 500_000)+"1]")
	state := write("state.json", `{"n":1}`)
	stats := filepath.Join(dir, "stats.json")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := start(t, "run", flow, "-i", state, "-i", "big="+big, "-o", filepath.Join(dir, "out.json"), "--stats", stats)
	cmd.Env = append(os.Environ(),
		"MILLRACE_NODE_EXECUTOR="+root+"/worker/node/bin/millrace-node-worker.js",
		"MILLRACE_PYTHON_EXECUTOR="+root+"/worker/python/millrace_worker.py")
	got := finish(t, cmd, "")
	if got.code != exitOK {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	for _, words := range []string{"from python", "from javascript"} {
		if !strings.Contains(got.err, words) {
			t.Errorf("no log line %q:\n%s", words, got.err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "out.json"))
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if string(out["python"]) != "3" || string(out["javascript"]) != "4" || string(out["length"]) != "500001" || len(out["big"]) != 1_000_003 {
		t.Errorf("python %s, javascript %s, length %s, big of %d bytes", out["python"], out["javascript"], out["length"], len(out["big"]))
	}
	var figures struct {
		PayloadBytes uint64 `json:"payload_bytes"`
	}
	b, err = os.ReadFile(stats)
	if err != nil || json.Unmarshal(b, &figures) != nil || figures.PayloadBytes > 100 {
		t.Errorf("steps wrote %d bytes beside an untouched megabyte (%v)", figures.PayloadBytes, err)
	}
}

func TestBench(t *testing.T) {
	flow := file(t, "flow.yaml", double)
	state := file(t, "state.json", `{"n":1}`)
	got := millrace(t, "", "bench", flow, "-i", state, "-n", "2")
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if got.code != exitOK || len(lines) != 2 || !strings.Contains(lines[1], "1.00") {
		t.Errorf("exit %d\n%s%s", got.code, got.stdout, got.err)
	}
	if got := millrace(t, "", "bench", flow, "-n", "0"); got.code != exitUsage {
		t.Errorf("no runs: exit %d", got.code)
	}
}

func TestVersionAndHelp(t *testing.T) {
	if got := millrace(t, "", "version"); got.code != exitOK || !strings.HasPrefix(got.stdout, "millrace ") {
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{"--help"}, {"run", "--help"}, {"validate", "--help"}, {"completion", "bash"}} {
		if got := millrace(t, "", args...); got.code != exitOK || got.stdout == "" {
			t.Errorf("%v: exit %d, %s", args, got.code, got.err)
		}
	}
}

func TestExamplesAreValid(t *testing.T) {
	examples, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, e := range examples {
		path, err := filepath.Abs(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := millrace(t, "", "validate", path); got.code != exitOK {
			t.Errorf("%s: %s", e, got.err)
		}
	}
}
