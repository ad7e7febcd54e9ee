package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker"
	"github.com/millrace/millrace/worker/internal/testhost"
)

// expect is a function's own assertion: its error fails the step, and so the
// test.
func expect(got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("got %s, want %s", g, w)
	}
	return nil
}

type record struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func init() {
	functions["read"] = func(_ context.Context, s *worker.State) error {
		var r record
		list, listErr := worker.Get[[]int](s, "list")
		raw, rawErr := s.Raw("list")
		streamed, readErr := io.ReadAll(s.Reader("list"))
		_, missing := worker.Get[int](s, "missing")
		_, missingRead := io.ReadAll(s.Reader("missing"))
		return errors.Join(
			expect(s.Kind(), worker.Object), expect(s.Keys(), "[record list text]"),
			expect(s.Has("list"), true), expect(s.Has("missing"), false),
			expect(s.Encoding("list"), worker.JSON), expect(s.Encoding("missing"), worker.Encoding(0)),
			expect(s.Size("list"), len("[1, 2,3]")), expect(s.Size("missing"), 0),
			s.Decode("record", &r), expect(r, record{"ada", 7}),
			listErr, expect(list, "[1 2 3]"),
			rawErr, expect(string(raw), "[1, 2,3]"),
			readErr, expect(string(streamed), "[1, 2,3]"),
			expect(errors.Is(missing, worker.ErrNoKey), true),
			expect(strings.Contains(missing.Error(), `"record", "list", "text"`), true),
			expect(errors.Is(missingRead, worker.ErrNoKey), true),
		)
	}
	functions["write"] = func(_ context.Context, s *worker.State) error {
		w, err := s.Create("created", worker.JSON, 0)
		if err != nil {
			return err
		}
		b, err := w.Reserve(8)
		if err != nil {
			return err
		}
		copy(b, `[1,2`)
		_, writeErr := []int{}, w.Advance(4)
		if _, err := io.WriteString(w, `,3]`); err != nil {
			return err
		}
		err = errors.Join(
			s.Set("b", map[string]any{"x": []any{1, "<&>", nil}, "a": true}), // in its place
			s.Set("new", record{"bob", 1}),
			s.SetRaw("raw", worker.Raw, []byte("\x00\xff")),
			s.SetRaw("nothing", worker.Raw, nil),
			s.SetRaw("json", worker.JSON, []byte(` {"k": 1} `)),
			s.Delete("c"), s.Delete("not there"),
			s.Set("_private", 1), s.Set("configuration", 2),
			writeErr, w.Close(), w.Close(),
		)
		if err != nil {
			return err
		}
		for i := range 100 { // only the last counts, and takes memory
			if err := s.Set("again", strings.Repeat("x", 1000+i)); err != nil {
				return err
			}
		}
		seen, err := worker.Get[string](s, "again")
		return errors.Join(err, expect(len(seen), 1099), s.Set("again", "y"),
			expect(s.Has("c"), false), expect(s.Has("_private"), true), expect(s.Keys()[len(s.Keys())-2:], "[created again]"))
	}
	functions["clear"] = func(_ context.Context, s *worker.State) error {
		return errors.Join(s.Set("x", 1), s.Clear(), expect(len(s.Keys()), 0), expect(s.Kind(), worker.Object))
	}
	functions["setvalue"] = func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[any](s, "v")
		return errors.Join(err, s.Set("dropped", "before"), s.SetValue(v))
	}
	functions["bare"] = func(_ context.Context, s *worker.State) error {
		v, err := worker.Get[[]int](s, "")
		return errors.Join(err, expect(v, "[1 2]"), expect(s.Kind(), worker.Value), expect(len(s.Keys()), 0), s.Set("list", v))
	}
	functions["document"] = func(_ context.Context, s *worker.State) error {
		appended, err := s.AppendTo([]byte("#"))
		if err != nil {
			return err
		}
		read, err := io.ReadAll(io.MultiReader(io.LimitReader(s.Document(), 0), oneByte{s.Document()}))
		var written bytes.Buffer
		_, werr := s.Document().WriteTo(&written)
		return errors.Join(err, werr, expect(string(read), string(appended[1:])), expect(written.String(), string(appended[1:])),
			s.SetRaw("document", worker.Raw, appended[1:]))
	}
	functions["bad"] = func(_ context.Context, s *worker.State) error {
		which, err := worker.Get[string](s, "which")
		if err != nil {
			return err
		}
		type loop struct{ Next *loop }
		circle := &loop{}
		circle.Next = circle
		list := []any{1}
		list[0] = list
		switch which {
		case "nan":
			return s.Set("k", map[string]any{"items": []any{1.5, map[string]float64{"x": math.NaN()}}})
		case "chan":
			return s.Set("k", struct {
				Deep []any `json:"deep"`
			}{[]any{make(chan int)}})
		case "cycle":
			return s.Set("k", map[string]any{"c": circle})
		case "list cycle":
			return s.Set("k", list)
		case "map key":
			return s.Set("k", map[[2]int]int{{1, 2}: 3})
		case "self":
			return s.Set("k", []refuses{{}})
		case "json":
			return s.SetRaw("k", worker.JSON, []byte(`{"a":1,}`))
		case "empty json":
			return s.SetRaw("k", worker.JSON, nil)
		case "key":
			return s.Set("\xff", 1)
		case "encoding":
			return s.SetRaw("k", worker.Encoding(9), nil)
		case "not closed":
			_, err := s.Create("k", worker.Raw, 0)
			return err
		case "type":
			_, err := worker.Get[int](s, "which")
			return err
		case "raw":
			if err := s.SetRaw("k", worker.Raw, []byte("x")); err != nil {
				return err
			}
			_, err := worker.Get[int](s, "k")
			return err
		}
		return errors.New("no such case")
	}
}

