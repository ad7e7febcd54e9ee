package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	leaked    *worker.State
	leakedMap map[string]int // nil
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
	functions["log"] = func(ctx context.Context, s *worker.State) error {
		l := worker.Logger(ctx)
		l.Debug("plain")
		l.Warn("with", "n", 1, "level", "high")
		l.With("a", 1).WithGroup("g").Error("deep", "b", "\xff")
		l.Info(strings.Repeat("é", 300_000))
		return nil
	}
	functions["flood"] = func(ctx context.Context, s *worker.State) error {
		for i := range 20_000 {
			worker.Logger(ctx).Info("line", "i", i)
		}
		return nil
	}
	functions["fail"] = func(ctx context.Context, s *worker.State) error {
		which, err := worker.Get[string](s, "which")
		if err := errors.Join(err, s.Set("wasted", strings.Repeat("x", 500_000))); err != nil {
			return err
		}
		switch which {
		case "plain":
			return errors.New("it broke \xff")
		case "typed":
			return fmt.Errorf("while trying: %w", &worker.Error{Name: "AdaptorError", Severity: ipc.SeverityCrash, Message: "no", Details: map[string]any{"status": 404}})
		case "bad details":
			return &worker.Error{Message: "m", Details: map[string]any{"f": func() {}}}
		case "long":
			return errors.New(strings.Repeat("long ", 100_000))
		case "panic":
			panic("help")
		case "nil":
			leakedMap["x"] = 1
		case "goexit":
			runtime.Goexit()
		case "write":
			b, err := s.Raw("which")
			if err != nil {
				return err
			}
			b[1] = 'X'
		case "write own":
			b, err := s.Raw("wasted")
			if err != nil {
				return err
			}
			b[1] = 'X'
		}
		return errors.New("no such case")
	}
	functions["budget"] = func(_ context.Context, s *worker.State) error {
		which, err := worker.Get[string](s, "which")
		if err := errors.Join(err, s.Set("small", strings.Repeat("x", 100_000))); err != nil {
			return err
		}
		big := strings.Repeat("y", 2_000_000)
		switch which {
		case "set":
			return s.Set("big", []string{big})
		case "raw":
			return s.SetRaw("big", worker.Raw, []byte(big))
		case "stream":
			w, err := s.Create("big", worker.Raw, 0)
			if err != nil {
				return err
			}
			defer w.Abort()
			for range 2000 {
				if _, err := w.Write(make([]byte, 1000)); err != nil {
					return fmt.Errorf("page 7: %w", err)
				}
			}
			return w.Close()
		case "ignored":
			w, err := s.Create("big", worker.Raw, 0)
			if err != nil {
				return err
			}
			_, _ = w.Write([]byte("kept"))
			_, _ = w.Write([]byte(big))
			return w.Close()
		}
		return nil
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

func TestFailures(t *testing.T) {
	h := start(t, testhost.Options{})
	for _, c := range []struct {
		which, name, message, details string
		severity                      ipc.Severity
	}{
		{"plain", "JobError", "it broke \uFFFD", ``, "fail"},
		{"typed", "AdaptorError", "while trying: no", `{"status":404}`, "crash"},
		{"bad details", "JobError", "m", `details_error`, "fail"},
		{"long", "JobError", "long long", ``, "fail"},
		{"panic", "RuntimeError", "panic: help", `life_test.go`, "fail"},
		{"nil", "RuntimeError", "panic: assignment to entry in nil map", `stack`, "fail"},
		{"goexit", "JobError", "Goexit", ``, "fail"},
		{"write", "RuntimeError", "state memory is read-only", `stack`, "fail"},
		{"write own", "RuntimeError", "state memory is read-only", `stack`, "fail"},
	} {
		r := h.Run(h.call("fail"), h.World.State(fmt.Sprintf(`{"which":%q}`, c.which)))
		f := r.Fail
		if f == nil || f.Name != c.name || f.Severity != c.severity || !strings.Contains(f.Message, c.message) || !strings.Contains(f.Details, c.details) {
			t.Errorf("%s: %+v", c.which, f)
		}
		if len(f.Message) > 64<<10 {
			t.Errorf("%s: a message of %d bytes", c.which, len(f.Message))
		}
		// Nothing of it is left, and the executor goes on.
		h.Must(h.call("empty"), h.World.State(`{}`))
	}
}

func TestBudget(t *testing.T) {
	h := start(t, testhost.Options{})
	kept := h.Must(h.call("budget"), h.World.State(`{"which":"none"}`)) // counts for no later step
	for which, size := range map[string]int{"set": 2_000_000, "raw": 2_000_000, "stream": 900_000, "ignored": 2_000_004} {
		m := h.call("budget")
		m.Budget = 1_000_000
		f := h.Run(m, h.World.State(fmt.Sprintf(`{"which":%q}`, which))).Fail
		if f == nil {
			t.Fatalf("%s: succeeded", which)
		}
		var got, used int
		_, err := fmt.Sscanf(f.Details, `{"key":"big","limit":1000000,"size":%d,"used":%d}`, &got, &used)
		if f.Name != "StateTooLargeError" || f.Severity != ipc.SeverityKill || err != nil || got < size || got > size+2000 || used != 100_002 {
			t.Errorf("%s: %+v (%v)", which, f, err)
		}
		if !strings.Contains(f.Message, `key "big"`) || !strings.Contains(f.Message, "1000000") {
			t.Errorf("%s: the message does not say what is too large: %s", which, f.Message)
		}
	}
	if got := h.World.Bytes(kept.State.Rows[1]); len(got) != 100_002 {
		t.Error("a published value was touched")
	}
	h.Must(h.call("budget"), h.World.State(`{"which":"set"}`))
}

func TestLog(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Must(h.call("log"), h.World.State(`{}`))
	h.Sync()
	logs := h.Logs()
	if len(logs) != 4 {
		t.Fatalf("%d lines: %+v", len(logs), logs)
	}
	for i, want := range []ipc.Log{
		{Level: "debug", Source: "job", Message: "plain"},
		{Level: "warn", Source: "job", Message: `{"msg":"with","n":1,"level":"high"}`, Structured: true},
		{Level: "error", Source: "job", Message: `{"msg":"deep","a":1,"g":{"b":"` + "\uFFFD" + `"}}`, Structured: true},
	} {
		got := logs[i]
		if age := time.Since(time.UnixMicro(int64(got.Time))); age < 0 || age > time.Minute {
			t.Errorf("line %d is %v old", i, age)
		}
		got.Time = 0
		got.Message = strings.ReplaceAll(got.Message, `\ufffd`, "\uFFFD")
		if got != want {
			t.Errorf("line %d: %+v, want %+v", i, got, want)
		}
	}
	if n := len(logs[3].Message); n > 256<<10 || !strings.HasSuffix(logs[3].Message, "[cut]") {
		t.Errorf("a long line has %d bytes", n)
	}
	h.Must(h.call("flood"), h.World.State(`{}`))
	h.Sync()
	if n := len(h.Logs()); n != 20_004 {
		t.Errorf("%d lines arrived", n)
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
