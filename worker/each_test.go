package worker_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["each"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		if err := s.Set("shared", strings.Repeat("s", 6000)); err != nil {
			return err
		}
		with := s.New()
		if err := with.SetFrom("shared", s, "shared"); err != nil {
			return err
		}
		seen := make(map[int]bool)
		var kept []*worker.Reply
		var last *worker.Reply
		for reply, err := range worker.Each(ctx, s, "double", upTo(n), worker.EachOptions{Concurrency: 8, Key: "item", With: with}) {
			if err != nil {
				return err
			}
			if last != nil && len(kept) < 3 {
				if _, err := last.State().Raw("item"); !errors.Is(err, worker.ErrExpired) {
					return fmt.Errorf("the reply before can be read: %v", err)
				}
			}
			got, err := worker.Get[int](reply.State(), "item")
			if err != nil || got != 2*reply.Index() || seen[got] {
				return fmt.Errorf("item %d became %d: %v", reply.Index(), got, err)
			}
			seen[got] = true
			if last = reply; got%7 == 0 {
				reply.Keep()
				kept, last = append(kept, reply), nil
			}
		}
		for _, reply := range kept {
			got, err := worker.Get[int](reply.State(), "item")
			if err := errors.Join(err, expect(got, 2*reply.Index()), reply.Close()); err != nil {
				return err
			}
		}
		return expect(len(seen), n)
	}
	functions["each break"] = func(ctx context.Context, s *worker.State) error {
		taken := 0
		for reply, err := range worker.Each(ctx, s, "first only", upTo(1000), worker.EachOptions{Concurrency: 10}) {
			if err != nil {
				return err
			}
			_ = reply
			taken++
			break
		}
		return expect(taken, 1)
	}
	functions["each fails"] = func(ctx context.Context, s *worker.State) error {
		collect := s.Has("collect")
		good, bad := 0, []int{}
		for reply, err := range worker.Each(ctx, s, "odd fails", upTo(20), worker.EachOptions{Concurrency: 4, Collect: collect}) {
			if err == nil {
				good++
				continue
			}
			if failed := (*worker.CallError)(nil); !errors.As(err, &failed) || !strings.HasPrefix(err.Error(), fmt.Sprintf("item %d: ", reply.Index())) {
				return err
			}
			bad = append(bad, reply.Index())
		}
		slices.Sort(bad)
		if collect {
			return errors.Join(expect(good, 10), expect(bad, "[1 3 5 7 9 11 13 15 17 19]"))
		}
		return expect(len(bad), 1)
	}
	functions["each sources"] = func(ctx context.Context, s *worker.State) error {
		states := func(yield func(*worker.State) bool) {
			for i := range 3 {
				arg := s.New()
				if err := arg.Set("data", i); err != nil || !yield(arg) {
					return
				}
			}
		}
		var got []string
		for reply, err := range worker.Each(ctx, s, "echo", iter.Seq[*worker.State](states), worker.EachOptions{Concurrency: 1}) {
			if err != nil {
				return err
			}
			b, err := reply.State().Raw("data")
			if err != nil {
				return err
			}
			got = append(got, string(b))
		}
		broken := errors.New("the source broke")
		raw := func(yield func(worker.Encoded, error) bool) {
			_ = yield(worker.Encoded{Encoding: worker.JSON, Bytes: []byte(`{"a": 1}`)}, nil) &&
				yield(worker.Encoded{Encoding: worker.Raw, Bytes: []byte{0, 1}}, nil) &&
				yield(worker.Encoded{}, broken)
		}
		var end error
		for reply, err := range worker.EachOf(ctx, s, "echo", raw, worker.EachOptions{Collect: true, Concurrency: 1}) {
			if end != nil {
				return errors.New("something came after the source had failed")
			}
			if reply == nil {
				end = err
				continue
			}
			b, err := reply.State().Raw("data")
			if err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%s:%q", reply.State().Encoding("data"), b))
		}
		errs := []error{expect(got, `[0 1 2 json:"{\"a\": 1}" raw:"\x00\x01"]`), expect(errors.Is(end, broken), true)}
		// What is said to be checked is not looked at, but for being there.
		for _, text := range []string{"[1,", ""} {
			for _, checked := range []bool{false, true} {
				item := worker.Encoded{Encoding: worker.JSON, Bytes: []byte(text), Checked: checked}
				for _, err := range worker.Each(ctx, s, "echo", slices.Values([]worker.Encoded{item}), worker.EachOptions{}) {
					errs = append(errs, expect(err != nil, !checked || text == ""))
				}
			}
		}
		return errors.Join(errs...)
	}
}

