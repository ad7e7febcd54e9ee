package worker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm/shmtest"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["refused"] = func(ctx context.Context, s *worker.State) error {
		_, stream := s.Stream(ctx, "items", worker.StreamOptions{})
		_, open := s.OpenStream(ctx, "n")
		return errors.Join(expect(errors.Is(stream, worker.ErrNoStreams), true), expect(errors.Is(open, worker.ErrNoStreams), true))
	}
	functions["wrong uses"] = func(ctx context.Context, s *worker.State) error {
		_, private := s.Stream(ctx, "_items", worker.StreamOptions{})
		_, dropped := s.Stream(ctx, "configuration", worker.StreamOptions{})
		_, fork := s.Fork().Stream(ctx, "items", worker.StreamOptions{})
		_, encoding := s.Stream(ctx, "items", worker.StreamOptions{Encoding: 9})
		_, text := s.Stream(ctx, "\xff", worker.StreamOptions{})
		_, none := s.OpenStream(ctx, "none")
		_, value := s.OpenStream(ctx, "n")
		_, raw := s.Raw("items")
		_, read := s.Reader("items").Next()
		for want, err := range map[string]error{
			"would be dropped": private, "key \"configuration\": it would be dropped": dropped, "the step's own state": fork,
			"encoding": encoding, "UTF-8": text, "no such key": none, "it is no stream": value, "only OpenStream reads": raw, "key \"items\": it is a stream": read,
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("want an error with %q, not %v", want, err)
			}
		}
		doc, err := s.AppendTo(nil)
		return errors.Join(err, expect(string(doc), `{"n":1,"items":"[stream]"}`), expect(s.IsStream("items"), true), expect(s.IsStream("n"), false), expect(s.IsStream("none"), false))
	}
	functions["leaks"] = func(_ context.Context, s *worker.State) error {
		return expect(len(shmtest.Leftovers("millrace-stream")), 0)
	}
}

var withStreams = testhost.Options{
	Streams: &testhost.StreamSettings{MaxDemand: 10, MinDemand: 5},
	Welcome: ipc.Welcome{DropKeys: []string{"configuration"}},
}

// noLeaks checks that the executor has nothing left of its streams.
func (h *harness) noLeaks() {
	h.Must(h.call("leaks"), h.World.State(`{}`))
}

// fails checks how a step failed.
func fails(t *testing.T, r testhost.Result, severity ipc.Severity, name, message string) {
	t.Helper()
	if r.Fail == nil || r.Fail.Severity != severity || r.Fail.Name != name || !strings.Contains(r.Fail.Message, message) {
		t.Errorf("failed with %+v, want %s %s: %s", r.Fail, severity, name, message)
	}
}

// Two steps in two processes, over a ring that is much smaller than the stream.
func TestStream(t *testing.T) {
	const items = 20_000
	world := testhost.NewWorld(t)
	from, to := startIn(world, withStreams), startIn(world, withStreams)
	for range 2 {
		producing := from.Begin(from.call("produce"), world.State(fmt.Sprintf(`{"n":%d,"configuration":1}`, items)))
		st := from.Streamed()
		if got := world.Document(st.State); got != fmt.Sprintf(`{"n":%d,"extra":"%s","items":"[stream]"}`, items, strings.Repeat("e", 5000)) {
			t.Fatal(got)
		}
		consumed := to.Must(to.call("consume"), st.State)
		if got := world.Document(consumed.State); !strings.HasSuffix(got, fmt.Sprintf(`e","read":%d}`, items)) || strings.Contains(got, "items") {
			t.Fatal(got)
		}
		r := from.End(producing)
		if r.Fail != nil || r.State.Kind != ipc.KindAbsent || len(r.Done.Blocks) != 0 {
			t.Fatalf("%+v %+v", r.Done, r.Fail)
		}
		from.Release(st.Blocks...)
		to.Release(consumed.Done.Blocks...)
	}
	from.noLeaks()
	to.noLeaks()
}

func TestNoStreams(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Must(h.call("refused"), h.World.State(`{"n":1}`))
}

func TestWrongUsesOfStreams(t *testing.T) {
	h := start(t, withStreams)
	st := h.World.NewStream("items", worker.JSON, testhost.StreamSettings{})
	h.Must(h.call("wrong uses"), h.World.State(`{"n":1}`).With(st.Row()))
	r := h.Must(h.call("empty"), st.State) // passed on
	if row, ok := r.State.Get("items"); !ok || row.Spans[0] != st.Row().Spans[0] || len(r.Done.Blocks) != 0 {
		t.Errorf("passed on as %+v", r.State)
	}
}

// A peer that breaks the ring's rules fails the step, and nothing else.
func TestHostileEnds(t *testing.T) {
	h := start(t, withStreams)
	st, running := consuming(t, h, "all", *withStreams.Streams)
	w := st.Writer()
	w.Put("0")
	put := func(f *os.File, at int64, b ...byte) {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	put(st.Memory(), 0, 3) // less than was written
	_ = h.Send(&ipc.Envelope{Message: &ipc.Wake{Stream: st.ID}})
	if end := w.Ended(); end.Name != "StreamError" || end.Severity != ipc.SeverityException {
		t.Errorf("the producer was told %+v", end)
	}
	fails(t, h.End(running), ipc.SeverityException, "StreamError", "broke its rules")

	producing := h.Begin(h.call("produce badly"), h.World.State(`{"how":"endless"}`))
	st = h.Streamed()
	r := st.Reader()
	r.Take()
	put(st.Memory(), 64, 0xFF, 0xFF, 0xFF, 0xFF) // more than was written
	put(st.Memory(), 128, 0, 0, 1)
	_ = h.Send(&ipc.Envelope{Message: &ipc.Wake{Stream: st.ID}})
	if end := r.Ended(); end.Name != "StreamError" || end.Severity != ipc.SeverityException {
		t.Errorf("the consumer was told %+v", end)
	}
	fails(t, h.End(producing), ipc.SeverityException, "StreamError", "broke its rules")
	_ = h.Send(&ipc.Envelope{Message: &ipc.Wake{Stream: st.ID}}) // late, and ignored
	_ = h.Send(&ipc.Envelope{Message: &ipc.StreamEnd{Stream: 12345}})
	h.noLeaks()
}

// A ring that is none fails the step.
func TestAFalseRing(t *testing.T) {
	world := testhost.NewWorld(t)
	h := startIn(world, withStreams)
	st := world.NewStream("items", worker.JSON, *withStreams.Streams)
	st.Settings.Capacity *= 2 // than the memory has
	r := h.Run(h.call("consume"), st.State)
	fails(t, r, ipc.SeverityException, "StreamError", "the ring's memory has")
	h.noLeaks()
}
