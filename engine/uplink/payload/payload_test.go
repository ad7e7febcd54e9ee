package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/engine/uplink/phoenix"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

var _ interface {
	phoenix.Payload
	phoenix.Sizer
} = (*Message)(nil)

func newStore(t testing.TB) document.Store {
	t.Helper()
	l := ledger.New()
	s := document.Store{Ledger: l, Account: l.Open("run", 0)}
	t.Cleanup(func() {
		if err := s.Account.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func read(t testing.TB, s document.Store, doc string) ipc.Table {
	t.Helper()
	table, err := s.Read(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Account.Release(table) })
	return table
}

// forged is a state whose one key holds bytes that may be anything.
func forged(t testing.TB, s document.Store, value string) ipc.Table {
	t.Helper()
	row, err := s.Account.Write("k", shm.JSON, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}}
	t.Cleanup(func() { s.Account.Release(table) })
	return table
}

func write(t testing.TB, m *Message) string {
	t.Helper()
	var b strings.Builder
	if err := m.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if size, err := m.Size(); err != nil || size != int64(b.Len()) && m.Invalid() == nil {
		t.Errorf("size %d, %v; wrote %d", size, err, b.Len())
	}
	return b.String()
}

func TestMessage(t *testing.T) {
	s := newStore(t)
	state := read(t, s, `{"data":[1, "a\n\"b\"\\", {"é":"\u0041"}],"n":null}`)
	for name, c := range map[string]struct {
		message *Message
		want    string
	}{
		"empty":  {New(s.Ledger), `{}`},
		"fields": {New(s.Ledger).Field("a", 1).Raw("b", []byte(`[2]`)).Field("c\"", "x"), `{"a":1,"b":[2],"c\"":"x"}`},
		"inline": {New(s.Ledger).Field("id", "x").State("s", state, false).Field("z", 1),
			`{"id":"x","s":{"data":[1, "a\n\"b\"\\", {"é":"\u0041"}],"n":null},"z":1}`},
		"first": {New(s.Ledger).State("s", state, false), `{"s":{"data":[1, "a\n\"b\"\\", {"é":"\u0041"}],"n":null}}`},
		"string": {New(s.Ledger).State("s", state, true).Field("z", 1),
			`{"s":"{\"data\":[1, \"a\\n\\\"b\\\"\\\\\", {\"é\":\"\\u0041\"}],\"n\":null}","z":1}`},
		"members": {New(s.Ledger).Members([]byte(`{}`)).Members([]byte(`{"a":1, "b":2}`)).Members([]byte(`{"c":3}`)), `{"a":1, "b":2,"c":3}`},
		"states": {New(s.Ledger).States("s", []string{"x", "y\""}, []ipc.Table{{}, state}).States("none", nil, nil),
			`{"s":{"x":null,"y\"":{"data":[1, "a\n\"b\"\\", {"é":"\u0041"}],"n":null}},"none":{}}`},
		"absent": {New(s.Ledger).State("s", ipc.Table{}, true).State("t", ipc.Table{}, false), `{"s":"null","t":null}`},
	} {
		for range 2 { // it may be sent again
			if got := write(t, c.message); got != c.want {
				t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
			}
		}
	}
	if err := New(s.Ledger).Field("f", func() {}).WriteJSON(io.Discard); err == nil {
		t.Error("a function was encoded")
	}
}

// Other encodings are wrapped, and counted right.
func TestRawKeys(t *testing.T) {
	s := newStore(t)
	for n := range 5 {
		row, err := s.ReadValue("blob", shm.Raw, bytes.NewReader(bytes.Repeat([]byte{0xff}, n+1)))
		if err != nil {
			t.Fatal(err)
		}
		table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}}
		for _, asString := range []bool{true, false} {
			if got := write(t, New(s.Ledger).State("s", table, asString)); !json.Valid([]byte(got)) {
				t.Errorf("%s", got)
			}
		}
		s.Account.Release(table)
	}
}

