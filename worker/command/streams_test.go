package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
	"github.com/millrace/millrace/worker/internal/testhost"
)

var settings = testhost.StreamSettings{Capacity: 1 << 16, MaxDemand: 10, MinDemand: 5}

func startStreams(t testing.TB) *harness {
	return &harness{Executor: testhost.NewWorld(t).Start("command", testhost.Options{Streams: &settings}), t: t}
}

// reading is a command whose input is a stream of the test's.
func reading(h *harness, argv ...string) (spec, *testhost.Stream) {
	return spec{Argv: argv, Stdin: object{"stream": "rows"}}, h.World.NewStream("rows", shm.JSON, settings)
}

// put writes items until the end or the reader's, and reports how many.
func put(w *testhost.StreamWriter, items ...string) int {
	for i, item := range items {
		if _, ok := w.Put(item); !ok {
			return i
		}
	}
	w.End(ipc.StreamEnd{})
	return len(items)
}

// all reads the items of a stream, and how it ended.
func all(r *testhost.StreamReader) (items []string, end ipc.StreamEnd) {
	for {
		item, end, ok := r.Take()
		if !ok {
			return items, end
		}
		items = append(items, item)
	}
}

func TestItemsAreLines(t *testing.T) {
	h := startStreams(t)
	s, st := reading(h, "jq", "-c", "-s", ".")
	step := h.Begin(h.code(s), st.State)
	var items, want []string
	for i := range 2000 {
		items, want = append(items, fmt.Sprintf("{\"i\":\n%d}\r\n", i)), append(want, fmt.Sprintf(`{"i":%d}`, i))
	}
	put(st.Writer(), items...)
	r := h.End(step)
	if r.Fail != nil {
		t.Fatalf("%+v", r.Fail)
	}
	if got := h.World.Document(r.State); got != "["+strings.Join(want, ",")+"]" {
		t.Errorf("%.200s", got)
	}
}

func TestLinesAreItems(t *testing.T) {
	h := startStreams(t)
	s := spec{Argv: []string{"jq", "-c", ".rows[]"}, Stdout: object{"stream": "rows"}}
	rows := make([]int, 3000)
	for i := range rows {
		rows[i] = i
	}
	doc, err := json.Marshal(object{"rows": rows, "n": 1})
	if err != nil {
		t.Fatal(err)
	}
	step := h.Begin(h.code(s), h.World.State(string(doc)))
	st := h.Streamed()
	if got := h.World.Document(st.State); got != `{"n":1,"rows":"[stream]"}` {
		t.Errorf("%.200s", got)
	}
	items, end := all(st.Reader())
	if r := h.End(step); r.Fail != nil || end.Name != "" || len(items) != 3000 || items[2999] != "2999" {
		t.Errorf("%d items, %+v, %+v", len(items), end, r.Fail)
	}
}

