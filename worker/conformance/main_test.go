package conformance

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/command"
)

// The test binary is also the executors written in Go.
func TestMain(m *testing.M) {
	switch os.Getenv("MILLRACE_TEST_ROLE") {
	case "worker":
		worker.Main(functions)
	case "sinner":
		sinnerMain()
	case "command":
		command.Main()
	case "":
		os.Exit(m.Run())
	}
	os.Exit(3)
}

// functions are the behaviours by means of the Go library. It cannot return
// "nothing": a Go function always has a state.
var functions = worker.Functions{
	"identity": func(context.Context, *worker.State) error { return nil },
	"read": func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[struct{ List []any }](s, "read")
		if err == nil && len(v.List) != 1000 {
			err = errors.New("read other than 1000")
		}
		return err
	},
	"set": func(_ context.Context, s *worker.State) error {
		return s.Set("added", map[string]any{"list": []int{1, 2, 3}, "text": "a\"b\\c\u0001\u00e9\U0001f600"})
	},
	"delete": func(_ context.Context, s *worker.State) error { return s.Delete("gone") },
	"rename": func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[any](s, "from")
		if err != nil {
			return err
		}
		return errors.Join(s.Delete("from"), s.Set("to", v))
	},
	"mutate": func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[map[string]any](s, "data")
		if err != nil {
			return err
		}
		nested := v["nested"].(map[string]any)
		nested["n"] = nested["n"].(float64) + 1
		return s.Set("data", v)
	},
	"append": func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[[]any](s, "value")
		if err != nil {
			return err
		}
		return s.Set("value", append(v, "end"))
	},
	"copy": func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[any](s, "value")
		if err != nil {
			return err
		}
		return s.Set("copy", v)
	},
	"keys":  func(_ context.Context, s *worker.State) error { return s.Set("keys", s.Keys()) },
	"fresh": func(_ context.Context, s *worker.State) error { return s.SetValue(map[string]bool{"fresh": true}) },
	"private": func(_ context.Context, s *worker.State) error {
		return errors.Join(s.Set("_secret", 1), s.Set("configuration", map[string]int{"token": 1}), s.Set("kept", true))
	},
	"allocate": func(_ context.Context, s *worker.State) error {
		return s.Set("big", strings.Repeat("x", allocated-2))
	},
	"throw": func(context.Context, *worker.State) error { return errors.New("conformance: thrown") },
	"log": func(ctx context.Context, _ *worker.State) error {
		worker.Logger(ctx).Info("conformance: hello")
		return nil
	},
	"sleep": func(ctx context.Context, _ *worker.State) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			return nil
		}
	},
	"nap": func(_ context.Context, s *worker.State) error {
		time.Sleep(300 * time.Millisecond)
		return s.Set("napped", true)
	},
	"unserialisable": func(_ context.Context, s *worker.State) error {
		type node struct{ Self *node }
		bad := &node{}
		bad.Self = bad
		return s.Set("bad", bad)
	},
	"value": func(_ context.Context, s *worker.State) error { return s.SetValue([]int{1, 2, 3}) },
	"noise": func(_ context.Context, s *worker.State) error {
		_, err := os.Stdout.WriteString(strings.Repeat("\x00\xffMILLRACE\x18\x00\x00\x00", 100))
		return errors.Join(err, s.Set("noisy", true))
	},
}

// conform runs every case on an executor as a subtest. skips are the cases
// that it may skip.
func conform(t *testing.T, options Options, skips ...string) {
	t.Helper()
	_, err := Run(t.Context(), options, func(r Result) {
		t.Run(r.Case, func(t *testing.T) {
			switch {
			case r.Outcome == Fail:
				t.Error(r.Reason)
			case r.Outcome == Skip && !slices.Contains(skips, r.Case):
				t.Error("skipped: " + r.Reason)
			case r.Outcome == Skip:
				t.Skip(r.Reason)
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// exitAtOnce keeps a binary with the race detector from sleeping for a second
// when it exits.
const exitAtOnce = "GORACE=atexit_sleep_ms=0"

func TestGoWorker(t *testing.T) {
	conform(t, Options{
		Argv: []string{"/proc/self/exe"}, Env: []string{"MILLRACE_TEST_ROLE=worker", exitAtOnce}, Kind: KindFunction,
	}, "state/nothing", "step/conditions")
}

func TestCommandExecutor(t *testing.T) {
	conform(t, Options{
		Argv: []string{"/proc/self/exe"}, Env: []string{"MILLRACE_TEST_ROLE=command", exitAtOnce}, Kind: KindCommand,
	}, "state/nothing", "step/conditions", "step/invalid-input", "step/noise")
}
