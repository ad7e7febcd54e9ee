package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["each of stream"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		var got []int
		for reply, err := range worker.EachStream(ctx, s, "double", r, worker.EachOptions{Concurrency: 3, Key: "page", Collect: s.Has("collect")}) {
			if reply == nil || err != nil && !s.Has("collect") {
				return err
			}
			if err != nil {
				got = append(got, -1)
				continue
			}
			v, err := worker.Get[int](reply.State(), "page")
			if err != nil {
				return err
			}
			if got = append(got, v); s.Has("break") {
				break
			}
		}
		slices.Sort(got)
		return s.Set("got", got)
	}
}

// eachOfStream runs "each of stream" on a stream that the test writes.
func eachOfStream(t *testing.T, state string, calls func(*testhost.Executor, *testhost.Call)) (*harness, *testhost.StreamWriter, *ipc.Request) {
	t.Helper()
	options := withStreams
	options.Calls = calls
	h := start(t, options)
	st := h.World.NewStream("items", worker.JSON, *withStreams.Streams)
	return h, st.Writer(), h.Begin(h.call("each of stream"), h.World.State(state).With(st.Row()))
}

func doubled(x *testhost.Executor, c *testhost.Call) {
	var n int
	fmt.Sscan(x.World.Bytes(c.State.Rows[0]), &n)
	if n < 0 {
		x.Refuse(c, ipc.Fail{Severity: ipc.SeverityFail, Name: "Negative", Message: "below zero"})
		return
	}
	x.Answer(c, x.World.State(fmt.Sprintf(`{"page":%d}`, 2*n)))
}

func TestEachStream(t *testing.T) {
	const items = 300
	var running, most atomic.Int32
	h, w, step := eachOfStream(t, `{}`, func(x *testhost.Executor, c *testhost.Call) {
		now := running.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		running.Add(-1)
		doubled(x, c)
	})
	want := make([]int, items)
	for i := range items {
		want[i] = 2 * i
		if end, ok := w.Put(fmt.Sprint(i)); !ok {
			t.Fatalf("%+v", end)
		}
	}
	w.End(ipc.StreamEnd{})
	r := h.End(step)
	if r.Fail != nil {
		t.Fatalf("%+v", r.Fail)
	}
	if got := h.World.Document(r.State); got != fmt.Sprintf(`{"got":[%s]}`, joined(want)) {
		t.Error(got)
	}
	if most.Load() > 3 {
		t.Errorf("%d calls were under way at once", most.Load())
	}
	if made, left := h.Remembered(); made != items || left != 0 {
		t.Errorf("%d calls were made, %d of them not forgotten", made, left)
	}
	h.noLeaks()
}

func joined(numbers []int) string {
	text := ""
	for i, n := range numbers {
		text += ","[:min(i, 1)] + fmt.Sprint(n)
	}
	return text
}

// A reply is yielded while the stream has nothing: its producer may wait for
// what comes of it.
func TestEachStreamDoesNotWaitForTheNextItem(t *testing.T) {
	answered := make(chan struct{}, 8)
	h, w, step := eachOfStream(t, `{"break":true}`, func(x *testhost.Executor, c *testhost.Call) {
		doubled(x, c)
		answered <- struct{}{}
	})
	if _, ok := w.Put("1"); !ok {
		t.Fatal("nobody wants the first item")
	}
	<-answered
	if end := w.Ended(); end.Name != "" { // the loop has ended
		t.Errorf("the producer was told %+v", end)
	}
	if r := h.End(step); r.Fail != nil || h.World.Document(r.State) != `{"break":true,"got":[2]}` {
		t.Errorf("%+v %s", r.Fail, h.World.Document(r.State))
	}
	h.noLeaks()
}

func TestEachStreamFails(t *testing.T) {
	h, w, step := eachOfStream(t, `{}`, doubled)
	w.Put("-1")
	fails(t, h.End(step), ipc.SeverityFail, "Negative", "item 0: ")

	h, w, step = eachOfStream(t, `{"collect":true}`, doubled)
	for _, item := range []string{"1", "-1", "2", "-1", "3"} {
		w.Put(item)
	}
	w.End(ipc.StreamEnd{})
	if r := h.End(step); r.Fail != nil || h.World.Document(r.State) != `{"collect":true,"got":[-1,-1,2,4,6]}` {
		t.Errorf("%+v %s", r.Fail, h.World.Document(r.State))
	}

	h, w, step = eachOfStream(t, `{}`, doubled)
	w.Put("1")
	w.End(ipc.StreamEnd{Severity: ipc.SeverityCrash, Name: "Broken", Message: "there"})
	fails(t, h.End(step), ipc.SeverityCrash, "Broken", "there")
	h.noLeaks()
}

// An item that cannot be an argument ends the loop.
func TestEachStreamOfWhatIsNoJSON(t *testing.T) {
	h, w, step := eachOfStream(t, `{}`, doubled)
	w.Put("[1")
	fails(t, h.End(step), ipc.SeverityFail, "JobError", "item 0: ")
	if end := w.Ended(); end.Name != "" && end.Name != "JobError" {
		t.Errorf("the producer was told %+v", end)
	}
}

var errStopped = errors.New("stopped")

func init() {
	functions["each of stream, stopped"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		for _, err := range worker.EachStream(ctx, s, "double", r, worker.EachOptions{}) {
			if err == nil {
				cancel(errStopped)
				continue
			}
			return expect(errors.Is(err, errStopped), true)
		}
		return errors.New("the loop ended without the context's error")
	}
}

func TestEachStreamIsStopped(t *testing.T) {
	options := withStreams
	options.Calls = doubled
	h := start(t, options)
	st := h.World.NewStream("items", worker.JSON, *withStreams.Streams)
	step := h.Begin(h.call("each of stream, stopped"), st.State)
	st.Writer().Put("1")
	if f := h.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
	h.noLeaks()
}
