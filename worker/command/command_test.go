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

func TestStateThroughCommands(t *testing.T) {
	h := start(t)
	state := h.World.State(` { "n" : 1, "list": [1, 2] } `)
	for _, c := range []struct {
		name, want string
		spec       spec
	}{
		{"cat", `{"n":1,"list":[1, 2]}`, spec{Argv: []string{"cat"}}},
		{"jq", `{"n":2}`, spec{Argv: []string{"jq", "-c", "{n: (.n + 1)}"}}},
		{"a bare value", `[1,2]`, spec{Argv: []string{"jq", "-c", ".list"}}},
		{"an empty object", `{}`, shell(`echo '{}'`)},
		{"private keys", `{"b":2}`, shell(`echo '{"_a": 1, "b": 2, "_c": 3}'`)},
		{"a key twice", `{"a":3,"b":2}`, shell(`echo '{"a": 1, "b": 2, "a": 3}'`)},
		{"ignored", `{"n":1,"list":[1, 2]}`, spec{Argv: []string{"echo", "no JSON"}, Stdout: "ignore"}},
		{"one key out", `{"n":1,"list":[1, 2],"sum":{"a": 3}}`, spec{Argv: []string{"echo", ` {"a": 3} `}, Stdout: object{"key": "sum"}}},
		{"one key over", `{"n":5,"list":[1, 2]}`, spec{Argv: []string{"echo", "5"}, Stdout: object{"key": "n", "encoding": "json"}}},
		{"raw", `{"n":1,"list":[1, 2],"r":<raw:x` + "\n" + `>}`, spec{Argv: []string{"echo", "x"}, Stdout: object{"key": "r", "encoding": "raw"}}},
		{"raw of nothing", `{"n":1,"list":[1, 2],"r":<raw:>}`, spec{Argv: []string{"true"}, Stdout: object{"key": "r", "encoding": "raw"}}},
		{"one key in", `[1,2]`, spec{Argv: []string{"jq", "-c", "."}, Stdin: object{"key": "list"}}},
		{"nothing in", `0`, spec{Argv: []string{"sh", "-c", "wc -c | tr -d ' \n'"}, Stdin: "none"}},
		{"environment", `"a b run-1 step-1"`, spec{Argv: []string{"sh", "-c", `echo "\"$X $Y $MILLRACE_RUN_ID $MILLRACE_STEP_ID\""`}, Env: map[string]string{"X": "a", "Y": "b"}}},
		{"directory", `"/"`, spec{Argv: []string{"sh", "-c", `echo "\"$(pwd)\""`}, Cwd: "/"}},
		{"unread input", `1`, spec{Argv: []string{"echo", "1"}}},
		{"several writers", `[1,2,3]`, shell(`printf '['; printf '1,2' >> /dev/stdout; printf ',3]'`)},
	} {
		if got := h.document(c.spec, state); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestInputIsTheFileWhereItCanBe(t *testing.T) {
	w := testhost.NewWorld(t)
	h := startIn(t, w)
	read := func(s spec, state ipc.Table) (kind, text string) {
		t.Helper()
		var got struct{ Kind, Text string }
		if err := json.Unmarshal([]byte(h.document(s, state)), &got); err != nil {
			t.Fatal(err)
		}
		return got.Kind, got.Text
	}
	const doc = "{ \"a\" :\t1,\n\"\\u0062\\\"\": [2] ,\"c\":{}}\n"
	whole := w.State(doc)
	large := w.State(`{"big":"` + strings.Repeat("x", 3<<20) + `","rest":1}`)
	written := h.Must(h.code(spec{Argv: []string{"cat"}}), large).State // the memfd a command wrote
	other := startIn(t, w)
	foreign := other.Must(other.code(spec{Argv: []string{"cat"}}), large).State
	value := w.State(" [1, 2] \n")
	for _, c := range []struct {
		name       string
		state      ipc.Table
		stdin      any
		kind, text string
	}{
		{"the run's own document", whole, nil, "memfd", doc},
		{"what this one wrote", written, nil, "memfd", ""},
		{"what another wrote", foreign, nil, "memfd", ""},
		{"a bare value", value, nil, "memfd", " [1, 2] \n"},
		{"a key less", whole.Without("a"), nil, "pipe", `{"b\"":[2],"c":{}}`},
		{"the last key less", whole.Without("c"), nil, "pipe", `{"a":1,"b\"":[2]}`},
		{"a key in the middle less", whole.Without(`b"`), nil, "pipe", `{"a":1,"c":{}}`},
		{"a key more", whole.With(w.Row("d", shm.JSON, "4")), nil, "pipe", `{"a":1,"b\"":[2],"c":{},"d":4}`},
		{"another value", whole.With(w.Row("c", shm.JSON, "4")), nil, "pipe", `{"a":1,"b\"":[2],"c":4}`},
		{"another order", ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{whole.Rows[1], whole.Rows[0], whole.Rows[2]}}, nil, "pipe", `{"b\"":[2],"a":1,"c":{}}`},
		{"another name", ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{{Key: "z", Spans: whole.Rows[0].Spans}, whole.Rows[1], whole.Rows[2]}}, nil, "pipe", `{"z":1,"b\"":[2],"c":{}}`},
		{"a key twice", w.State(`{"a":1,"b":2,"a":3}`), nil, "pipe", `{"a":3,"b":2}`},
		{"a rope", whole.With(w.Row("c", shm.JSON, "[", "4", "]")), nil, "pipe", `{"a":1,"b\"":[2],"c":[4]}`},
		{"no keys", w.State(`{}`), nil, "pipe", `{}`},
		{"absent", ipc.Table{}, nil, "pipe", `{}`},
		{"raw", whole.With(w.Row("c", shm.Raw, "\x00")), nil, "pipe", `{"a":1,"b\"":[2],"c":{"@encoding":"raw","base64":"AA=="}}`},
		{"a key in the middle of a segment", whole, object{"key": "a"}, "pipe", "1"},
		{"a key which is a segment", whole.With(w.Row("k", shm.Raw, "bytes")), object{"key": "k"}, "memfd", "bytes"},
		{"a key which is a rope", whole.With(w.Row("k", shm.Raw, "by", "tes")), object{"key": "k"}, "pipe", "bytes"},
		{"none", whole, "none", "null", ""},
	} {
		s := self("stdin")
		s.Stdin = c.stdin
		kind, text := read(s, c.state)
		if c.text == "" && c.stdin == nil {
			c.text = w.Document(large)
		}
		if kind != c.kind || text != c.text {
			t.Errorf("%s: %s with %.80q, want %s with %.80q", c.name, kind, text, c.kind, c.text)
		}
	}
}