// What comes in as a stream goes out as one, and neither is ever whole.
func TestACommandBetweenStreams(t *testing.T) {
	h := startStreams(t)
	s, in := reading(h, "jq", "-c", "--unbuffered", "select(. % 2 == 0) | {even: .}")
	s.Stdout = object{"stream": "even"}
	step := h.Begin(h.code(s), in.State.With(ipc.Row{Key: "n", Spans: h.World.State(`{"n":1}`).Rows[0].Spans}))
	w := in.Writer()
	w.Put("1")
	w.Put("2")
	out := h.Streamed()
	if got := h.World.Document(out.State); got != `{"n":1,"even":"[stream]"}` {
		t.Error(got)
	}
	r := out.Reader()
	if item, end, ok := r.Take(); !ok || item != `{"even":2}` { // while the input goes on
		t.Errorf("%q %+v", item, end)
	}
	w.Put("4")
	w.End(ipc.StreamEnd{})
	if items, end := all(r); len(items) != 1 || items[0] != `{"even":4}` || end.Name != "" {
		t.Errorf("%q %+v", items, end)
	}
	if f := h.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

func TestRawLines(t *testing.T) {
	h := startStreams(t)
	s := shell(`printf 'a\n\n\377b\r\nlast'`)
	s.Stdout = object{"stream": "lines", "encoding": "raw"}
	step := h.Begin(h.code(s), h.World.State(`{}`))
	items, _ := all(h.Streamed().Reader())
	if got, want := fmt.Sprintf("%q", items), `["a" "" "\xffb\r" "last"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if f := h.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
	s = shell(`printf '1\n\n [2] \r\n"last"'`)
	s.Stdout = object{"stream": "lines"}
	step = h.Begin(h.code(s), h.World.State(`{}`))
	items, _ = all(h.Streamed().Reader())
	if got, want := fmt.Sprintf("%q", items), `["1" "[2]" "\"last\""]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if f := h.End(step).Fail; f != nil {
		t.Errorf("%+v", f)
	}
}

// A command that reads no more ends well, whether it exits or only closes its
// input, and also when nothing comes any more.
func TestACommandThatWantsNoMore(t *testing.T) {
	h := startStreams(t)
	for name, s := range map[string]spec{
		"exits":             {Argv: []string{"head", "-n", "1"}},
		"closes its input":  shell(`read -r line; exec <&-; sleep 0.1; echo "$line"`),
		"reads none of it":  shell(`echo '{"i":0}'`),
		"exits, being idle": shell(`read -r line; echo "$line"`),
	} {
		t.Run(name, func(t *testing.T) {
			st := h.World.NewStream("rows", shm.JSON, settings)
			s.Stdin, s.Stdout = object{"stream": "rows"}, object{"key": "first"}
			step := h.Begin(h.code(s), st.State)
			w := st.Writer()
			if strings.HasSuffix(name, "idle") {
				w.Put(`{"i":0}`)
			} else {
				for i := 0; ; i++ {
					if _, ok := w.Put(fmt.Sprintf(`{"i":%d}`, i)); !ok {
						break
					}
				}
			}
			r := h.End(step)
			if r.Fail != nil {
				t.Fatalf("%+v", r.Fail)
			}
			if got := h.World.Document(r.State); got != `{"first":{"i":0}}` {
				t.Error(got)
			}
		})
	}
}

// Nobody wants the output of a command any more: it is ended, however it takes
// that.
func TestACommandThatNobodyReads(t *testing.T) {
	h := startStreams(t)
	for name, script := range map[string]string{
		"writes on":       `while :; do echo 1; done`,
		"ignores SIGPIPE": `trap '' PIPE; while :; do echo 1 || exit 5; done`,
		"writes nothing":  `echo 1; sleep 600`,
	} {
		t.Run(name, func(t *testing.T) {
			s := shell(script)
			s.Stdout = object{"stream": "ones"}
			step := h.Begin(h.code(s), h.World.State(`{}`))
			r := h.Streamed().Reader()
			r.Take()
			r.End(ipc.StreamEnd{})
			if f := h.End(step).Fail; f != nil {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestStreamsOfCommandsThatFail(t *testing.T) {
	h := startStreams(t)
	for name, c := range map[string]struct {
		script, want string
		message      string
	}{
		"the command":      {`echo 1; echo no more >&2; exit 3`, "CommandError", "sh exited with code 3: no more"},
		"a line":           {`echo 1; echo '{"a":'; sleep 600`, "CommandError", "sh wrote a line that is not JSON, line 2, near"},
		"a line too large": {`head -c 40000 /dev/zero | tr '\0' 1; echo; sleep 600`, "StreamItemTooLargeError", "has 40000 bytes"},
		"an endless line":  {`tr '\0' 1 </dev/zero`, "StreamItemTooLargeError", "bytes, and at most 32760 fit"},
	} {
		t.Run(name, func(t *testing.T) {
			s := shell(c.script)
			s.Stdout = object{"stream": "rows"}
			step := h.Begin(h.code(s), h.World.State(`{}`))
			_, end := all(h.Streamed().Reader())
			f := h.End(step).Fail
			if f == nil || f.Name != c.want || !strings.Contains(f.Message, c.message) || end.Name != c.want {
				t.Errorf("%+v, and the reader was told %+v", f, end)
			}
		})
	}
}

// A command must not take a broken input for all of it: it is ended before it
// sees an end.
func TestTheOtherStepFails(t *testing.T) {
	h := startStreams(t)
	mark := filepath.Join(t.TempDir(), "mark")
	s, st := reading(h, "sh", "-c", `cat >/dev/null && touch "$0"`, mark)
	step := h.Begin(h.code(s), st.State)
	w := st.Writer()
	w.Put("1")
	w.End(ipc.StreamEnd{Severity: ipc.SeverityFail, Name: "Broken", Message: "there"})
	if f := h.End(step).Fail; f == nil || f.Name != "Broken" || !strings.Contains(f.Message, "there") {
		t.Errorf("%+v", f)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the command saw an end of its input")
	}

	s = shell(`while :; do echo 1; done`)
	s.Stdout = object{"stream": "ones"}
	step = h.Begin(h.code(s), h.World.State(`{}`))
	r := h.Streamed().Reader()
	r.Take()
	r.End(ipc.StreamEnd{Severity: ipc.SeverityKill, Name: "OOMError", Message: "there"})
	if f := h.End(step).Fail; f == nil || f.Name != "OOMError" || f.Severity != ipc.SeverityKill {
		t.Errorf("%+v", f)
	}
}

func TestStreamsThatCannotBe(t *testing.T) {
	h := startStreams(t)
	arrow := h.World.NewStream("rows", shm.ArrowStream, settings)
	for name, c := range map[string]struct {
		spec  spec
		state ipc.Table
		want  string
	}{
		"no stream":        {spec{Argv: []string{"cat"}, Stdin: object{"stream": "n"}}, h.World.State(`{"n":1}`), "it is no stream"},
		"no key":           {spec{Argv: []string{"cat"}, Stdin: object{"stream": "none"}}, h.World.State(`{"n":1}`), "no such key"},
		"arrow items":      {spec{Argv: []string{"cat"}, Stdin: object{"stream": "rows"}}, arrow.State, "a command reads lines"},
		"arrow lines":      {spec{Argv: []string{"cat"}, Stdout: object{"stream": "k", "encoding": "arrow"}}, h.World.State(`{}`), "json or raw"},
		"a key too":        {spec{Argv: []string{"cat"}, Stdin: object{"stream": "k", "key": "k"}}, h.World.State(`{}`), "neither"},
		"a private key":    {spec{Argv: []string{"cat"}, Stdout: object{"stream": "_k"}}, h.World.State(`{}`), "would be dropped"},
		"no such program":  {spec{Argv: []string{"./none"}, Stdout: object{"stream": "k"}}, h.World.State(`{}`), "none"},
		"as the document":  {spec{Argv: []string{"jq", "-c", `if .rows == "[stream]" then error("shown as \(.rows)") else . end`}}, arrow.State, "shown as [stream]"},
		"as a value alone": {spec{Argv: []string{"cat"}, Stdin: object{"key": "rows"}}, arrow.State, "it is a stream"},
	} {
		t.Run(name, func(t *testing.T) {
			if f := h.failure(c.spec, c.state); !strings.Contains(f.Message, c.want) {
				t.Errorf("%+v", f)
			}
		})
	}
}
