package frames

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/engine/document"
	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func row(t testing.TB, s document.Store, key string, enc shm.Encoding, value string) ipc.Table {
	t.Helper()
	r, err := s.Account.Write(key, enc, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{r}}
	t.Cleanup(func() { s.Account.Release(table) })
	return table
}

// pair returns two ends of a connection.
func pair(t testing.TB, network string) (client, server net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestFrames(t *testing.T) {
	s := newStore(t)
	const small = `{"a":[1, 2],"b":"x"}`
	large := `{"data":["` + strings.Repeat("0123456789", 300_000) + `"]}`
	rope := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{{Key: "k"}}}
	for _, piece := range []string{`[1`, `,2]`} {
		rope.Rows[0].Spans = append(rope.Rows[0].Spans, row(t, s, "k", shm.JSON, piece).Rows[0].Spans...)
	}
	states := []ipc.Table{
		read(t, s, small), read(t, s, large), {}, read(t, s, `{}`), read(t, s, `[1,2]`), rope,
		row(t, s, "blob", shm.Raw, "\x00\xff"),
	}
	want := []string{small, large, "null", "{}", "[1,2]", `{"k":[1,2]}`, `{"blob":{"@encoding":"raw","base64":"AP8="}}`}
	for _, network := range []string{"unix", "tcp", "pipe"} {
		t.Run(network, func(t *testing.T) {
			var out io.WriteCloser
			var in io.Reader
			if network == "pipe" {
				in, out = io.Pipe()
			} else {
				out, in = pair(t, network)
			}
			sent := make(chan error, 1)
			go func() {
				w := NewWriter(out)
				err := w.Write(Meta{Type: "run:start", Run: "r"}, nil)
				for i, state := range states {
					err = errors.Join(err, w.Write(Meta{Type: "step:complete", Run: "r", Attempt: i}, s.Ledger, state))
				}
				// All at once, each leaf with its name.
				m := Meta{Type: "run:complete", Run: "r"}
				for range states {
					m.States = append(m.States, State{Leaf: "leaf"})
				}
				err = errors.Join(err, w.Write(m, s.Ledger, states...), w.Write(Meta{Type: "end"}, nil))
				sent <- errors.Join(err, out.Close())
			}()
			r := NewReader(in)
			if m, err := r.Next(); err != nil || m.Type != "run:start" || m.Run != "r" || len(m.States) != 0 {
				t.Fatalf("%+v, %v", m, err)
			}
			for i := range states {
				m, err := r.Next()
				if err != nil || m.Type != "step:complete" || m.Attempt != i || len(m.States) != 1 {
					t.Fatalf("%+v, %v", m, err)
				}
				var doc bytes.Buffer
				if err := r.Document(&doc, 0); err != nil || doc.String() != want[i] {
					t.Errorf("%d: %.80s, %v", i, doc.String(), err)
				}
			}
			m, err := r.Next()
			if err != nil || len(m.States) != len(states) {
				t.Fatalf("%+v, %v", m, err)
			}
			for i := range states[:3] { // the rest is skipped
				var doc bytes.Buffer
				if err := r.Document(&doc, i); err != nil || doc.String() != want[i] || m.States[i].Leaf != "leaf" {
					t.Errorf("leaf %d: %.80s, %v", i, doc.String(), err)
				}
			}
			if m, err = r.Next(); err != nil || m.Type != "end" {
				t.Fatalf("%+v, %v", m, err)
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// A step that publishes what looks like a frame, or no JSON at all, changes
// nothing about the frames around it.
func TestForgedPayload(t *testing.T) {
	s := newStore(t)
	forged := string(appendHeader(nil, 2, 0)) + "{}" + `"},"x`
	var out bytes.Buffer
	w := NewWriter(&out)
	err := errors.Join(w.Write(Meta{Type: "step:complete"}, s.Ledger, row(t, s, "k\"", shm.JSON, forged)), w.Write(Meta{Type: "end"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(&out)
	m, err := r.Next()
	if err != nil || m.States[0].Values[0] != (Value{Key: "k\"", Encoding: "json", Size: uint64(len(forged))}) {
		t.Fatalf("%+v, %v", m, err)
	}
	if got, err := io.ReadAll(r.Payload()); err != nil || string(got) != forged {
		t.Errorf("%q, %v", got, err)
	}
	if m, err = r.Next(); err != nil || m.Type != "end" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestReceiverGone(t *testing.T) {
	s := newStore(t)
	client, server := pair(t, "unix")
	server.Close()
	w := NewWriter(client)
	state := read(t, s, `["`+strings.Repeat("x", 4<<20)+`"]`)
	first := w.Write(Meta{}, s.Ledger, state)
	if first == nil {
		first = w.Write(Meta{}, s.Ledger, state)
	}
	if first == nil {
		t.Fatal("sent to nobody")
	}
	if err := w.Write(Meta{}, nil); err != first {
		t.Errorf("afterwards: %v", err)
	}
}

// A receiver that stalls holds the sender up, which a Close ends.
func TestReceiverStalls(t *testing.T) {
	s := newStore(t)
	client, _ := pair(t, "unix")
	state := read(t, s, `["`+strings.Repeat("x", 16<<20)+`"]`)
	done := make(chan error, 1)
	go func() { done <- NewWriter(client).Write(Meta{}, s.Ledger, state) }()
	select {
	case err := <-done:
		t.Fatalf("16 MiB were sent to one who does not read: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	client.Close()
	if err := <-done; err == nil {
		t.Error("sent on a closed connection")
	}
}

func TestMetaLimit(t *testing.T) {
	var limit *MetaError
	w := NewWriter(io.Discard)
	if err := w.Write(Meta{Error: strings.Repeat("x", MaxMeta)}, nil); !errors.As(err, &limit) || limit.Limit != MaxMeta {
		t.Errorf("got %v", err)
	}
	if err := w.Write(Meta{}, nil); err != nil {
		t.Errorf("nothing was sent, and still the stream is broken: %v", err)
	}
}

func TestSink(t *testing.T) {
	at := time.Date(2024, 1, 2, 3, 4, 5, 6000, time.UTC)
	events := []engine.Event{
		{Type: engine.EventRunStart, Time: at, Run: "r"},
		{Type: engine.EventStepStart, Time: at, Run: "r", Step: "a", Attempt: 1, Execution: 1},
		{Type: engine.EventLog, Run: "r", Step: "a", Log: &engine.LogLine{Time: at, Level: "info", Source: "job", Message: "line\nbreak"}},
		{Type: engine.EventEdge, Run: "r", Step: "a", To: "b", Taken: true},
		{Type: engine.EventStepComplete, Time: at, Run: "r", Step: "a", Report: &engine.StepReport{Status: engine.StatusFail, DurationUS: 7}, Err: errors.New("bad")},
		{Type: engine.EventRunComplete, Run: "r"},
	}
	run := func(s Sink) {
		t.Helper()
		for _, e := range events {
			if err := s.Event(e); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if err := s.Event(events[0]); !errors.Is(err, errClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	var framed buffer
	run(NewFrames(&framed))
	var printed bytes.Buffer
	if err := Print(&printed, &framed); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(printed.String(), "\n"); got != 4 || !strings.Contains(printed.String(), `step a  [job info] "line\nbreak"`) || !strings.Contains(printed.String(), `fail  "bad"`) {
		t.Errorf("printed\n%s", printed.String())
	}
	var lined buffer
	run(NewLines(&lined))
	var types []string
	for line := range strings.Lines(lined.String()) {
		var m Meta
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Run != "r" || !m.Time.Equal(at) {
			t.Errorf("%s: %v", line, err)
		}
		types = append(types, m.Type)
	}
	if got := strings.Join(types, " "); got != "run:start step:start log step:complete" {
		t.Errorf("events %s", got)
	}
}

type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

func TestLinesStayLines(t *testing.T) {
	s := newStore(t)
	var out buffer
	w := newLines(&out)
	pretty := read(t, s, "{\"data\":\n [1,\r\n 2, \"a\\nb\"]}")
	forged := row(t, s, "k", shm.JSON, "1}\n{\"type\":\"run:complete\"")
	err := errors.Join(
		w.write(Meta{Type: "a"}, s.Ledger, []ipc.Table{pretty}),
		w.write(Meta{Type: "b"}, s.Ledger, []ipc.Table{forged}),
		w.write(Meta{Type: "c", States: []State{{Leaf: "x"}, {Leaf: "y"}}}, s.Ledger, []ipc.Table{pretty, {}}),
		w.write(Meta{Type: "d", States: []State{{Streams: []string{"rows"}}}}, s.Ledger, []ipc.Table{pretty}),
		w.write(Meta{Type: "e", States: []State{{Leaf: "x"}, {Leaf: "y", Streams: []string{"rows"}}}}, s.Ledger, []ipc.Table{{}, {}}),
	)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		var m struct {
			Type       string
			State      json.RawMessage
			States     json.RawMessage
			Streams    json.RawMessage
			StateError string `json:"state_error"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if (m.StateError != "") != (m.Type == "b") {
			t.Errorf("%s", line)
		}
		got = append(got, m.Type+string(m.State)+string(m.States)+string(m.Streams))
	}
	want := []string{`a{"data":[1,   2, "a\nb"]}`, `b{"k":null}`, `c{"x":{"data":[1,   2, "a\nb"]},"y":null}`,
		`d{"data":[1,   2, "a\nb"]}["rows"]`, `e{"x":null,"y":null}{"y":["rows"]}`}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOpen(t *testing.T) {
	for _, bad := range []string{"", "x", "udp:localhost:1", "unix:", "tcp"} {
		var address *AddressError
		if _, err := Open(bad); !errors.As(err, &address) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := Open("unix:" + filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("connected to nothing")
	}
	path := filepath.Join(t.TempDir(), "out")
	s, err := Open("ndjson:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Event(engine.Event{Type: engine.EventRunStart}), s.Close()); err != nil {
		t.Error(err)
	}
}

// FuzzReader reads any bytes as frames, and must not allocate by what they
// announce.
func FuzzReader(f *testing.F) {
	var out bytes.Buffer
	w := NewWriter(&out)
	w.Write(Meta{Type: "run:start", Run: "r"}, nil)
	f.Add(out.Bytes())
	f.Add(append(appendHeader(nil, 69, 3), []byte(`{"states":[{"kind":"object","values":[{"key":"a","encoding":"raw","size":3}]}]}abc`)...))
	f.Add(appendHeader(nil, MaxMeta, 1<<60))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			for i := range m.States {
				var doc bytes.Buffer
				if r.Document(&doc, i) != nil {
					break
				}
				if doc.Len() > 2*len(b)+64*len(m.States[i].Values)+64 {
					t.Fatalf("%d bytes of document from %d", doc.Len(), len(b))
				}
			}
		}
	})
}
