package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/shm"
)

func encodeText(t interface{ Fatal(...any) }, arena *shm.Arena, segments map[shm.SegmentID]*shm.Segment, v any) string {
	ref, err := encodeJSON(arena, v)
	if err != nil {
		t.Fatal(err)
	}
	b, err := segments[ref.Segment].Slice(ref)
	if err != nil {
		t.Fatal(err)
	}
	text := plain(string(b))
	if err := arena.Free(ref.Block()); err != nil {
		t.Fatal(err)
	}
	return text
}

func testArena(t *testing.T) (*shm.Arena, map[shm.SegmentID]*shm.Segment) {
	segments := make(map[shm.SegmentID]*shm.Segment)
	arena := shm.NewArena(shm.ArenaOptions{OnSegment: func(s *shm.Segment) error {
		segments[s.ID()] = s
		return nil
	}})
	t.Cleanup(func() { _ = arena.Close() })
	return arena, segments
}

func standard(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return plain(strings.TrimSuffix(b.String(), "\n"))
}

// plain undoes escapes that encoding/json writes for JavaScript's sake and keys
// do without.
func plain(s string) string {
	return strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029", `\ufffd`, "\uFFFD").Replace(s)
}

// byPointer encodes itself through its pointer only.
type byPointer struct{ n int }

func (p *byPointer) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%d", p.n), nil }

type named map[string]int

func (named) MarshalJSON() ([]byte, error) { return []byte(`"itself"`), nil }

type inner struct {
	A int      `json:"a,omitempty"`
	B []string `json:"b"`
	*time.Duration
}

func TestEncodesAsTheStandardLibrary(t *testing.T) {
	arena, segments := testArena(t)
	big := make([]inner, 5000)
	for i := range big {
		big[i] = inner{A: i % 3, B: []string{strings.Repeat("b", i%50), "\u2028<"}}
	}
	var nilMap map[string]int
	var nilSlice []int
	var nilPointer *int
	for i, v := range []any{
		nil, 1, "x", true, 1.5, nilMap, nilSlice, nilPointer, []int{}, map[string]any{}, []byte("bytes"),
		[][]byte{[]byte("a"), nil}, [3]int{1, 2, 3}, map[int]string{2: "b", 1: "a"}, big,
		map[string]any{"z": big, "a": nil, "\xff<": []any{nil, []any{}, map[string]any{"k": []int{}}}},
		[]byPointer{{1}, {2}, {3}}, []any{&byPointer{4}, byPointer{5}}, named{"x": 1}, []named{{"x": 1}},
		map[string][]map[string][]int{"a": {{"b": {1, 2}}, nil}}, json.RawMessage(` [1, 2] `), []json.RawMessage{[]byte(`{ "a": 1 }`)},
		time.Unix(0, 0).UTC(), []time.Time{time.Unix(0, 0).UTC()}, []any{strings.Repeat("x", 100_000), strings.Repeat("y", 100_000)},
		map[string]json.Number{"n": "12"}, [][][][]int{{{{1}}}}, []string{strings.Repeat("z", 70_000)},
	} {
		if got, want := encodeText(t, arena, segments, v), standard(v); got != want {
			t.Errorf("case %d: got %.200s\nwant %.200s", i, got, want)
		}
	}
	if stats := arena.Stats(); stats.Blocks != 0 || stats.Unpublished != 0 {
		t.Errorf("left in the arena: %+v", stats)
	}
}

func TestEncodesAnyValueAsTheStandardLibrary(t *testing.T) {
	arena, segments := testArena(t)
	leaf := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Float64Range(-1e9, 1e9), func(f float64) any { return f }),
		rapid.Just[any](nil),
		rapid.Map(rapid.SliceOfN(rapid.Int(), 0, 300), func(l []int) any { return l }),
		rapid.Map(rapid.SampledFrom([]int{0, 1, 1000, 70_000}), func(n int) any { return strings.Repeat("s", n) }),
	)
	value := leaf
	for range 5 {
		smaller := value
		value = rapid.OneOf(leaf,
			rapid.Map(rapid.SliceOfN(smaller, 0, 5), func(l []any) any { return l }),
			rapid.Map(rapid.MapOfN(rapid.String(), smaller, 0, 5), func(m map[string]any) any { return m }))
	}
	rapid.Check(t, func(r *rapid.T) {
		v := value.Draw(r, "value")
		if got, want := encodeText(r, arena, segments, v), standard(v); got != want {
			r.Fatalf("got %.300s\nwant %.300s", got, want)
		}
	})
}

func TestEncoderRecovers(t *testing.T) {
	arena, segments := testArena(t)
	arena.SetLimit(100_000)
	for _, v := range []any{strings.Repeat("x", 200_000), math.Inf(1), []any{strings.Repeat("x", 90_000), func() {}}} {
		if _, err := encodeJSON(arena, v); err == nil {
			t.Errorf("%T was encoded", v)
		}
		if got := encodeText(t, arena, segments, []int{1}); got != "[1]" {
			t.Errorf("afterwards %s", got)
		}
	}
	_, err := encodeJSON(arena, []string{strings.Repeat("x", 200_000)})
	if limit := (*shm.LimitError)(nil); !errors.As(err, &limit) {
		t.Errorf("past the limit: %v", err)
	}
}