// Whatever a step publishes, the message around it stays whole.
func TestForgedStates(t *testing.T) {
	s := newStore(t)
	big := strings.Repeat(`{"a":"b"},`, 100_000)
	for _, value := range []string{`1,"x":2`, `"}`, `[`, "\"\xff\"", `"a":1}`, "[" + big, "[" + big + "\x00" + big, "[" + big + "1]", `"` + strings.Repeat("\xf0\x90\x80\x80", 300_000)} {
		table := forged(t, s, value)
		for _, asString := range []bool{false, true} {
			m := New(s.Ledger).Field("id", "right").State("state", table, asString).Field("error", nil)
			valid := jsonscan.Validate([]byte(value)) == nil
			if err := m.WriteJSON(io.Discard); (err == nil) != valid {
				t.Errorf("%.20q without IfInvalid: %v", value, err)
			}
			m.IfInvalid(func(err error) []byte { return []byte(`"state":null,"error":"bad"`) })
			text := write(t, m)
			size, _ := m.Size()
			var got struct {
				ID    string
				State any
				Error *string
			}
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Errorf("%.20q: %v", value, err)
			}
			if got.ID != "right" || (got.Error == nil) != valid || (got.State == nil) == valid || (m.Invalid() == nil) != valid {
				t.Errorf("%.20q: %v %v, %v", value, got.ID, got.Error, m.Invalid())
			}
			if int64(len(text)) > size+m.Spare() {
				t.Errorf("%.20q: %d bytes, measured %d", value, len(text), size)
			}
		}
	}
}

func TestWriterErrors(t *testing.T) {
	s := newStore(t)
	m := New(s.Ledger).State("s", read(t, s, `["`+strings.Repeat("x", 1<<20)+`"]`), true).IfInvalid(func(error) []byte { return nil })
	full := errors.New("full")
	for _, room := range []int{0, 3, 1000, 600_000} {
		if err := m.WriteJSON(&limited{room, full}); !errors.Is(err, full) {
			t.Errorf("%d bytes of room: %v", room, err)
		}
	}
}

type limited struct {
	room int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.room -= len(p); l.room < 0 {
		return 0, l.err
	}
	return len(p), nil
}

// Memory does not grow with the state.
func TestAllocations(t *testing.T) {
	s := newStore(t)
	small := read(t, s, `{"data":["`+strings.Repeat("x", 1<<10)+`"]}`)
	large := read(t, s, `{"data":["`+strings.Repeat("x", 16<<20)+`"]}`)
	allocated := func(table ipc.Table) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m := New(s.Ledger).Field("id", 1).State("s", table, true)
		if _, err := m.Size(); err != nil {
			t.Fatal(err)
		}
		if err := m.WriteJSON(io.Discard); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	few, many := allocated(small), allocated(large)
	// The pool may be emptied meanwhile: that is one set of buffers.
	if many > few+1<<20 {
		t.Errorf("a message of 1 KiB allocates %d bytes, one of 16 MiB %d", few, many)
	}
}

// Escaped text is read back as it was, however it is cut, and its length is
// counted right.
func FuzzEscape(f *testing.F) {
	f.Add([]byte("plain"), 3)
	f.Add([]byte(`a "quoted" \ text that is longer than one word`), 9)
	f.Add([]byte("\x00\x01\x1f\b\f\n\r\t\x7fé\u2028"), 5)
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		text = []byte(strings.ToValidUTF8(string(text), "?"))
		if cut < 0 || cut > len(text) {
			cut = len(text) / 2
		}
		var out bytes.Buffer
		e := escaper{w: &out, buf: make([]byte, 2*longest)}
		e.Write(text[:cut])
		e.Write(text[cut:])
		e.flush()
		var got string
		if err := json.Unmarshal([]byte(`"`+out.String()+`"`), &got); err != nil || got != string(text) {
			t.Fatalf("%q became %q: %v", text, got, err)
		}
		var n escapeCounter
		n.Write(text[:cut])
		n.Write(text[cut:])
		if int(n) != out.Len() {
			t.Fatalf("counted %d, wrote %d", n, out.Len())
		}
	})
}

// FuzzForged sends any bytes as a state's value.
func FuzzForged(f *testing.F) {
	for _, seed := range []string{`1`, `[1,"x"]`, `{"a":`, `"`, "\"\xff", `1,2`, "\xef\xbb\xbf1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) == 0 {
			return
		}
		s := newStore(t)
		m := New(s.Ledger).State("a", forged(t, s, string(value)), true).State("b", forged(t, s, string(value)), false).
			IfInvalid(func(err error) []byte { return fmt.Appendf(nil, `"e":%q`, "bad") })
		var out bytes.Buffer
		if err := m.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		var got struct{ A string }
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || !json.Valid([]byte(got.A)) {
			t.Fatalf("%q: %v", out.Bytes(), err)
		}
	})
}
