package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["produce"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err == nil {
			err = errors.Join(s.Set("extra", strings.Repeat("e", 5000)), s.Set("_own", 1), s.Set("items", "replaced"))
		}
		if err != nil {
			return err
		}
		w, err := s.Stream(ctx, "items", worker.StreamOptions{Capacity: 1 << 16})
		if err != nil {
			return err
		}
		for i := range n {
			if err := w.Encode(record{fmt.Sprint("<item> ", i), i}); err != nil {
				return err
			}
		}
		return errors.Join(expect(w.Items(), n), w.Close(), w.Close(), expect(errors.Is(w.Write(nil), worker.ErrReaderDone), false))
	}
	functions["produce raw"] = func(ctx context.Context, s *worker.State) error {
		w, err := s.Stream(ctx, "items", worker.StreamOptions{Encoding: worker.Raw, Capacity: 1 << 16})
		if err != nil {
			return err
		}
		limit := 1<<15 - 8
		for i := range 300 {
			n := i * 97 % (limit + 1)
			if i%2 == 0 {
				if err := w.Write([]byte(strings.Repeat(string(rune('a'+i%26)), n))); err != nil {
					return err
				}
				continue
			}
			b, err := w.Reserve(limit)
			if err != nil {
				return err
			}
			for j := range b[:n] {
				b[j] = byte('a' + i%26)
			}
			if err := w.Commit(n); err != nil {
				return err
			}
		}
		var size *worker.ItemSizeError
		if err := w.Write(make([]byte, limit+1)); !errors.As(err, &size) || size.Limit != limit || size.Item != 300 || size.Key != "items" {
			return fmt.Errorf("an item too large: %v", err)
		}
		if err := w.Encode(1); err == nil || !strings.Contains(err.Error(), "its items are raw") {
			return fmt.Errorf("a JSON item of a raw stream: %v", err)
		}
		return w.Write([]byte("last"))
	}
	// The state that was handed over is still there to be read, though the
	// supervisor may have released all of it.
	functions["produce and read"] = func(ctx context.Context, s *worker.State) error {
		if err := errors.Join(s.Set("own", strings.Repeat("o", 100_000)), s.Set("_private", "p")); err != nil {
			return err
		}
		fork := s.Fork()
		w, err := s.Stream(ctx, "items", worker.StreamOptions{})
		if err != nil {
			return err
		}
		for i := range 20 { // the supervisor gives the blocks back meanwhile
			if err := errors.Join(w.Encode(i), s.New().Set("new", strings.Repeat("n", 100_000))); err != nil {
				return err
			}
			for _, state := range []*worker.State{s, fork} {
				own, err := worker.Get[string](state, "own")
				private, err2 := worker.Get[string](state, "_private")
				if err := errors.Join(err, err2, expect(own == strings.Repeat("o", 100_000), true), expect(private, "p")); err != nil {
					return err
				}
			}
		}
		_, again := s.Stream(ctx, "more", worker.StreamOptions{})
		for _, err := range []error{s.Set("own", 1), s.Delete("own"), s.Forward("other"), again} {
			if err == nil || !strings.Contains(err.Error(), "was handed over") {
				return fmt.Errorf("a change after it was handed over: %v", err)
			}
		}
		return nil
	}
	functions["produce together"] = func(ctx context.Context, s *worker.State) error {
		w, err := s.Stream(ctx, "items", worker.StreamOptions{Capacity: 1 << 16})
		if err != nil {
			return err
		}
		errs := make(chan error, 4)
		for g := range 4 {
			go func() {
				var err error
				for i := 0; i < 500 && err == nil; i++ {
					err = w.Encode(record{strings.Repeat(string(rune('a'+g)), 100+i), g*1000 + i})
				}
				errs <- err
			}()
		}
		return errors.Join(<-errs, <-errs, <-errs, <-errs)
	}
	// A Close ends the writes that wait.
	functions["close while writing"] = func(ctx context.Context, s *worker.State) error {
		w, err := s.Stream(ctx, "items", worker.StreamOptions{})
		if err != nil {
			return err
		}
		written := make(chan error)
		go func() {
			var err error
			for err == nil {
				err = w.Encode(1)
			}
			written <- err
		}()
		for w.Items() < 10 { // all that is asked for
			time.Sleep(time.Millisecond)
		}
		err = w.Close()
		return errors.Join(err, expect(strings.Contains(fmt.Sprint(<-written), "is closed"), true))
	}
	functions["joins errors"] = func(ctx context.Context, s *worker.State) error {
		w, err := s.Stream(ctx, "items", worker.StreamOptions{})
		if err != nil {
			return err
		}
		<-w.Done()
		var other error
		if s.Has("other") {
			other = errors.New("another error")
		}
		return fmt.Errorf("in the end: %w", errors.Join(w.Err(), other, w.Err()))
	}
	functions["produce until done"] = func(ctx context.Context, s *worker.State) error {
		w, err := s.Stream(ctx, "items", worker.StreamOptions{})
		if err != nil {
			return err
		}
		if err := w.Err(); err != nil {
			return fmt.Errorf("at first: %w", err)
		}
		<-w.Done()
		return w.Err()
	}
	functions["produce badly"] = func(ctx context.Context, s *worker.State) error {
		how, err := worker.Get[string](s, "how")
		if err != nil {
			return err
		}
		w, err := s.Stream(ctx, "items", worker.StreamOptions{})
		if how == "ignores" {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range 3 {
			if err := w.Encode(i); err != nil {
				return err
			}
		}
		switch how {
		case "panics":
			panic("in the middle")
		case "no JSON":
			return w.Encode(map[string]any{"f": func() {}})
		case "closes":
			w.CloseWithError(&worker.Error{Name: "Stopped", Severity: ipc.SeverityCrash, Message: "no more"})
			return nil
		case "endless":
			for {
				if err := w.Encode("x"); err != nil {
					return err
				}
			}
		case "large":
			return w.Write(make([]byte, 3<<20))
		}
		return &worker.Error{Name: "Broken", Severity: ipc.SeverityFail, Message: "in the middle"}
	}
}

