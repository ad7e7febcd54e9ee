package conformance

import (
	"context"
	"encoding/json"
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
	"call": func(ctx context.Context, s *worker.State) error {
		reply, err := worker.Call(ctx, "other", s, worker.CallOptions{})
		if err != nil {
			return err
		}
		for _, key := range s.Keys() {
			if !reply.State().Has(key) {
				err = errors.Join(err, s.Delete(key))
			}
		}
		for _, key := range reply.State().Keys() {
			err = errors.Join(err, s.SetFrom(key, reply.State(), key))
		}
		return err
	},
	"call-new": func(ctx context.Context, s *worker.State) error {
		arg := s.New()
		if err := arg.Set("data", []int{1, 2, 3}); err != nil {
			return err
		}
		reply, err := worker.Call(ctx, "other", arg, worker.CallOptions{})
		if err != nil {
			return err
		}
		return s.SetFrom("result", reply.State(), "value")
	},
	"call-catch": func(ctx context.Context, s *worker.State) error {
		_, err := worker.Call(ctx, "other", s, worker.CallOptions{})
		if failed := (*worker.CallError)(nil); errors.As(err, &failed) {
			return s.Set("error", []string{failed.Name, string(failed.Severity), failed.Step})
		}
		return err
	},
	"each": func(ctx context.Context, s *worker.State) error {
		pages, err := worker.Get[[]json.RawMessage](s, "pages")
		if err != nil {
			return err
		}
		order := []int{}
		for reply, err := range worker.Each(ctx, s, "other", slices.Values(pages), worker.EachOptions{Concurrency: 3}) {
			if err == nil {
				err = s.Extend("all", reply.State(), "data")
			}
			if err != nil {
				return err
			}
			order = append(order, reply.Index())
		}
		return s.Set("order", order)
	},
	"each-count": func(ctx context.Context, s *worker.State) error {
		pages, err := worker.Get[[]int](s, "pages")
		if err != nil {
			return err
		}
		n := 0
		for _, err := range worker.Each(ctx, s, "other", slices.Values(pages), worker.EachOptions{Concurrency: 2}) {
			if err != nil {
				return err
			}
			n++
		}
		return s.Set("n", n)
	},
	"forward": func(_ context.Context, s *worker.State) error {
		return errors.Join(s.Set("head", "new"), s.Forward("other"))
	},
	"feed": func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		return feed(ctx, s, n)
	},
	"feed-fail": func(ctx context.Context, s *worker.State) error {
		return errors.Join(feed(ctx, s, 3), errors.New("conformance: thrown"))
	},
	"drain": func(ctx context.Context, s *worker.State) error {
		sum := 0
		err := drain(ctx, s, func(i int) bool { sum += i; return true })
		return errors.Join(err, s.Set("sum", sum))
	},
	"drain-three": func(ctx context.Context, s *worker.State) error {
		got := 0
		err := drain(ctx, s, func(int) bool { got++; return got < 3 })
		return errors.Join(err, s.Set("got", got))
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

type item struct {
	I int `json:"i"`
}

func feed(ctx context.Context, s *worker.State, n int) error {
	w, err := s.Stream(ctx, "items", worker.StreamOptions{})
	for i := 0; i < n && err == nil; i++ {
		err = w.Encode(item{i})
	}
	if errors.Is(err, worker.ErrReaderDone) {
		return nil
	}
	return err
}

func drain(ctx context.Context, s *worker.State, each func(i int) bool) error {
	r, err := s.OpenStream(ctx, "items")
	if err != nil {
		return err
	}
	defer r.Close()
	for item, err := range worker.Items[item](r) {
		if err != nil {
			return err
		}
		if !each(item.I) {
			break
		}
	}
	return nil
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
	}, "state/nothing", "step/conditions", "ahead/conditions")
}

func TestCommandExecutor(t *testing.T) {
	conform(t, Options{
		Argv: []string{"/proc/self/exe"}, Env: []string{"MILLRACE_TEST_ROLE=command", exitAtOnce}, Kind: KindCommand,
	}, append(callNames(), "ahead/after-forward", "ahead/conditions", "state/nothing", "step/conditions", "step/invalid-input", "step/noise")...)
}

// callNames are the cases that need calls.
func callNames() []string { return namesOf(callCases) }

func namesOf(cases []testCase) []string {
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
	}
	return names
}
