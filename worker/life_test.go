package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

var (
	leaked *worker.State
)

func init() {
	functions["info"] = func(ctx context.Context, s *worker.State) error {
		_, hasDeadline := ctx.Deadline()
		return errors.Join(
			s.Set("info", worker.Info(ctx)), s.Set("deadline", hasDeadline),
			s.Set("heap", debug.SetMemoryLimit(-1)), s.Set("outside", worker.Info(context.Background())),
		)
	}
	functions["wait"] = func(ctx context.Context, s *worker.State) error {
		worker.Logger(ctx).Info("waiting")
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		<-child.Done()
		return fmt.Errorf("stopped: %w", child.Err())
	}
	functions["finish"] = func(ctx context.Context, s *worker.State) error {
		worker.Logger(ctx).Info("waiting")
		<-ctx.Done()
		return s.Set("done", ctx.Err().Error())
	}
	functions["stubborn"] = func(ctx context.Context, s *worker.State) error {
		worker.Logger(ctx).Info("waiting")
		select {}
	}
	functions["spin"] = func(ctx context.Context, s *worker.State) error {
		worker.Logger(ctx).Info("waiting")
		for n := 0; ctx.Err() == nil; n++ {
			_ = n
		}
		return ctx.Err()
	}
	functions["leak"] = func(_ context.Context, s *worker.State) error {
		leaked = s
		return nil
	}
	functions["use leaked"] = func(ctx context.Context, s *worker.State) error {
		_, err := leaked.Raw("a")
		_, createErr := leaked.Create("x", worker.JSON, 0)
		for i, err := range []error{err, createErr, leaked.Set("x", 1), leaked.SetValue(1), leaked.Delete("a"), leaked.Clear()} {
			if err == nil || !strings.Contains(err.Error(), "the step is over") {
				return fmt.Errorf("use %d of a state that is over: %v", i, err)
			}
		}
		return nil
	}
}

func TestInfo(t *testing.T) {
	h := start(t, testhost.Options{})
	m := h.call("info")
	m.Run, m.Step, m.Attempt, m.Upstream = "r", "s", 3, "u"
	m.MemoryLimit, m.Budget, m.Timeout = 1_000_000_000, 4096, time.Minute
	r := h.Must(m, h.World.State(`{}`))
	const want = `{"info":{"Run":"r","Step":"s","Attempt":3,"Upstream":"u","MemoryLimit":1000000000,"Budget":4096},` +
		`"deadline":true,"heap":900000000,"outside":{"Run":"","Step":"","Attempt":0,"Upstream":"","MemoryLimit":0,"Budget":0}}`
	if got := h.World.Document(r.State); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r = h.Must(h.call("info"), h.World.State(`{}`))
	if got := h.World.Document(r.State); !strings.Contains(got, `"heap":9223372036854775807`) || !strings.Contains(got, `"deadline":false`) {
		t.Errorf("the limits outlived their step: %s", got)
	}
}