func TestOutputIsNotCopied(t *testing.T) {
	h := start(t)
	r := h.Must(h.code(shell(`printf '{"a":"'; head -c 3000000 /dev/zero | tr '\0' x; printf '","b":1}'`)), ipc.Table{})
	if len(r.Done.Blocks) != 1 || r.Done.Blocks[0].Length != 3_000_014 || r.Done.Blocks[0].Offset != 0 {
		t.Fatalf("blocks %+v", r.Done.Blocks)
	}
	if a := r.State.Rows[0].Spans[0]; a.Segment != r.Done.Blocks[0].Segment || a.Offset != 5 || a.Length != 3_000_002 {
		t.Errorf("the first row is %v", a)
	}
	if r.Done.Decoded != 0 || r.Done.Encoded != 0 {
		t.Errorf("decoded %d, encoded %d", r.Done.Decoded, r.Done.Encoded)
	}
	h.Release(r.Done.Blocks...)
	h.Sync()
	small := h.Must(h.code(shell(`echo '{"a":1}'`)), ipc.Table{})
	if small.Done.Blocks[0].Length > 100 {
		t.Errorf("a small output has the block %+v", small.Done.Blocks[0])
	}
}

func TestLargePipe(t *testing.T) {
	h := start(t)
	var rows []ipc.Row
	pieces := make([]string, 600) // more than one writev takes
	for i := range pieces {
		pieces[i] = fmt.Sprintf("%d,", i)
	}
	rope := h.World.Row("rope", shm.JSON, append(append([]string{"["}, pieces...), "0]")...)
	rows = append(rows, rope, h.World.Row("big", shm.JSON, `"`+strings.Repeat("é", 4<<20)+`"`))
	state := ipc.Table{Kind: ipc.KindObject, Rows: rows}
	if got, want := h.document(spec{Argv: []string{"cat"}}, state), h.World.Document(state); got != want {
		t.Errorf("%d bytes came out, %d went in", len(got), len(want))
	}
	// A command that reads only some of it ends well.
	if got := h.document(shell(`head -c 5 >/dev/null; echo 1`), state); got != "1" {
		t.Errorf("got %s", got)
	}
}

