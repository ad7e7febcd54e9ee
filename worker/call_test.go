package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// leftBehind gets the error of a call that a function did not wait for.
var leftBehind = make(chan error, 1)

func init() {
	functions["call"] = func(ctx context.Context, s *worker.State) error {
		arg := s.New()
		if err := errors.Join(arg.Set("page", record{"ada", 7}), arg.SetFrom("big", s, "list")); err != nil {
			return err
		}
		reply, err := worker.Call(ctx, "enrich", arg, worker.CallOptions{Until: worker.Leaf, Timeout: time.Minute})
		if err != nil {
			return err
		}
		v, err := worker.Get[int](reply.State(), "n")
		err = errors.Join(err, expect(v, 8), expect(reply.Step(), "enrich"),
			s.SetFrom("out", reply.State(), "data"), s.SetFrom("gone", reply.State(), "data"), s.Delete("gone"))
		reader := reply.State().Reader("data")
		_, spent := arg.Raw("page")
		err = errors.Join(err, expect(strings.Contains(fmt.Sprint(spent), "used it up"), true),
			expect(strings.Contains(fmt.Sprint(reply.State().Set("x", 1)), "cannot be changed"), true),
			reply.Close(), reply.Close())
		_, late := reply.State().Raw("n")
		_, lateRead := reader.Next()
		var expired *worker.ExpiredError
		if !errors.Is(late, worker.ErrExpired) || !errors.Is(lateRead, worker.ErrExpired) ||
			!errors.As(late, &expired) || expired.Key != "n" || expired.Step != "enrich" || expired.Call == 0 {
			return fmt.Errorf("after Close: %v, %v", late, lateRead)
		}
		if err := s.SetFrom("x", reply.State(), "n"); !errors.Is(err, worker.ErrExpired) {
			return fmt.Errorf("a reference after Close: %v", err)
		}
		out, outErr := s.Raw("out") // what is referred to stays
		return errors.Join(err, outErr, expect(string(out), `"ada 7"`))
	}
	functions["share"] = func(ctx context.Context, s *worker.State) error {
		if err := s.Set("config", strings.Repeat("c", 5000)); err != nil {
			return err
		}
		for range 3 { // the state itself, and forks of it
			for _, arg := range []*worker.State{s, s.Fork(), s.Fork()} {
				reply, err := worker.Call(ctx, "echo", arg, worker.CallOptions{})
				if err != nil {
					return err
				}
				if err := errors.Join(expect(reply.State().Size("config"), 5002), reply.Close()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	functions["loop"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		for i := range n {
			arg := s.New()
			if err := arg.Set("i", i); err != nil {
				return err
			}
			reply, err := worker.Call(ctx, "echo", arg, worker.CallOptions{})
			if err != nil {
				return err
			}
			got, err := worker.Get[int](reply.State(), "i")
			if err := errors.Join(err, expect(got, i), reply.Close()); err != nil {
				return err
			}
		}
		return nil
	}
	functions["nested"] = func(ctx context.Context, s *worker.State) error {
		var replies []*worker.Reply
		for i := range 5 { // later results leave the earlier ones alone
			arg := s.New()
			if err := arg.Set("i", fmt.Sprintf("result %d", i)); err != nil {
				return err
			}
			reply, err := worker.Call(ctx, "echo", arg, worker.CallOptions{})
			if err != nil {
				return err
			}
			replies = append(replies, reply)
			none, err := worker.Call(ctx, "echo", nil, worker.CallOptions{}) // none of another's payload
			if err != nil || len(none.State().Keys()) != 0 {
				return fmt.Errorf("an empty call returned %v, %v", none.State().Keys(), err)
			}
			for j, r := range replies {
				got, err := worker.Get[string](r.State(), "i")
				if err := errors.Join(err, expect(got, fmt.Sprintf("result %d", j))); err != nil {
					return err
				}
			}
		}
		again, err := worker.Call(ctx, "echo", replies[0].State(), worker.CallOptions{}) // a result as an argument
		if err != nil {
			return err
		}
		got, err := worker.Get[string](again.State(), "i")
		return errors.Join(err, expect(got, "result 0"), s.SetFrom("kept", again.State(), "i"))
	}
	functions["call fails"] = func(ctx context.Context, s *worker.State) error {
		_, err := worker.Call(ctx, "refuse", nil, worker.CallOptions{})
		var failed *worker.CallError
		if !errors.As(err, &failed) || failed.Name != "NoDataError" || failed.Step != "refuse" {
			return fmt.Errorf("the failure was %v", err)
		}
		if s.Has("go on") {
			return nil
		}
		return fmt.Errorf("page 7: %w", err)
	}
	functions["call cancelled"] = func(ctx context.Context, s *worker.State) error {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := worker.Call(short, "slow", nil, worker.CallOptions{})
		if !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("a call whose context has ended: %v", err)
		}
		reply, err := worker.Call(ctx, "echo", nil, worker.CallOptions{})
		if err != nil {
			return err
		}
		return reply.Close()
	}
	functions["call slow"] = func(ctx context.Context, s *worker.State) error {
		worker.Logger(ctx).Info("waiting")
		_, err := worker.Call(context.Background(), "slow", s, worker.CallOptions{})
		return err
	}
	functions["leave behind"] = func(ctx context.Context, s *worker.State) error {
		arg := s.New()
		if err := arg.Set("big", strings.Repeat("x", 100_000)); err != nil {
			return err
		}
		started := make(chan struct{})
		go func() {
			close(started)
			_, err := worker.Call(context.Background(), "slow", arg, worker.CallOptions{})
			leftBehind <- err
		}()
		<-started
		time.Sleep(5 * time.Millisecond)
		return nil
	}
	functions["was left behind"] = func(ctx context.Context, s *worker.State) error {
		select {
		case err := <-leftBehind:
			return s.Set("error", err.Error())
		case <-time.After(60 * time.Second):
			return errors.New("the call that was left behind waits still")
		}
	}
	functions["too many"] = func(ctx context.Context, s *worker.State) error {
		var group sync.WaitGroup
		defer group.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for range worker.MaxCalls {
			group.Go(func() {
				for many := (*worker.TooManyCallsError)(nil); ; { // the call below may have had its place
					if _, err := worker.Call(ctx, "wait", nil, worker.CallOptions{}); !errors.As(err, &many) {
						return
					}
				}
			})
		}
		for {
			_, err := worker.Call(ctx, "echo", nil, worker.CallOptions{})
			if many := (*worker.TooManyCallsError)(nil); errors.As(err, &many) {
				return expect(many.Limit, 4096)
			}
			if err != nil {
				return err
			}
		}
	}
	functions["parallel"] = func(ctx context.Context, s *worker.State) error {
		errs := make(chan error)
		for range 8 {
			go func() { errs <- functions["loop"](ctx, s) }()
		}
		var all error
		for range 8 {
			all = errors.Join(all, <-errs)
		}
		return all
	}
	functions["forward"] = func(_ context.Context, s *worker.State) error {
		return errors.Join(s.Forward("first"), s.Set("head", 1), s.Forward("second"))
	}
	functions["no calls"] = func(ctx context.Context, s *worker.State) error {
		_, err := worker.Call(ctx, "echo", s, worker.CallOptions{})
		return errors.Join(expect(errors.Is(err, worker.ErrNoCalls), true), expect(errors.Is(s.Forward("x"), worker.ErrNoCalls), true))
	}
}

// answers is the steps that functions call, as far as the tests need them.
func answers(x *testhost.Executor, c *testhost.Call) {
	switch c.Step {
	case "enrich":
		if c.Until != ipc.UntilLeaf || c.Timeout != time.Minute || x.World.Document(c.State) != `{"page":{"name":"ada","n":7},"big":[1,2]}` {
			x.Refuse(c, ipc.Fail{Severity: ipc.SeverityFail, Name: "Wrong", Message: fmt.Sprintf("%+v %s", c.Call, x.World.Document(c.State))})
			return
		}
		x.Answer(c, x.World.State(`{"n":8,"data":"ada 7"}`))
	case "echo":
		x.Answer(c, c.State)
	case "refuse":
		x.Refuse(c, ipc.Fail{Severity: ipc.SeverityCrash, Name: "NoDataError", Message: "nothing there", Details: `{"page":7}`})
	case "wait":
		<-c.Cancelled
		x.Refuse(c, ipc.Fail{Severity: ipc.SeverityCancel, Name: "CancelError", Message: "cancelled"})
	case "slow":
		select {
		case <-c.Cancelled:
			x.Answer(c, x.World.State(`{"too":"late"}`))
		case <-time.After(60 * time.Second):
			x.Refuse(c, ipc.Fail{Severity: ipc.SeverityFail, Name: "Slow", Message: "nobody cancelled"})
		}
	}
}

var withCalls = testhost.Options{Calls: answers}

// balanced fails the test unless all calls are forgotten and nothing that they
// published is left.
func (h *harness) balanced(calls int) {
	h.Sync()
	if made, left := h.Remembered(); made != calls || left != 0 {
		h.World.T().Errorf("%d calls were made, %d of them not forgotten; want %d and none", made, left, calls)
	}
	if n := h.World.Blocks(h.Executor); n != 0 {
		h.World.T().Errorf("%d blocks are left", n)
	}
}

func TestCall(t *testing.T) {
	h := start(t, withCalls)
	r := h.Must(h.call("call"), h.World.State(`{"list":[1,2]}`))
	if got := h.World.Document(r.State); got != `{"list":[1,2],"out":"ada 7"}` || len(r.Done.Blocks) != 0 {
		t.Errorf("%s, %d blocks", got, len(r.Done.Blocks))
	}
}

func TestSharedValueOutlivesItsCalls(t *testing.T) {
	h := start(t, withCalls)
	r := h.Must(h.call("share"), h.World.State(`{}`))
	if n := len(h.World.Bytes(r.State.Rows[0])); n != 5002 || len(r.Done.Blocks) != 0 {
		t.Errorf("a value of %d bytes, %d blocks published once more", n, len(r.Done.Blocks))
	}
}

func TestCallsAreForgotten(t *testing.T) {
	for _, socket := range []bool{false, true} {
		h := start(t, testhost.Options{Calls: answers, Socket: socket})
		h.Must(h.call("loop"), h.World.State(`{"n":300}`))
		h.balanced(300)
		h.Must(h.call("parallel"), h.World.State(`{"n":60}`))
		h.balanced(300 + 8*60)
		h.Must(h.call("empty"), h.World.State(`{}`))
	}
}

func TestResultsDoNotMix(t *testing.T) {
	h := start(t, withCalls)
	if got := h.World.Document(h.Must(h.call("nested"), h.World.State(`{}`)).State); got != `{"kept":"result 0"}` {
		t.Error(got)
	}
}

func TestCallFails(t *testing.T) {
	h := start(t, withCalls)
	h.Must(h.call("call fails"), h.World.State(`{"go on":true}`))
	h.balanced(1)
	f := h.Run(h.call("call fails"), h.World.State(`{}`)).Fail
	if f == nil || f.Name != "NoDataError" || f.Severity != ipc.SeverityCrash ||
		f.Message != `page 7: the call of "refuse" failed: NoDataError: nothing there` || f.Details != `{"called":"refuse","page":7}` {
		t.Errorf("%+v", f)
	}
}

func TestCallIsCancelled(t *testing.T) {
	h := start(t, withCalls)
	h.Must(h.call("call cancelled"), h.World.State(`{}`))
	request := h.Begin(h.call("call slow"), h.World.State(`{}`))
	h.waiting()
	if err := h.Send(&ipc.Envelope{ID: request.ID, Message: &ipc.Cancel{Reason: "enough"}}); err != nil {
		t.Fatal(err)
	}
	if f := h.End(request).Fail; f == nil || f.Name != "CancelError" {
		t.Errorf("a step cancelled while it calls: %+v", f)
	}
	h.Must(h.call("empty"), h.World.State(`{}`))
}

func TestCallLeftBehind(t *testing.T) {
	h := start(t, withCalls)
	for range 20 {
		h.Must(h.call("leave behind"), h.World.State(`{}`))
		r := h.Must(h.call("was left behind"), h.World.State(`{}`))
		if got := h.World.Document(r.State); !strings.Contains(got, "the step is over") {
			t.Fatal(got)
		}
	}
}

func TestTooManyCalls(t *testing.T) {
	h := start(t, withCalls)
	h.Must(h.call("too many"), h.World.State(`{}`))
}

func TestForward(t *testing.T) {
	h := start(t, withCalls)
	request := h.Begin(h.call("forward"), h.World.State(`{"big":[1]}`))
	if r := h.End(request); r.Fail != nil || h.Forwarded(request) != "second" || h.World.Document(r.State) != `{"big":[1],"head":1}` {
		t.Errorf("forwarded to %q: %+v", h.Forwarded(request), r)
	}
}

func TestWithoutCalls(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Must(h.call("no calls"), h.World.State(`{}`))
}