func TestStreamOfRawItems(t *testing.T) {
	h := start(t, withStreams)
	producing := h.Begin(h.call("produce raw"), h.World.State(`{}`))
	r := h.Streamed().Reader()
	for i := range 300 {
		item, end, ok := r.Take()
		if want := strings.Repeat(string(rune('a'+i%26)), i*97%(1<<15-7)); !ok || item != want {
			t.Fatalf("item %d: %d bytes, not %d; %+v", i, len(item), len(want), end)
		}
	}
	if last, _, _ := r.Take(); last != "last" {
		t.Fatal(last)
	}
	if _, end, ok := r.Take(); ok || end.Name != "" {
		t.Fatalf("%v %+v", ok, end)
	}
	if f := h.End(producing).Fail; f != nil {
		t.Fatal(f)
	}
	h.noLeaks()
}

// What was published with the stream can be read on when nobody else has it any
// more, and is freed in the end.
func TestTheStateIsReadAfterItWasHandedOver(t *testing.T) {
	options := withStreams
	options.Calls = answers
	h := start(t, options)
	producing := h.Begin(h.call("produce and read"), h.World.State(`{"n":1}`))
	st := h.Streamed()
	if got := h.World.Document(st.State); !strings.HasPrefix(got, `{"n":1,"own":"ooo`) || strings.Contains(got, "_private") {
		t.Fatal(got[:50])
	}
	h.Release(st.Blocks...)
	r := st.Reader()
	for range 20 {
		if _, end, ok := r.Take(); !ok {
			t.Fatalf("%+v", end)
		}
	}
	if f := h.End(producing).Fail; f != nil {
		t.Fatal(f)
	}
	h.noLeaks()
}

func TestTheReaderWantsNoMore(t *testing.T) {
	h := start(t, withStreams)
	producing := h.Begin(h.call("produce badly"), h.World.State(`{"how":"endless"}`))
	r := h.Streamed().Reader()
	r.Take()
	r.End(ipc.StreamEnd{})
	if got := h.End(producing); got.Fail != nil || got.State.Kind != ipc.KindAbsent {
		t.Fatalf("%+v", got.Fail)
	}
	h.noLeaks()
}