type refuses struct{}

func (refuses) MarshalJSON() ([]byte, error) { return nil, errors.New("not today") }

// oneByte reads slowly.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func TestRead(t *testing.T) {
	for _, socket := range []bool{false, true} {
		h := start(t, testhost.Options{Socket: socket})
		whole := h.World.State(`{"record": {"name":"ada","n":7}, "list": [1, 2,3], "text": "t"}`)
		rope := whole.With(h.World.Row("list", shm.JSON, "[1, ", "2", ",3]"))
		for name, state := range map[string]ipc.Table{"one segment": whole, "a rope": rope} {
			r := h.Must(h.call("read"), state)
			if len(r.Done.Blocks) != 0 || r.Done.Encoded != 0 {
				t.Errorf("%s: wrote %v", name, r.Done)
			}
			if want := uint64(len(`{"name":"ada","n":7}`) + len("[1, 2,3]")); r.Done.Decoded != want {
				t.Errorf("%s: decoded %d bytes, want %d", name, r.Done.Decoded, want)
			}
			if got, want := h.World.Document(r.State), h.World.Document(state); got != want {
				t.Errorf("%s: passed on %s, want %s", name, got, want)
			}
		}
	}
}

func TestWrite(t *testing.T) {
	h := start(t, testhost.Options{Welcome: ipc.Welcome{DropKeys: []string{"configuration"}, RetainBytes: 64 << 20}})
	state := h.World.State(`{"a":1,"b":2,"c":3,"d":4,"_hidden":5}`)
	r := h.Must(h.call("write"), state.Without("_hidden"))
	const want = `{"a":1,"b":{"a":true,"x":[1,"<&>",null]},"d":4,"new":{"name":"bob","n":1},"raw":<raw:` + "\x00\xff" +
		`>,"nothing":<raw:>,"json": {"k": 1} ,"created":[1,2,3],"again":"y"}`
	if got := h.World.Document(r.State); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r.State.Rows[0].Spans[0] != state.Rows[0].Spans[0] {
		t.Error("an untouched key was not passed on as it was")
	}
	if len(r.Done.Blocks) != 6 {
		t.Errorf("published %d blocks: %v", len(r.Done.Blocks), r.Done.Blocks)
	}
	h.Release(r.Done.Blocks...)
	again := h.Must(h.call("write"), state)
	if got := h.World.Document(again.State); got != want {
		t.Errorf("the second time %s", got)
	}
	if again.Done.Blocks[0].Segment != r.Done.Blocks[0].Segment {
		t.Error("freed memory was not used again")
	}
}

