package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/millrace/millrace/worker"
)

func init() {
	maps.Copy(testFunctions, worker.Functions{
		// backwards has its calls answered in the order of the last to the first: it
		// lets one go on when it has taken the one behind it.
		"backwards": func(ctx context.Context, s *worker.State) error {
			dir, err := worker.Get[string](s, "dir")
			n, err1 := worker.Get[int](s, "n")
			if err := errors.Join(err, err1); err != nil {
				return err
			}
			with := s.New()
			if err := with.Set("dir", dir); err != nil {
				return err
			}
			var order []int
			for reply, err := range worker.Each(ctx, s, "turn", upTo(n), worker.EachOptions{Concurrency: n, Key: "i", With: with}) {
				if err != nil {
					return err
				}
				i, err := worker.Get[int](reply.State(), "i")
				if err != nil || i != reply.Index() {
					return fmt.Errorf("the answer of %d is %d: %w", reply.Index(), i, err)
				}
				order = append(order, i)
				if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i-1)), nil, 0o600); err != nil {
					return err
				}
			}
			return s.Set("order", order)
		},
		// turn waits until it is its turn.
		"turn": func(ctx context.Context, s *worker.State) error {
			dir, err := worker.Get[string](s, "dir")
			i, err1 := worker.Get[int](s, "i")
			return errors.Join(err, err1, awaitFile(ctx, filepath.Join(dir, strconv.Itoa(i))))
		},
		// nests makes calls in turn, each of which replaces what is under data, and
		// looks at its own data after each.
		"nests": func(ctx context.Context, s *worker.State) error {
			before, err := s.Raw("data")
			if err != nil {
				return err
			}
			own := string(before)
			for i := range 8 {
				reply, err := worker.Call(ctx, "replace", s, worker.CallOptions{})
				if err != nil {
					return fmt.Errorf("call %d: %w", i, err)
				}
				theirs, err := reply.State().Raw("data")
				if err != nil {
					return err
				}
				now, err := s.Raw("data")
				if err != nil || string(now) != own || string(theirs) == own || len(theirs) != len(own) {
					return fmt.Errorf("after call %d the payload is not what it was: %w", i, err)
				}
				if err := reply.Close(); err != nil {
					return err
				}
			}
			return nil
		},
		"replace": func(_ context.Context, s *worker.State) error {
			data, err := worker.Get[string](s, "data")
			if err != nil {
				return err
			}
			return s.Set("data", strings.Repeat("y", len(data)))
		},
		// late reads a result after it was closed.
		"late": func(ctx context.Context, s *worker.State) error {
			reply, err := worker.Call(ctx, "replace", s, worker.CallOptions{})
			if err != nil {
				return err
			}
			if err := reply.Close(); err != nil {
				return err
			}
			_, err = reply.State().Raw("data")
			if !errors.Is(err, worker.ErrExpired) {
				return fmt.Errorf("reading after Close: %w", err)
			}
			return s.Set("why", err.Error())
		},
		// relay forwards with a new head.
		"relay": func(_ context.Context, s *worker.State) error {
			return errors.Join(s.Set("head", "new"), s.Forward("last"))
		},
	})
}

func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i); i++ {
		}
	}
}

func TestAnswersInAnyOrder(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 4})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "3"), nil, 0o600); err != nil { // the last one's turn
		t.Fatal(err)
	}
	out := run(t, e, flow(t, `
steps:
  - id: start
    @backwards
  - id: turn
    @turn
`), fmt.Sprintf(`{"n":4,"dir":%q}`, dir), RunOptions{})
	if out.Err != nil || !strings.HasSuffix(out.document, `"order":[3,2,1,0]}`) {
		t.Fatal(out.document, out.Err)
	}
}

