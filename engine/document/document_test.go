package document

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine/ledger"
	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/ipc/jsonscan"
	"github.com/millrace/millrace/shm"
)

func newStore(t testing.TB, limit uint64) Store {
	t.Helper()
	l := ledger.New()
	s := Store{Ledger: l, Account: l.Open("run", limit)}
	t.Cleanup(func() {
		if now, _, _ := s.Account.Bytes(); now != 0 {
			t.Errorf("%d bytes held at the end", now)
		}
		if err := s.Account.Close(); err != nil {
			t.Error(err)
		}
		if l.Segments() != 0 {
			t.Errorf("%d segments left", l.Segments())
		}
	})
	return s
}

func write(t testing.TB, s Store, table ipc.Table) (string, error) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(s.Ledger, &out)
	err := w.Table(table)
	if ferr := w.Flush(); ferr != nil {
		t.Fatal(ferr)
	}
	if err == nil && w.Written() != int64(out.Len()) {
		t.Errorf("says %d bytes, wrote %d", w.Written(), out.Len())
	}
	if size, serr := Size(s.Ledger, table); err == nil && (serr != nil || size != w.Written()) {
		t.Errorf("measured %d bytes, %v; wrote %d", size, serr, w.Written())
	}
	return out.String(), err
}

func TestRoundTrip(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, c := range []struct {
		in, out string
		kind    ipc.Kind
		keys    string
	}{
		{`{}`, `{}`, ipc.KindObject, ""},
		{" {\n \"a\" : [1, 2] , \"b\":\"x\" } \n", `{"a":[1, 2],"b":"x"}`, ipc.KindObject, "a b"},
		{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`, ipc.KindObject, "a b"},
		{`{"a\u0062":"\ud83d\ude00","":0}`, `{"ab":"\ud83d\ude00","":0}`, ipc.KindObject, "ab "},
		{`{"deep":` + deep + `}`, `{"deep":` + deep + `}`, ipc.KindObject, "deep"},
		{` [1,2] `, `[1,2]`, ipc.KindValue, ""},
		{`null`, `null`, ipc.KindValue, ""},
		{`-1.5e+3`, `-1.5e+3`, ipc.KindValue, ""},
		{`"s"`, `"s"`, ipc.KindValue, ""},
	} {
		s := newStore(t, 0)
		table, err := s.Read(strings.NewReader(c.in))
		if err != nil {
			t.Errorf("%.40s: %v", c.in, err)
			continue
		}
		var keys []string
		for _, r := range table.Rows {
			keys = append(keys, r.Key)
		}
		if table.Kind != c.kind || strings.Join(keys, " ") != c.keys {
			t.Errorf("%.40s: kind %d, keys %q", c.in, table.Kind, keys)
		}
		if got, err := write(t, s, table); err != nil || got != c.out {
			t.Errorf("%.40s: wrote %.60s, %v", c.in, got, err)
		}
		s.Account.Release(table)
	}
}

func TestBadDocuments(t *testing.T) {
	for in, want := range map[string]any{
		"":                       jsonscan.ErrEmpty,
		"  \n":                   jsonscan.ErrEmpty,
		"\ufeff{}":               jsonscan.ErrBOM,
		"{":                      &jsonscan.SyntaxError{},
		`{"a":1}{"b":2}`:         &jsonscan.SyntaxError{},
		`{"a":01}`:               &jsonscan.SyntaxError{},
		"{\"a\":\"\xff\"}":       &jsonscan.SyntaxError{},
		strings.Repeat("[", 1e5): &jsonscan.DepthError{},
	} {
		s := newStore(t, 0)
		_, err := s.Read(strings.NewReader(in))
		if sentinel, ok := want.(error); ok && errors.Is(err, sentinel) {
			continue
		}
		if target := reflect.New(reflect.TypeOf(want)); err == nil || !errors.As(err, target.Interface()) {
			t.Errorf("%.20q: %v, want %T", in, err, want)
		}
	}
}

func TestBudget(t *testing.T) {
	s := newStore(t, 8)
	_, err := s.Read(strings.NewReader(`{"a":"too long"}`))
	var limit *shm.LimitError
	if !errors.As(err, &limit) || limit.Limit != 8 {
		t.Errorf("got %v", err)
	}
}

func TestKeysOfOtherEncodings(t *testing.T) {
	s := newStore(t, 0)
	blob := bytes.Repeat([]byte{0, 1, 2, 255}, 100_000)
	row, err := s.ReadValue("blob", shm.Raw, bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}}
	defer s.Account.Release(table)
	text, err := write(t, s, table)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]struct {
		Encoding string `json:"@encoding"`
		Base64   string `json:"base64"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if b, err := base64.StdEncoding.DecodeString(got["blob"].Base64); err != nil || got["blob"].Encoding != "raw" || !bytes.Equal(b, blob) {
		t.Errorf("%s, %v", got["blob"].Encoding, err)
	}
	var out bytes.Buffer
	w := NewWriter(s.Ledger, &out)
	if err := errors.Join(w.Bytes(row), w.Flush()); err != nil || !bytes.Equal(out.Bytes(), blob) {
		t.Errorf("as it is: %v", err)
	}
}

func TestInvalidKeyOfAFile(t *testing.T) {
	s := newStore(t, 0)
	_, err := s.ReadValue("data", shm.JSON, strings.NewReader(`[1,`))
	var syntax *jsonscan.SyntaxError
	if !errors.As(err, &syntax) || !strings.Contains(err.Error(), `"data"`) {
		t.Errorf("got %v", err)
	}
}

// What a step published is checked on its way out, whatever it is.
func TestForgedValues(t *testing.T) {
	for _, forged := range []string{`1,"x":2`, `1}`, `"a`, `[1}`, ``, `1 2`, "\"\xff\"", `}`} {
		s := newStore(t, 0)
		if forged == "" {
			continue // there is no empty block; the ledger's tests have the empty reference
		}
		row, err := s.Account.Write("k", shm.JSON, []byte(forged))
		if err != nil {
			t.Fatal(err)
		}
		table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{row}}
		_, err = write(t, s, table)
		var bad *ValueError
		if !errors.As(err, &bad) || bad.Key != "k" {
			t.Errorf("%q left the host: %v", forged, err)
		}
		s.Account.Release(table)
	}
}

// A value may be a rope whose pieces are no JSON by themselves.
func TestRope(t *testing.T) {
	s := newStore(t, 0)
	rope := ipc.Row{Key: "k"}
	for _, piece := range []string{`[1`, `,"tw`, `o",`, `{}]`} {
		row, err := s.Account.Write("k", shm.JSON, []byte(piece))
		if err != nil {
			t.Fatal(err)
		}
		rope.Spans = append(rope.Spans, row.Spans...)
	}
	table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{rope}}
	defer s.Account.Release(table)
	if got, err := write(t, s, table); err != nil || got != `{"k":[1,"two",{}]}` {
		t.Errorf("%s, %v", got, err)
	}
}