func TestSeveralWrite(t *testing.T) {
	h := start(t, withStreams)
	producing := h.Begin(h.call("produce together"), h.World.State(`{}`))
	r := h.Streamed().Reader()
	next := make(map[int]int)
	for range 2000 {
		text, end, ok := r.Take()
		var item record
		if err := json.Unmarshal([]byte(text), &item); !ok || err != nil {
			t.Fatalf("%q %v %+v", text, err, end)
		}
		g, i := item.N/1000, item.N%1000
		if i != next[g] || item.Name != strings.Repeat(string(rune('a'+g)), 100+i) {
			t.Fatalf("%+v", item)
		}
		next[g]++
	}
	if f := h.End(producing).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestCloseWhileWriting(t *testing.T) {
	h := start(t, withStreams)
	producing := h.Begin(h.call("close while writing"), h.World.State(`{}`))
	r := h.Streamed().Reader()
	if end := r.Ended(); end.Name != "" {
		t.Errorf("%+v", end)
	}
	if f := h.End(producing).Fail; f != nil {
		t.Errorf("%+v", f)
	}
	h.noLeaks()
}

// That the reader wants no more is no failure, but hides none either.
func TestReaderDoneAmongErrors(t *testing.T) {
	h := start(t, withStreams)
	for _, state := range []string{`{}`, `{"other":true}`} {
		producing := h.Begin(h.call("joins errors"), h.World.State(state))
		h.Streamed().Reader().End(ipc.StreamEnd{})
		if f := h.End(producing).Fail; (f != nil) != (state != `{}`) || f != nil && !strings.Contains(f.Message, "another error") {
			t.Errorf("%s: %+v", state, f)
		}
	}
}

// A step that waits for something else is told too.
func TestDone(t *testing.T) {
	h := start(t, withStreams)
	for _, end := range []ipc.StreamEnd{{}, {Severity: ipc.SeverityCrash, Name: "Broken", Message: "there"}} {
		producing := h.Begin(h.call("produce until done"), h.World.State(`{}`))
		h.Streamed().Reader().End(end)
		if f := h.End(producing).Fail; end.Name == "" && f != nil || end.Name != "" && (f == nil || f.Name != end.Name) {
			t.Errorf("%+v after %+v", f, end)
		}
	}
	h.noLeaks()
}

func TestTheReaderFails(t *testing.T) {
	h := start(t, withStreams)
	producing := h.Begin(h.call("produce badly"), h.World.State(`{"how":"endless"}`))
	r := h.Streamed().Reader()
	r.Take()
	r.End(ipc.StreamEnd{Severity: ipc.SeverityKill, Name: "OOMError", Message: "it was too much"})
	fails(t, h.End(producing), ipc.SeverityKill, "OOMError", `stream "items": OOMError: it was too much`)
	h.noLeaks()
}

func TestTheProducerFails(t *testing.T) {
	h := start(t, withStreams)
	for how, want := range map[string]ipc.Fail{
		"fails":   {Severity: ipc.SeverityFail, Name: "Broken", Message: "in the middle"},
		"panics":  {Severity: ipc.SeverityFail, Name: "RuntimeError", Message: "panic: in the middle"},
		"no JSON": {Severity: ipc.SeverityFail, Name: "JobError", Message: `key "items": `},
		"large":   {Severity: ipc.SeverityFail, Name: "StreamItemTooLargeError", Message: `item 3 of stream "items" has 3145728 bytes`},
	} {
		t.Run(how, func(t *testing.T) {
			producing := h.Begin(h.call("produce badly"), h.World.State(fmt.Sprintf(`{"how":%q}`, how)))
			r := h.Streamed().Reader()
			if end := r.Ended(); end.Severity != want.Severity || end.Name != want.Name || !strings.HasPrefix(end.Message, want.Message) {
				t.Errorf("the reader was told %+v", end)
			}
			fails(t, h.End(producing), want.Severity, want.Name, want.Message)
		})
	}
	producing := h.Begin(h.call("produce badly"), h.World.State(`{"how":"closes"}`))
	if end := h.Streamed().Reader().Ended(); end.Name != "Stopped" || end.Severity != ipc.SeverityCrash {
		t.Errorf("the reader was told %+v", end)
	}
	if f := h.End(producing).Fail; f != nil {
		t.Error(f)
	}
	h.noLeaks()
}

func TestAProducerIsCancelledWhileItWaits(t *testing.T) {
	h := start(t, withStreams)
	producing := h.Begin(h.call("produce badly"), h.World.State(`{"how":"endless"}`))
	r := h.Streamed().Reader()
	if err := h.Send(&ipc.Envelope{ID: producing.ID, Message: &ipc.Cancel{Reason: "enough"}}); err != nil {
		t.Fatal(err)
	}
	fails(t, h.End(producing), ipc.SeverityCancel, "CancelError", "enough")
	if end := r.Ended(); end.Name != "CancelError" {
		t.Errorf("the reader was told %+v", end)
	}
	h.noLeaks()
}

// A step that goes on although its stream was refused cannot end well: nobody
// has its state.
func TestARefusedStream(t *testing.T) {
	refusal := &ipc.Fail{Severity: ipc.SeverityKill, Name: "StateTooLargeError", Message: "no room"}
	h := start(t, testhost.Options{Streams: &testhost.StreamSettings{Refuse: refusal}})
	for _, how := range []string{"ignores", "returns"} {
		r := h.Run(h.call("produce badly"), h.World.State(fmt.Sprintf(`{"how":%q}`, how)))
		fails(t, r, ipc.SeverityKill, "StateTooLargeError", "no room")
	}
	st := h.World.NewStream("items", worker.JSON, testhost.StreamSettings{})
	fails(t, h.Run(h.call("consume"), st.State), ipc.SeverityKill, "StateTooLargeError", "no room")
}