func upTo(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func TestEach(t *testing.T) {
	var running, most atomic.Int32
	h := start(t, testhost.Options{Calls: func(x *testhost.Executor, c *testhost.Call) {
		now := running.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		i := len(c.State.Rows) - 1
		if c.State.Rows[0].Key != "shared" || c.State.Rows[i].Key != "item" {
			x.Refuse(c, ipc.Fail{Severity: ipc.SeverityFail, Name: "Wrong", Message: x.World.Document(c.State)})
			return
		}
		var n int
		fmt.Sscan(x.World.Bytes(c.State.Rows[i]), &n)
		time.Sleep(time.Duration(n*7%5) * 100 * time.Microsecond)
		running.Add(-1)
		x.Answer(c, x.World.State(fmt.Sprintf(`{"item":%d}`, 2*n)))
	}})
	r := h.Must(h.call("each"), h.World.State(`{"n":200}`))
	if most.Load() > 8 || most.Load() < 4 {
		t.Errorf("%d calls were under way at once", most.Load())
	}
	// All but the one that published the shared value, which the state has too.
	if made, left := h.Remembered(); made != 200 || left != 1 {
		t.Errorf("%d calls were made, %d of them not forgotten", made, left)
	}
	if got := h.World.Document(r.State); len(got) < 6000 {
		t.Error(got)
	}
}

func TestEachEndsEarly(t *testing.T) {
	var group sync.WaitGroup
	var cancelled atomic.Int32
	var once sync.Once
	group.Add(9)
	h := start(t, testhost.Options{Calls: func(x *testhost.Executor, c *testhost.Call) {
		first := false
		once.Do(func() { first = true })
		if !first {
			defer group.Done()
			select {
			case <-c.Cancelled:
				cancelled.Add(1)
			case <-time.After(60 * time.Second):
			}
		}
		x.Answer(c, c.State)
	}})
	h.Must(h.call("each break"), h.World.State(`{}`))
	group.Wait()
	if made, _ := h.Remembered(); made != 10 {
		t.Errorf("%d calls were made", made)
	}
	// The step may be answered before it has seen all cancelled calls answered,
	// and they need not be forgotten then.
	if n := cancelled.Load(); n != 9 {
		t.Errorf("%d of 9 calls were cancelled", n)
	}
	h.Must(h.call("empty"), h.World.State(`{}`))
}

func TestEachFails(t *testing.T) {
	h := start(t, testhost.Options{Calls: func(x *testhost.Executor, c *testhost.Call) {
		var n int
		fmt.Sscan(x.World.Bytes(c.State.Rows[0]), &n)
		if n%2 == 0 {
			x.Answer(c, c.State)
			return
		}
		x.Refuse(c, ipc.Fail{Severity: ipc.SeverityFail, Name: "Odd", Message: "odd"})
	}})
	h.Must(h.call("each fails"), h.World.State(`{"collect":true}`))
	h.balanced(20)
	h.Must(h.call("each fails"), h.World.State(`{}`))
}

func TestEachSources(t *testing.T) {
	h := start(t, withCalls)
	h.Must(h.call("each sources"), h.World.State(`{}`))
	h.balanced(6)
}
