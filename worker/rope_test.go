package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

func init() {
	functions["gather"] = func(ctx context.Context, s *worker.State) error {
		n, err := worker.Get[int](s, "n")
		if err != nil {
			return err
		}
		for reply, err := range worker.Each(ctx, s, "page", upTo(n), worker.EachOptions{Concurrency: 4}) {
			if err != nil {
				return err
			}
			if err := s.Extend("all", reply.State(), "data"); err != nil {
				return err
			}
		}
		return nil
	}
	functions["append"] = func(_ context.Context, s *worker.State) error {
		long := strings.Repeat("l", 10_000)
		_, noArray := s.Raw("object")
		err := errors.Join(noArray,
			s.Append("new", 1), s.Append("new", map[string]any{"two": 2}), s.Append("new", long),
			s.AppendFrom("new", s, "object"), s.AppendFrom("new", s, "long"), s.Extend("new", s, "empty"), s.Extend("new", s, "list"),
			s.Append("list", "end"), s.Append("empty", "only"),
			s.Extend("twice", s, "list"), s.Extend("twice", s, "twice"),
			s.Extend("nothing", s, "spaces"),
			s.AppendRaw("raw", []byte("ab")), s.AppendRaw("raw", nil), s.AppendRaw("raw", []byte("c")),
			s.AppendRaw("none", nil),
		)
		if err != nil {
			return err
		}
		for _, bad := range []error{
			s.Append("object", 1), s.Extend("new", s, "object"), s.Append("raw", 1), s.AppendRaw("list", nil),
			s.Append("new", func() {}), s.Extend("new", s, "raw"), s.AppendFrom("new", s, "missing"),
		} {
			if bad == nil {
				return errors.New("a value that cannot be appended was")
			}
		}
		list, err := worker.Get[[]any](s, "list")
		if err := errors.Join(err, expect(list, "[1 2 end]"), s.Append("list", 3), s.Delete("long")); err != nil {
			return err
		}
		list, err = worker.Get[[]any](s, "list")
		fork := s.Fork()
		err = errors.Join(err, expect(list, "[1 2 end 3]"), fork.Append("list", 4), s.Append("list", 5))
		mine, mineErr := s.Raw("list")
		other, otherErr := fork.Raw("list")
		return errors.Join(err, mineErr, otherErr, expect(string(mine), `[1, 2,"end",3,5]`), expect(string(other), `[1, 2,"end",3,4]`))
	}
	functions["shards"] = compressedShards
}

// compressedShards calls a step for each shard and keeps what comes of each,
// compressed as it comes: only one page is ever there uncompressed. Frames of
// zstd that follow one another are one stream.
func compressedShards(ctx context.Context, s *worker.State) error {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer encoder.Close()
	ids, err := worker.Get[[]int](s, "shards")
	if err != nil {
		return err
	}
	var frame []byte
	for reply, err := range worker.Each(ctx, s, "page", upTo(len(ids)), worker.EachOptions{}) {
		if err != nil {
			return err
		}
		page, err := reply.State().Raw("data")
		if err != nil {
			return err
		}
		frame = encoder.EncodeAll(page, frame[:0])
		if err := s.AppendRaw("pages.zst", frame); err != nil {
			return err
		}
	}
	return nil
}

// pages answers calls with the page of that number.
func pages(x *testhost.Executor, c *testhost.Call) {
	var n int
	fmt.Sscan(x.World.Bytes(c.State.Rows[0]), &n)
	x.Answer(c, x.World.State(fmt.Sprintf(`{"data":%s}`, page(n))))
}

// page is a short, a long or an empty array.
func page(n int) string {
	switch n % 5 {
	case 0:
		return " [ ]\n"
	case 1:
		return fmt.Sprintf(`[%d]`, n)
	}
	return fmt.Sprintf(` [ %d,"%s" ] `, n, strings.Repeat("p", 5000+n))
}