func TestStateFD(t *testing.T) {
	h := start(t)
	s := self("state_fd")
	s.StateFD = true
	const doc = `{"a":1}`
	for name, state := range map[string]ipc.Table{
		"as it is":  h.World.State(doc),
		"assembled": {Kind: ipc.KindObject, Rows: []ipc.Row{h.World.Row("a", shm.JSON, "1")}},
	} {
		if got, want := h.document(s, state), `{"text":"{\"a\":1}","stdin":"","sealed":true}`; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestArrow(t *testing.T) {
	h := start(t)
	out := object{"key": "table", "encoding": "arrow"}
	s := shell(`printf '\377\377\377\377\010\000\000\000\001\002\003\004\005\006\007\010'`)
	s.Stdout = out
	r := h.Must(h.code(s), h.World.State(`{"a":1}`))
	if row := r.State.Rows[1]; row.Encoding() != shm.ArrowStream || row.Size() != 16 {
		t.Errorf("%+v", row)
	}
	for script, want := range map[string]string{
		`echo not arrow at all`:                         "not an Arrow stream: it begins with",
		`printf 'ARROW1\0\0rest'`:                       "wrote an Arrow file",
		`printf '\377\377\377\377\010\020\000\000rest'`: "not an Arrow stream",
		`true`: "wrote nothing to stdout",
	} {
		s := shell(script)
		s.Stdout = out
		if f := h.failure(s, h.World.State(`{}`)); !strings.Contains(f.Message, want) {
			t.Errorf("%s: %s", script, f.Message)
		}
	}
}

func TestProcess(t *testing.T) {
	h := start(t)
	// The fourth is the directory that ls reads.
	list := spec{Argv: []string{"ls", "/proc/self/fd"}, Stdout: object{"key": "fds", "encoding": "raw"}}
	if got, want := h.document(list, h.World.State(`{}`)), "{\"fds\":<raw:0\n1\n2\n3\n>}"; got != want {
		t.Errorf("the command's descriptors: %s, want %s", got, want)
	}
	var got struct {
		Group, Parent int
		Control       string
	}
	if err := json.Unmarshal([]byte(h.document(self("group"), ipc.Table{})), &got); err != nil {
		t.Fatal(err)
	}
	if got.Parent != h.Cmd.Process.Pid || got.Control != "" {
		t.Errorf("%+v, the executor is %d", got, h.Cmd.Process.Pid)
	}
}

func TestSpecErrors(t *testing.T) {
	h := start(t)
	for text, want := range map[string]string{
		`{}`:                                 "names no program",
		`{"argv":[""]}`:                      "names no program",
		`{"argv":["a"],"stdin":"stat"}`:      `"stat" is neither`,
		`{"argv":["a"],"stdin":{"kye":"x"}}`: `unknown field "kye"`,
		`{"argv":["a"],"stdout":{}}`:         "neither",
		`{"argv":["a"],"stdout":{"key":"x","encoding":"xml"}}`: `unknown encoding "xml"`,
		`{"argv":["a"],"sdout":"state"}`:                       `unknown field "sdout"`,
		`{"argv":["a\u0000"]}`:                                 "NUL",
		`{"argv":["a"],"env":{"A=B":"c"}}`:                     `"A=B" cannot be set`,
	} {
		h.last++
		h.Prepare(h.last, "command", text)
		if f := h.Run(ipc.Execute{Code: h.last}, ipc.Table{}).Fail; f == nil || f.Severity != ipc.SeverityCrash || !strings.Contains(f.Message, want) {
			t.Errorf("%s: %+v", text, f)
		}
	}
	h.Prepare(1000, "function", `{}`)
	if f := h.Run(ipc.Execute{Code: 1000}, ipc.Table{}).Fail; f == nil || !strings.Contains(f.Message, `not a step of kind "function"`) {
		t.Errorf("%+v", f)
	}
	if got := h.document(spec{Argv: []string{"echo", "1"}, Stdin: nil}, ipc.Table{}); got != "1" {
		t.Errorf("got %s", got)
	}
}

func TestProgramsThatCannotBeStarted(t *testing.T) {
	h := start(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", "echo", 0o644)
	noLine := write("noline", "echo 1\n", 0o755)
	noInterpreter := write("nointerpreter", "#!/no/such/interpreter\n", 0o755)
	for _, c := range []struct {
		spec spec
		want string
	}{
		{spec{Argv: []string{"no-such-command"}}, `command "no-such-command" was not found in PATH (` + os.Getenv("PATH") + ")"},
		{spec{Argv: []string{"jq"}, Env: map[string]string{"PATH": "/nowhere"}}, "PATH (/nowhere)"},
		{spec{Argv: []string{dir + "/none"}}, "there is no file " + dir + "/none"},
		{spec{Argv: []string{"./none"}, Cwd: dir}, "there is no file " + dir + "/none"},
		{spec{Argv: []string{dir + "/"}}, "is a directory"},
		{spec{Argv: []string{plain}}, "is not executable: use chmod +x " + plain},
		{spec{Argv: []string{"plain"}, Env: map[string]string{"PATH": dir}}, "is not executable: use chmod +x " + plain},
		{spec{Argv: []string{noLine}}, "a script needs a first line such as #!/bin/sh"},
		{spec{Argv: []string{noInterpreter}}, "interpreter"},
		{spec{Argv: []string{"true"}, Cwd: dir + "/gone"}, "working directory"},
	} {
		f := h.failure(c.spec, ipc.Table{})
		if f.Name != "CommandError" || f.Severity != ipc.SeverityCrash || !strings.Contains(f.Message, c.want) {
			t.Errorf("%v: %s %s\nwant %s", c.spec.Argv, f.Severity, f.Message, c.want)
		}
	}
	script := write("script", "#!/bin/sh\necho 1\n", 0o755)
	for _, s := range []spec{{Argv: []string{script}}, {Argv: []string{"./script"}, Cwd: dir}, {Argv: []string{"script"}, Env: map[string]string{"PATH": dir + ":/bin"}}} {
		if got := h.document(s, ipc.Table{}); got != "1" {
			t.Errorf("%v: %s", s, got)
		}
	}
}
