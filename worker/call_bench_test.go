package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["call many"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		for range n {
			reply, err := worker.Call(ctx, "empty", nil, worker.CallOptions{})
			if err != nil {
				return err
			}
			if err := reply.Close(); err != nil {
				return err
			}
		}
		return nil
	}
}

// BenchmarkCall is a call of an empty function in another process: from one
// executor to the host, to the other, and back.
func BenchmarkCall(b *testing.B) {
	w := testhost.NewWorld(b)
	callee := startIn(w, testhost.Options{})
	execute := callee.call("empty")
	caller := startIn(w, testhost.Options{Inline: func(x *testhost.Executor, c *testhost.Call) {
		m := execute
		_, err := callee.StartFunc(&ipc.Envelope{Message: &m, State: c.State}, nil, func(e *ipc.Envelope, err error) {
			if err == nil {
				err = x.Send(&ipc.Envelope{ID: c.ID, Message: &ipc.Result{Step: "empty"}, State: e.State})
			}
			if err != nil && !errors.Is(err, ipc.ErrClosed) {
				b.Error(err)
			}
		})
		if err != nil {
			b.Error(err)
		}
	}})
	m := caller.call("call many")
	caller.Must(m, w.State(`{"n":100}`))
	state := w.State(fmt.Sprintf(`{"n":%d}`, b.N))
	b.ResetTimer()
	caller.Must(m, state)
}
