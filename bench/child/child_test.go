package child

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	if os.Getenv("GORACE") == "" {
		// With the race detector every child would sleep a second at its end.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

func init() {
	Register("test", func(c *Control) error {
		var spec string
		if err := c.Spec(&spec); err != nil {
			return err
		}
		return c.Serve(map[string]Handler{
			"spec": func(json.RawMessage) (any, error) { return spec, nil },
			"fail": func(json.RawMessage) (any, error) { return nil, errors.New("out of luck") },
			"hang": func(json.RawMessage) (any, error) { select {} },
			"exit": func(json.RawMessage) (any, error) { os.Exit(3); return nil, nil },
			"write": func(arg json.RawMessage) (any, error) {
				var text string
				if err := json.Unmarshal(arg, &text); err != nil {
					return nil, err
				}
				return c.File(0).WriteString(text)
			},
		})
	})
}

func start(t *testing.T, files ...*os.File) *Process {
	t.Helper()
	p, err := Start("test", "hello", files...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCallsAreAnswered(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := start(t, w)
	w.Close()
	var spec string
	if err := p.Call(t.Context(), "spec", nil, &spec); err != nil || spec != "hello" {
		t.Errorf("spec is %q, %v", spec, err)
	}
	if err := p.Call(t.Context(), "fail", nil, nil); err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("a failing request gave %v", err)
	}
	if err := p.Call(t.Context(), "nothing", nil, nil); err == nil || !strings.Contains(err.Error(), `unknown request "nothing"`) {
		t.Errorf("an unknown request gave %v", err)
	}
	var n int
	if err := p.Call(t.Context(), "write", "over the pipe", &n); err != nil || n != 13 {
		t.Errorf("write = %d, %v", n, err)
	}
	buf := make([]byte, n)
	if _, err := r.Read(buf); err != nil || string(buf) != "over the pipe" {
		t.Errorf("the inherited file carried %q, %v", buf, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p.PID(), 0); err == nil {
		t.Error("the child outlived Close")
	}
}

func TestADeadChildIsAnError(t *testing.T) {
	p := start(t)
	if err := p.Call(t.Context(), "exit", nil, nil); err == nil || !strings.Contains(err.Error(), "has gone") {
		t.Errorf("Call() = %v", err)
	}
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Close() = %v, want the exit status", err)
	}
}

func TestCancelKillsAHungChild(t *testing.T) {
	p := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Call(ctx, "hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call() = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := p.Call(ctx, "spec", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call() after the end = %v", err)
	}
	if err := p.Close(); err == nil {
		t.Error("Close() of a killed child gave no error")
	}
}

func TestUnknownRole(t *testing.T) {
	p, err := Start("nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Call(t.Context(), "spec", nil, nil); err == nil {
		t.Error("a child of no role answered")
	}
	if err := p.Close(); err == nil {
		t.Error("Close() gave no error")
	}
}
