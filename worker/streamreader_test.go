package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["consume"] = func(ctx context.Context, s *worker.State) error {
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		n := 0
		for item, err := range worker.Items[record](r) {
			if err != nil {
				return err
			}
			if err := expect(item, record{fmt.Sprint("<item> ", n), n}); err != nil {
				return err
			}
			n++
		}
		_, err = r.Next()
		return errors.Join(expect(err, io.EOF), s.Set("read", n))
	}
	functions["consume badly"] = func(ctx context.Context, s *worker.State) error {
		how, err := worker.Get[string](s, "how")
		if err != nil {
			return err
		}
		r, err := s.OpenStream(ctx, "items")
		if err != nil {
			return err
		}
		if how == "manual" {
			r.Ask(3)
		}
		switch b, err := r.Next(); {
		case err != nil:
			return err
		case string(b) != `0`:
			return fmt.Errorf("the first item is %q", b)
		}
		switch how {
		case "fails":
			return &worker.Error{Name: "Broken", Severity: ipc.SeverityFail, Message: "in the middle"}
		case "closes":
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				return err
			}
			_, err := r.Next()
			return expect(strings.Contains(fmt.Sprint(err), "is closed"), true)
		case "breaks":
			for range worker.Items[int](r) {
				return nil
			}
		case "ready":
			for !r.Ready() {
				time.Sleep(time.Millisecond)
			}
			b, err := r.Next()
			item := string(b)
			for err == nil && !r.Ready() {
				time.Sleep(time.Millisecond)
			}
			_, end := r.Next()
			return errors.Join(err, expect(item, "1"), expect(end, io.EOF), expect(r.Ready(), true))
		case "all":
			for {
				if _, err := r.Next(); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
			}
		case "manual":
			for range 2 {
				if _, err := r.Next(); err != nil {
					return err
				}
			}
			_, err := r.Next() // asks for one
			return err
		case "decodes":
			var v int
			err := r.Decode(&v)
			if key := (*worker.KeyError)(nil); !errors.As(err, &key) || !strings.Contains(err.Error(), "item 1: ") {
				return fmt.Errorf("no JSON: %v", err)
			}
			return errors.Join(r.Decode(&v), expect(v, 2))
		}
		return nil
	}
}

// consuming begins a step that reads a stream of the test's.
func consuming(t *testing.T, h *harness, how string, s testhost.StreamSettings) (*testhost.Stream, *ipc.Request) {
	t.Helper()
	st := h.World.NewStream("items", worker.JSON, s)
	state := h.World.State(fmt.Sprintf(`{"how":%q}`, how)).With(st.Row())
	return st, h.Begin(h.call("consume badly"), state)
}

func TestAConsumerEndsEarly(t *testing.T) {
	h := start(t, withStreams)
	for _, how := range []string{"closes", "breaks", "returns"} {
		st, running := consuming(t, h, how, *withStreams.Streams)
		w := st.Writer()
		for n := 0; ; n++ {
			if end, ok := w.Put(fmt.Sprint(n)); !ok {
				if end.Name != "" {
					t.Errorf("%s: the producer was told %+v", how, end)
				}
				break
			}
		}
		if f := h.End(running).Fail; f != nil {
			t.Errorf("%s: %+v", how, f)
		}
	}
	h.noLeaks()
}

func TestAConsumerFails(t *testing.T) {
	h := start(t, withStreams)
	st, running := consuming(t, h, "fails", *withStreams.Streams)
	w := st.Writer()
	w.Put("0")
	if end := w.Ended(); end.Severity != ipc.SeverityFail || end.Name != "Broken" || end.Message != "in the middle" {
		t.Errorf("the producer was told %+v", end)
	}
	fails(t, h.End(running), ipc.SeverityFail, "Broken", "in the middle")
	h.noLeaks()
}

// The error of the producer counts at once, its end when all is read.
func TestAConsumerAndTheProducersEnd(t *testing.T) {
	h := start(t, withStreams)
	st, running := consuming(t, h, "all", *withStreams.Streams)
	w := st.Writer()
	for i := range 5 {
		w.Put(fmt.Sprint(i))
	}
	w.End(ipc.StreamEnd{})
	if f := h.End(running).Fail; f != nil {
		t.Errorf("%+v", f)
	}
	st, running = consuming(t, h, "all", *withStreams.Streams)
	w = st.Writer()
	w.Put("0")
	w.End(ipc.StreamEnd{Severity: ipc.SeverityCrash, Name: "Broken", Message: "there"})
	fails(t, h.End(running), ipc.SeverityCrash, "Broken", `stream "items": Broken: there`)
	h.noLeaks()
}

func TestAnItemThatIsNoJSON(t *testing.T) {
	h := start(t, withStreams)
	st, running := consuming(t, h, "decodes", *withStreams.Streams)
	w := st.Writer()
	for _, item := range []string{"0", "[1", "2"} {
		w.Put(item)
	}
	if f := h.End(running).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestReady(t *testing.T) {
	h := start(t, withStreams)
	st, running := consuming(t, h, "ready", *withStreams.Streams)
	w := st.Writer()
	w.Put("0")
	w.Put("1")
	w.End(ipc.StreamEnd{})
	if f := h.End(running).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestManualDemand(t *testing.T) {
	h := start(t, withStreams)
	st, running := consuming(t, h, "manual", testhost.StreamSettings{Manual: true})
	w := st.Writer()
	for i := range 4 {
		if end, ok := w.Put(fmt.Sprint(i)); !ok {
			t.Fatalf("%+v", end)
		}
	}
	if _, ok, err := w.Reserve(1); ok || err != nil {
		t.Errorf("demand for a fifth item: %v, %v", ok, err)
	}
	if f := h.End(running).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}
