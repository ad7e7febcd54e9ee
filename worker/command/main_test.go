package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker/command"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// The test binary is its own executor, and some of its own commands.
func TestMain(m *testing.M) {
	switch role := os.Getenv("MILLRACE_TEST_ROLE"); {
	case len(os.Args) > 2 && os.Args[1] == "child":
		os.Exit(child(os.Args[2]))
	case role == "command":
		command.Main()
	case role == "":
		os.Exit(m.Run())
	}
	os.Exit(3)
}

// spec is a step as the engine writes it.
type spec struct {
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env,omitempty"`
	Cwd     string            `json:"cwd,omitempty"`
	Stdin   any               `json:"stdin,omitempty"`
	Stdout  any               `json:"stdout,omitempty"`
	StateFD bool              `json:"state_fd,omitempty"`
}

type object = map[string]any

func shell(script string) spec { return spec{Argv: []string{"sh", "-c", script}} }

// harness is an executor of commands.
type harness struct {
	*testhost.Executor
	t    testing.TB
	last uint64
}

func start(t testing.TB) *harness { return startIn(t, testhost.NewWorld(t)) }

func startIn(t testing.TB, w *testhost.World) *harness {
	return &harness{Executor: w.Start("command", testhost.Options{}), t: t}
}

// code prepares a step.
func (h *harness) code(s spec) ipc.Execute {
	h.t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		h.t.Fatal(err)
	}
	h.last++
	h.Prepare(h.last, "command", string(b))
	return ipc.Execute{Code: h.last}
}

// document runs a step that must succeed and returns the state it makes.
func (h *harness) document(s spec, state ipc.Table) string {
	h.t.Helper()
	return h.World.Document(h.Must(h.code(s), state).State)
}

// failure runs a step that must fail.
func (h *harness) failure(s spec, state ipc.Table) *ipc.Fail {
	h.t.Helper()
	r := h.Run(h.code(s), state)
	if r.Fail == nil {
		h.t.Fatalf("%v succeeded: %s", s.Argv, h.World.Document(r.State))
	}
	if len(r.Fail.Details) > 0 && !json.Valid([]byte(r.Fail.Details)) {
		h.t.Errorf("%v: details are no JSON: %s", s.Argv, r.Fail.Details)
	}
	return r.Fail
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 2000 {
		if holds() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatal("it did not come to pass: ", what)
}

// alive reports whether a process runs (a zombie does not).
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	var id int
	var name, state string
	_, err = fmt.Sscan(string(b), &id, &name, &state)
	return err == nil && state != "Z"
}
