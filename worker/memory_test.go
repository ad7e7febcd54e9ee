package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// mappedForReading returns how many bytes of segments this process maps
// read-only.
func mappedForReading() (uint64, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uint64
		var mode string
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			return 0, err
		}
		if strings.Contains(line, "memfd:millrace") && mode == "r--s" {
			sum += to - from
		}
	}
	return sum, nil
}

// repeated is an endless reader.
type repeated string

func (r repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r)
	}
	return n, nil
}

func init() {
	functions["untouched"] = func(_ context.Context, s *worker.State) error {
		before, err := mappedForReading()
		if err != nil {
			return err
		}
		small, err := worker.Get[int](s, "small")
		if err != nil {
			return err
		}
		after, mapErr := mappedForReading()
		return errors.Join(mapErr, expect(small, 5), expect(s.Size("big"), 256<<20),
			expect(before, 0), expect(after, os.Getpagesize()), s.Set("small", small+1))
	}
	functions["huge"] = func(_ context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		for i := range n {
			if err := s.Set(fmt.Sprintf("key %d", i), i); err != nil {
				return err
			}
		}
		for i := 0; i < n; i += 2 {
			if err := s.Delete(fmt.Sprintf("key %d", i)); err != nil {
				return err
			}
		}
		return errors.Join(expect(len(s.Keys()), 1+n/2), s.Set("key 1", "again"), s.Set("key 0", "back"))
	}
	functions["many keys"] = func(_ context.Context, s *worker.State) error {
		for i := range 100_000 {
			if err := s.SetRaw(fmt.Sprintf("%0100d", i), worker.Raw, []byte("x")); err != nil {
				return err
			}
		}
		return nil
	}
	functions["heap"] = func(_ context.Context, s *worker.State) error {
		list := make([]any, 64)
		page := strings.Repeat("x", 1<<20)
		for i := range list {
			list[i] = map[string]any{"i": i, "page": page}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := s.Set("big", map[string]any{"list": list}); err != nil {
			return err
		}
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 24<<20 { // it may shrink
			return fmt.Errorf("encoding %d bytes made the heap grow by %d", s.Size("big"), grown)
		}
		_, err := worker.Get[map[string]any](s, "big")
		return err
	}
}

func TestUntouchedKeyIsNotMapped(t *testing.T) {
	w := testhost.NewWorld(t)
	h := startIn(w, testhost.Options{})
	big := ipc.Row{Key: "big", Spans: []shm.Ref{w.Import(io.LimitReader(repeated("millrace"), 256<<20), shm.Raw)}}
	state := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{big, w.Row("small", shm.JSON, "5")}}
	r := h.Must(h.call("untouched"), state)
	if r.State.Rows[0].Spans[0] != big.Spans[0] || w.Bytes(r.State.Rows[1]) != "6" {
		t.Errorf("the state became %+v", r.State)
	}
}

func TestHugeTables(t *testing.T) {
	h := start(t, testhost.Options{Welcome: ipc.Welcome{RetainBytes: 64 << 20}})
	state := h.World.State(`{"n":30000}`)
	r := h.Must(h.call("huge"), state)
	if len(r.State.Rows) != 15_002 || r.State.Rows[1].Key != "key 1" || r.State.Rows[15_001].Key != "key 0" {
		t.Fatalf("%d rows, %+v … %+v", len(r.State.Rows), r.State.Rows[1], r.State.Rows[len(r.State.Rows)-1])
	}
	if got := h.World.Bytes(r.State.Rows[1]); got != `"again"` {
		t.Errorf("key 1 is %s", got)
	}
	next := h.Must(h.call("empty"), r.State)
	if len(next.State.Rows) != len(r.State.Rows) || len(next.Done.Blocks) != 0 {
		t.Errorf("%d rows were passed on, %d blocks", len(next.State.Rows), len(next.Done.Blocks))
	}
	f := h.Run(h.call("many keys"), state).Fail
	if f == nil || f.Name != "StateTooLargeError" || f.Severity != ipc.SeverityKill || !strings.Contains(f.Message, "too many top-level keys") {
		t.Errorf("a table that no frame holds: %+v", f)
	}
	if r := h.Must(h.call("empty"), r.State); len(r.State.Rows) != 15_002 {
		t.Error("the executor is of no use afterwards")
	}
}

func TestEncodingIsBoundedInTheHeap(t *testing.T) {
	h := start(t, testhost.Options{})
	h.Must(h.call("heap"), h.World.State(`{}`))
}

func TestPrefaultDelaysNothing(t *testing.T) {
	h := start(t, testhost.Options{Welcome: ipc.Welcome{RetainBytes: 256 << 20, PrefaultBytes: 256 << 20}})
	for range 50 {
		h.Must(h.call("write"), h.World.State(`{"a":1}`))
	}
}
