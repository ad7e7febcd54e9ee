package worker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

var nilMap map[string]int

func init() {
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
			nilMap["x"] = 1
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
		{"panic", "RuntimeError", "panic: help", `failure_test.go`, "fail"},
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