func TestPagesBecomeOneArrayWithoutACopy(t *testing.T) {
	h := start(t, testhost.Options{Calls: pages})
	r := h.Must(h.call("gather"), h.World.State(`{"n":500}`))
	row, _ := r.State.Get("all")
	var all []any
	if err := json.Unmarshal([]byte(h.World.Bytes(row)), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 100+300*2 {
		t.Errorf("%d elements", len(all))
	}
	var own uint64
	for _, span := range row.Spans {
		if uint32(span.Segment>>32) != 0 { // the executor's
			own += span.Length
		}
	}
	if whole := row.Size(); own > whole/100 || whole < 300*5000 {
		t.Errorf("%d of %d bytes were copied", own, whole)
	}
}

func TestAppend(t *testing.T) {
	h := start(t, testhost.Options{})
	r := h.Must(h.call("append"), h.World.State(`{"object":{"k":1},"long":"`+strings.Repeat("x", 9000)+`","list":[1, 2],"empty":[],"spaces":[ ]}`))
	long := strings.Repeat("l", 10_000)
	for key, want := range map[string]string{
		"new":     `[1,{"two":2},"` + long + `",{"k":1},"` + strings.Repeat("x", 9000) + `",1, 2]`,
		"list":    `[1, 2,"end",3,5]`,
		"empty":   `["only"]`,
		"twice":   `[1, 2,"end",1, 2,"end"]`,
		"nothing": `[]`, "raw": "abc", "none": "",
	} {
		if row, ok := r.State.Get(key); !ok || h.World.Bytes(row) != want {
			t.Errorf("%s is %q (%v), want %q", key, h.World.Bytes(row), ok, want)
		}
	}
}

func TestShardsAreCompressedAsTheyCome(t *testing.T) {
	h := start(t, testhost.Options{Calls: pages})
	r := h.Must(h.call("shards"), h.World.State(`{"shards":[0,0,0,0,0,0,0,0,0,0]}`))
	row, _ := r.State.Get("pages.zst")
	d, err := zstd.NewReader(strings.NewReader(h.World.Bytes(row)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil || row.Encoding() != shm.Raw || bytes.Count(b, []byte("p")) < 6*5000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestRopesAgreeWithSlices appends at random, and compares with what append
// makes of slices.
func TestRopesAgreeWithSlices(t *testing.T) {
	h := start(t, testhost.Options{})
	for seed := range uint64(30) {
		r := h.Must(h.call("random ropes"), h.World.State(fmt.Sprintf(`{"seed":%d,"list":[]}`, seed)))
		for _, row := range r.State.Rows {
			if !json.Valid([]byte(h.World.Bytes(row))) {
				t.Fatalf("seed %d: %s is no JSON", seed, row.Key)
			}
		}
		h.Release(r.Done.Blocks...)
		h.Sync()
		if n := h.World.Blocks(h.Executor); n != 0 {
			t.Fatalf("seed %d: %d blocks are left", seed, n)
		}
	}
}

func init() {
	functions["random ropes"] = func(_ context.Context, s *worker.State) error {
		seed, err := worker.Get[uint64](s, "seed")
		if err != nil {
			return err
		}
		random := rand.New(rand.NewPCG(seed, 1))
		keys := []string{"list", "a", "b"}
		want := map[string][]string{"list": {}}
		for range 200 {
			key, other := keys[random.IntN(3)], keys[random.IntN(3)]
			element := strings.Repeat("e", random.IntN(3)*random.IntN(4000))
			switch random.IntN(6) {
			case 0, 1:
				want[key] = append(want[key], element)
				err = s.Append(key, element)
			case 2:
				if want[other] == nil || len(want[key])+len(want[other]) > 2000 {
					continue
				}
				want[key] = append(want[key][:len(want[key]):len(want[key])], want[other]...)
				err = s.Extend(key, s, other)
			case 3:
				delete(want, key)
				err = s.Delete(key)
			case 4:
				want[key] = []string{element, element}
				err = s.Set(key, want[key])
			case 5:
				if want[key] == nil {
					continue
				}
				var got []string
				got, err = worker.Get[[]string](s, key)
				err = errors.Join(err, expect(len(got), len(want[key])), expect(strings.Join(got, ","), strings.Join(want[key], ",")))
			}
			if err != nil {
				return err
			}
			if want[key] == nil && s.Has(key) {
				want[key] = []string{}
			}
		}
		return nil
	}
}
