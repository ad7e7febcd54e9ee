package worker_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// The test binary is its own executor.
func TestMain(m *testing.M) {
	switch os.Getenv("MILLRACE_TEST_ROLE") {
	case "worker":
		worker.Main(functions)
	case "":
		os.Exit(m.Run())
	}
	os.Exit(3)
}

// functions are what the executor under test can do; the test files fill it.
var functions = worker.Functions{
	"empty": func(context.Context, *worker.State) error { return nil },
}

// codes gives each function a code, in the order of their first use.
type harness struct {
	*testhost.Executor
	codes map[string]uint64
}

func start(t testing.TB, options testhost.Options) *harness {
	return startIn(testhost.NewWorld(t), options)
}

func startIn(w *testhost.World, options testhost.Options) *harness {
	return &harness{Executor: w.Start("worker", options), codes: make(map[string]uint64)}
}

// call returns the execute of a function, preparing it first if need be.
func (h *harness) call(function string) ipc.Execute {
	code, ok := h.codes[function]
	if !ok {
		code = uint64(len(h.codes) + 1)
		h.codes[function] = code
		h.Prepare(code, "function", fmt.Sprintf(`{"function":%q}`, function))
	}
	return ipc.Execute{Code: code}
}