type fullDisk struct{ left int }

func (f *fullDisk) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return f.left, io.ErrShortWrite
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriteErrorsArePassedOn(t *testing.T) {
	s := newStore(t, 0)
	table, err := s.Read(strings.NewReader(`{"a":"` + strings.Repeat("x", 3*bufferSize) + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Account.Release(table)
	w := NewWriter(s.Ledger, &fullDisk{left: bufferSize})
	if err := errors.Join(w.Table(table), w.Flush()); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

func TestDetect(t *testing.T) {
	for start, want := range map[string]shm.Encoding{
		"ARROW1\x00\x00":           shm.ArrowStream,
		"\xff\xff\xff\xff\x10\x00": shm.ArrowStream,
		" \n[1":                    shm.JSON,
		"{":                        shm.JSON,
		"-1":                       shm.JSON,
		"\x00\x01":                 shm.Raw,
		"":                         shm.Raw,
		"PAR1":                     shm.Raw,
	} {
		if got := Detect([]byte(start)); got != want {
			t.Errorf("%q is %v, want %v", start, got, want)
		}
	}
}

// Any document that is JSON comes out with the meaning it had; any other is
// refused.
func FuzzRoundTrip(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,{"b":null}]}`, `[1]`, `"x"`, `{"a":1,"a":2}`, `{`, "", " \t1e9 "} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newStore(t, 0)
		table, err := s.Read(bytes.NewReader(in))
		if err != nil {
			return
		}
		defer s.Account.Release(table)
		out, err := write(t, s, table)
		if err != nil {
			t.Fatalf("read, and not written: %v", err)
		}
		var before, after any
		if json.Unmarshal(in, &before) != nil {
			return // numbers out of range: valid JSON that Go does not decode
		}
		if err := json.Unmarshal([]byte(out), &after); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Fatalf("%v became %v", before, after)
		}
	})
}

// A value that turns out not to be JSON is cut off and completed, whether it
// comes in one piece or in several.
func TestRepair(t *testing.T) {
	long := `{"a":["` + strings.Repeat("x", 2*bufferSize)
	for forged, want := range map[string]string{
		`1,"x":2`:    `null`,
		`[1,2`:       `null`,
		"\xef":       `null`,
		long:         long + `"]}`,
		long + "\n":  long[:2*bufferSize] + `"]}`,
		long + `"]}`: long + `"]}`,
	} {
		s := newStore(t, 0)
		bad, err := s.Account.Write("bad", shm.JSON, []byte(forged))
		if err != nil {
			t.Fatal(err)
		}
		good, err := s.Account.Write("good", shm.JSON, []byte(`7`))
		if err != nil {
			t.Fatal(err)
		}
		table := ipc.Table{Kind: ipc.KindObject, Rows: []ipc.Row{bad, good}}
		var out bytes.Buffer
		w := NewWriter(s.Ledger, &out)
		w.Repair()
		if err := errors.Join(w.Table(table), w.Flush()); err != nil {
			t.Error(err)
		}
		if got := out.String(); got != `{"bad":`+want+`,"good":7}` {
			t.Errorf("%.20q (%d bytes): wrote %d bytes, %.40s … %s", forged, len(forged), len(got), got, got[max(0, len(got)-40):])
		}
		if whole := forged == want; (w.Repaired() == nil) != whole {
			t.Errorf("%.20q: %v", forged, w.Repaired())
		}
		w.Reset(s.Ledger, &fullDisk{})
		w.Repair()
		if err := errors.Join(w.Table(table), w.Flush()); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("a full disk is no bad value: %v", err)
		}
		s.Account.Release(table)
	}
}