func (h *harness) waiting() {
	for range 1000 {
		if strings.Contains(h.LogText(), "waiting") {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestCancel(t *testing.T) {
	for _, function := range []string{"wait", "spin"} {
		h := start(t, testhost.Options{})
		request := h.Begin(h.call(function), h.World.State(`{}`))
		h.waiting()
		h.Sync() // the channel is served while the function runs
		if err := h.Send(&ipc.Envelope{ID: request.ID + 99, Message: &ipc.Cancel{Reason: "another's"}}); err != nil {
			t.Fatal(err)
		}
		if err := h.Send(&ipc.Envelope{ID: request.ID, Message: &ipc.Cancel{Reason: "the user left"}}); err != nil {
			t.Fatal(err)
		}
		r := h.End(request)
		if r.Fail == nil || r.Fail.Name != "CancelError" || r.Fail.Severity != ipc.SeverityCancel || r.Fail.Message != "the step was cancelled: the user left" {
			t.Fatalf("%s: %+v", function, r.Fail)
		}
		for range 100 {
			h.Must(h.call("empty"), h.World.State(`{}`))
		}
	}
}

func TestTimeout(t *testing.T) {
	h := start(t, testhost.Options{})
	for range 3 {
		m := h.call("wait")
		m.Timeout = 40 * time.Millisecond
		r := h.Run(m, h.World.State(`{}`))
		if r.Fail == nil || r.Fail.Name != "TimeoutError" || r.Fail.Severity != ipc.SeverityKill || !strings.Contains(r.Fail.Message, "40ms") {
			t.Fatalf("%+v", r.Fail)
		}
		if took := time.Duration(r.Fail.Finished - r.Fail.Started); took < 30*time.Millisecond || took > 5*time.Second {
			t.Errorf("a timeout of 40ms ended after %v", took)
		}
	}
	m := h.call("finish")
	m.Timeout = 20 * time.Millisecond
	if r := h.Must(m, h.World.State(`{}`)); h.World.Document(r.State) != `{"done":"context deadline exceeded"}` {
		t.Errorf("a step that finished in spite of its timeout: %s", h.World.Document(r.State))
	}
}

func TestHangUpWhileAFunctionRuns(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Begin(h.call("stubborn"), h.World.State(`{}`))
	h.waiting()
	if err := h.Channel.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Exited(); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestKill(t *testing.T) {
	w := testhost.NewWorld(t)
	h := startIn(w, testhost.Options{})
	r := h.Must(h.call("write"), w.State(`{"a":1}`))
	request := h.Begin(h.call("stubborn"), r.State)
	h.waiting()
	if err := h.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := request.Wait(ctx); !errors.Is(err, ipc.ErrHangUp) {
		t.Errorf("the call of a killed executor ended with %v", err)
	}
	// What it published outlives it.
	other := startIn(w, testhost.Options{})
	if r := other.Must(other.call("document"), r.State); !strings.Contains(w.Document(r.State), `"created":[1,2,3]`) {
		t.Errorf("the state after its writer was killed: %s", w.Document(r.State))
	}
}

func TestShutdown(t *testing.T) {
	idle := start(t, testhost.Options{})
	busy := start(t, testhost.Options{})
	request := busy.Begin(busy.call("finish"), busy.World.State(`{}`))
	busy.waiting()
	for _, h := range []*harness{idle, busy} {
		if err := h.Send(&ipc.Envelope{Message: new(ipc.Shutdown)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := idle.Exited(); err != nil {
		t.Error("idle:", err)
	}
	if err := busy.Send(&ipc.Envelope{ID: request.ID, Message: new(ipc.Cancel)}); err != nil {
		t.Fatal(err)
	}
	if r := busy.End(request); r.Done == nil {
		t.Errorf("the running step was not finished: %+v", r.Fail)
	}
	if err := busy.Exited(); err != nil {
		t.Error("busy:", err)
	}
}

func TestInterruptIsTheSupervisors(t *testing.T) {
	h := start(t, testhost.Options{})
	for range 3 {
		if err := h.Cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		h.Must(h.call("empty"), h.World.State(`{}`))
	}
}

func TestStateIsDeadAfterItsStep(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Must(h.call("leak"), h.World.State(`{"a":1}`))
	h.Must(h.call("use leaked"), h.World.State(`{}`))
}

func TestUnknownCode(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Prepare(50, "function", `{"function":"emtpy"}`)
	h.Prepare(51, "python", `{}`)
	h.Prepare(52, "function", `no JSON`)
	for code, want := range map[uint64]string{
		50: `has no function "emtpy"; it has "`, 51: `not a step of kind "python"`, 52: "specification", 53: "never prepared",
	} {
		if f := h.Run(ipc.Execute{Code: code}, ipc.Table{}).Fail; f == nil || !strings.Contains(f.Message, want) {
			t.Errorf("code %d: %+v", code, f)
		}
	}
}

func TestHello(t *testing.T) {
	h := start(t, testhost.Options{})
	if h.Hello.Language != "go" || len(h.Hello.Functions) != len(functions) || h.Hello.PID != uint32(h.Cmd.Process.Pid) {
		t.Errorf("%+v", h.Hello)
	}
}

func TestWithoutASupervisor(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"by hand", nil, 2, "started by a millrace supervisor"},
		{"functions", []string{"--functions"}, 0, "empty\n"},
	} {
		cmd := exec.Command("/proc/self/exe", c.args...)
		cmd.Env = append(os.Environ(), "MILLRACE_TEST_ROLE=worker")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: exit %d, %s", c.name, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func TestNoDescriptorOrBlockIsLeaked(t *testing.T) {
	h := start(t, testhost.Options{})
	files := func() int {
		list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.Cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	round := func() {
		r := h.Must(h.call("write"), h.World.State(`{"a":1}`))
		var ids = map[string]bool{}
		for _, row := range r.State.Rows[:1] {
			ids[fmt.Sprint(row.Spans[0].Segment)] = true
			msg := &ipc.Detach{}
			msg.Segments = append(msg.Segments, row.Spans[0].Segment)
			if err := h.Send(&ipc.Envelope{Message: msg}); err != nil {
				t.Fatal(err)
			}
		}
		h.Release(r.Done.Blocks...)
		h.Run(h.call("fail"), h.World.State(`{"which":"panic"}`))
		h.Sync()
	}
	round()
	before := files()
	for range 20 {
		round()
	}
	// The failing step's input stays attached: one a round.
	if after := files(); after-before != 20 {
		t.Errorf("%d descriptors before, %d after 20 rounds that attach one each", before, after)
	}
	if n := h.World.Blocks(h.Executor); n != 0 {
		t.Errorf("%d blocks left", n)
	}
}