func TestOwnBlocksAreReadBack(t *testing.T) {
	h := start(t, testhost.Options{})
	r := h.Must(h.call("write"), h.World.State(`{"a":1}`))
	next := h.Must(h.call("document"), ipc.Table{Kind: ipc.KindObject, Rows: r.State.Rows[:2]})
	if got, want := next.State.Rows[2], `{"a":1,"b":{"a":true,"x":[1,"<&>",null]}}`; h.World.Bytes(got) != want {
		t.Errorf("read back %s, want %s", h.World.Bytes(got), want)
	}
	// Another executor reads them too, when it gets the descriptor.
	other := startIn(h.World, testhost.Options{})
	next = other.Must(other.call("document"), r.State)
	if got := h.World.Bytes(next.State.Rows[len(next.State.Rows)-1]); !strings.Contains(got, `"raw":{"@encoding":"raw","base64":"AP8="}`) {
		t.Errorf("another read %s", got)
	}
}

func TestKinds(t *testing.T) {
	h := start(t, testhost.Options{})
	for _, c := range []struct {
		function, in, want string
	}{
		{"empty", `{}`, `{}`},
		{"empty", `[1,2]`, `[1,2]`},
		{"empty", `{"_a":1,"b":{"_c":2}}`, `{"b":{"_c":2}}`},
		{"clear", `{"a":1}`, `{}`},
		{"setvalue", `{"v":[1, 2]}`, `[1,2]`},
		{"setvalue", `{"v":null}`, `null`},
		{"setvalue", `{"v":{"x":1,"_y":2,"z":{}}}`, `{"x":1,"z":{}}`},
		{"setvalue", `{"v":{}}`, `{}`},
		{"bare", `[1, 2]`, `{"list":[1,2]}`},
		{"document", `{}`, `{"document":<raw:{}>}`},
		{"document", `{"a":[1, 2],"\n":"x"}`, `{"a":[1, 2],"\n":"x","document":<raw:{"a":[1, 2],"\n":"x"}>}`},
		{"document", `"bare"`, `{"document":<raw:"bare">}`},
	} {
		state := h.World.State(c.in)
		r := h.Must(h.call(c.function), state)
		if got := h.World.Document(r.State); got != c.want {
			t.Errorf("%s of %s: got %s, want %s", c.function, c.in, got, c.want)
		}
	}
	r := h.Must(h.call("empty"), ipc.Table{})
	if r.State.Kind != ipc.KindAbsent {
		t.Errorf("an absent state became %+v", r.State)
	}
	if r := h.Must(h.call("clear"), ipc.Table{}); r.State.Kind != ipc.KindObject {
		t.Errorf("an absent state that was set became %+v", r.State)
	}
}

func TestUnencodable(t *testing.T) {
	h := start(t, testhost.Options{})
	for which, want := range map[string]string{
		"nan":        `key "k": cannot be encoded as JSON: at items[1].x: NaN has no JSON form`,
		"chan":       `key "k": cannot be encoded as JSON: at deep[0]: a Go chan int has no JSON form`,
		"cycle":      `key "k": cannot be encoded as JSON: at c.Next: a *worker_test.loop that contains itself`,
		"list cycle": `key "k": cannot be encoded as JSON: at [0]: a []interface {} that contains itself`,
		"map key":    `key "k": cannot be encoded as JSON: the value itself: a map with keys of type [2]int`,
		"self":       `key "k": cannot be encoded as JSON: at [0]: the encoding method of worker_test.refuses failed: not today`,
		"json":       `key "k": invalid JSON at offset 7`,
		"empty json": `key "k": the JSON document is empty`,
		"key":        `a key must be valid UTF-8`,
		"encoding":   `key "k": shm: invalid encoding: 9`,
		"not closed": `key "k": its writer was never closed`,
		"type":       `key "which": json: cannot unmarshal string`,
		"raw":        `key "k": its encoding is raw, not json`,
	} {
		r := h.Run(h.call("bad"), h.World.State(fmt.Sprintf(`{"which":%q}`, which)))
		switch {
		case r.Fail == nil:
			t.Errorf("%s: succeeded", which)
		case r.Fail.Name != "JobError" || r.Fail.Severity != ipc.SeverityFail || !strings.Contains(r.Fail.Message, want):
			t.Errorf("%s: %s %s: %s\nwant %s", which, r.Fail.Severity, r.Fail.Name, r.Fail.Message, want)
		case !strings.Contains(r.Fail.Details, `"key":`):
			t.Errorf("%s: details %q name no key", which, r.Fail.Details)
		}
	}
	if r := h.Must(h.call("empty"), h.World.State(`{}`)); r.Fail != nil {
		t.Error("the executor is of no use afterwards")
	}
}