// The payload that a step was given stays through the calls it makes, and what
// each of these returned goes when it is closed: the budget has room for two
// more, not for eight.
func TestPayloadOutlivesNestedCalls(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 1})
	out := run(t, e, flow(t, `
options: {memory: 1MB}
steps:
  - id: grow
    configuration: {size: 300000}
    @grow
    next: nests
  - id: nests
    @nests
  - id: replace
    @replace
`), `{}`, RunOptions{})
	if out.Err != nil || out.document != `{"data":"`+strings.Repeat("x", 300_000)+`"}` {
		t.Fatalf("%.100s %v", out.document, out.Err)
	}
	if last := out.stats.Steps[len(out.stats.Steps)-1]; last.ID != "nests" || last.ReusedBytes != 300_002 {
		t.Errorf("the payload was not passed on as it was: %+v", last)
	}
}

func TestExpiredPayloadSaysSo(t *testing.T) {
	out := run(t, newEngine(t, Options{}), flow(t, `
steps:
  - id: start
    @late
  - id: replace
    @replace
`), `{"data":"abc"}`, RunOptions{})
	if out.Err != nil || !strings.Contains(out.document, `the result of the call is gone: key \"data\" of call 1 of \"replace\": the result was closed`) {
		t.Fatal(out.document, out.Err)
	}
}

// A call's time ends all that is under it. A call that has more time goes on.
func TestTimeoutOfNestedCalls(t *testing.T) {
	const tail = `
  - id: calls
    configuration: {step: sleep, timeout_ms: %d, key: inner}
    @call
  - id: sleep
    @sleep
`
	for _, c := range []struct {
		name         string
		outer, inner int // milliseconds
		want         string
	}{
		{"outer", 50, 0, `"outer":"fail/TimeoutError: step \"calls\", called by \"start\", did not answer within 50ms: the call has expired, and its payload is not kept any longer`},
		{"inner", 60_000, 50, `"inner":"fail/TimeoutError: step \"sleep\", called by \"calls\", did not answer within 50ms: the call has expired`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, Options{MaxExecutors: 1})
			out := run(t, e, flow(t, fmt.Sprintf(`
steps:
  - id: start
    configuration: {step: calls, timeout_ms: %d, key: outer}
    @call
`+tail, c.outer, c.inner)), `{}`, RunOptions{})
			if out.Err != nil || !strings.Contains(out.document, c.want) {
				t.Error(out.document, out.Err)
			}
			if h := e.Host(); h.StateBytes != 0 || h.Demand.Running+h.Demand.Blocked != 0 {
				t.Errorf("left: %+v", h)
			}
		})
	}
}

// A step that forwards is over before the next one starts. That one's answer
// goes to the one who called, and the payload went by unread.
func TestForwardSkipsTheMiddleman(t *testing.T) {
	e := newEngine(t, Options{MaxExecutors: 1})
	var events []string
	var reports []StepReport
	out := run(t, e, flow(t, `
steps:
  - id: start
    configuration: {step: relay, size: 400000}
    @call
  - id: relay
    concurrency: 1
    @relay
  - id: last
    @double
`), `{"n":4}`, RunOptions{Observe: func(ev Event) {
		switch ev.Type {
		case EventStepStart:
			d := e.Host().Demand
			events = append(events, fmt.Sprintf("start %s, %d deep, from %d, called by %d, %d wait", ev.Step, ev.Depth, ev.From, ev.Caller, d.Blocked))
		case EventStepComplete:
			events = append(events, "end "+ev.Step)
			reports = append(reports, *ev.Report)
		}
	}})
	if out.Err != nil || !strings.Contains(out.document, `"n":8`) || !strings.HasSuffix(out.document, `"head":"new","by":"last"}`) {
		t.Fatalf("%.60s … %s, %v", out.document, out.document[max(0, len(out.document)-60):], out.Err)
	}
	want := []string{
		"start start, 0 deep, from 0, called by 0, 0 wait", "start relay, 1 deep, from 1, called by 1, 1 wait", "end relay",
		"start last, 1 deep, from 2, called by 1, 1 wait", "end last", "end start",
	}
	if !slices.Equal(events, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(events, "\n"), strings.Join(want, "\n"))
	}
	if relay := reports[0]; relay.DecodedBytes > 0 || relay.ReusedBytes < 400_000 {
		t.Errorf("the payload was not passed on unread: %+v", relay)
	}
}
