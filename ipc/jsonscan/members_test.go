package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestTop(t *testing.T) {
	for _, c := range []struct {
		doc  string
		want Document
	}{
		{`{}`, Document{Kind: Object, Size: 2}},
		{` {"a" : 1 , "b":[1, 2] } `, Document{Kind: Object, Size: 25, Members: []Member{
			{"a", 8, 1, Number}, {"b", 16, 6, Array}}}},
		{`{"a":1,"b":null,"a":{"a":"x"}}`, Document{Kind: Object, Size: 30, Members: []Member{
			{"a", 20, 9, Object}, {"b", 11, 4, Null}}}},
		{`{"\u0061\n":true,"x":false}`, Document{Kind: Object, Size: 27, Members: []Member{
			{"a\n", 12, 4, True}, {"x", 21, 5, False}}}},
		{`{"\ud83d\ude00":"s","\ud800":-1.5e3}`, Document{Kind: Object, Size: 36, Members: []Member{
			{"😀", 16, 3, String}, {"\uFFFD", 29, 6, Number}}}},
		{" [1, {\"a\":2}]\n", Document{Kind: Array, Size: 14, Members: []Member{{"", 1, 12, Array}}}},
		{`12`, Document{Kind: Number, Size: 2, Members: []Member{{"", 0, 2, Number}}}},
		{` "x" `, Document{Kind: String, Size: 5, Members: []Member{{"", 1, 3, String}}}},
		{`null`, Document{Kind: Null, Size: 4, Members: []Member{{"", 0, 4, Null}}}},
	} {
		got, err := Top([]byte(c.doc), Options{})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", c.doc, got, err, c.want)
		}
		got, err = TopReader(iotest.OneByteReader(strings.NewReader(c.doc)), Options{})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s from a reader:\n got %+v, %v\nwant %+v", c.doc, got, err, c.want)
		}
	}
}

func TestTopManyKeys(t *testing.T) {
	var doc []byte
	for i := range 300 {
		doc = append(AppendKey(append(doc, ','), fmt.Sprint("k", i%100)), fmt.Sprint(i)...)
	}
	doc[0] = '{'
	doc = append(doc, '}')
	got, err := Top(doc, Options{})
	if err != nil || len(got.Members) != 100 {
		t.Fatalf("%d members, %v", len(got.Members), err)
	}
	for i, m := range got.Members {
		if text := string(doc[m.Offset : m.Offset+m.Length]); m.Key != fmt.Sprint("k", i) || text != fmt.Sprint(200+i) {
			t.Errorf("member %d is %s: %s", i, m.Key, text)
		}
	}
}

func TestTopLimits(t *testing.T) {
	_, err := Top([]byte(`{"a":1,"b":2,"c":3}`), Options{MaxMembers: 2})
	var many *MembersError
	if !errors.As(err, &many) || *many != (MembersError{Offset: 13, Members: 3, Limit: 2}) {
		t.Errorf("members: %v", err)
	}
	_, err = Top([]byte(`{"aaaaaaaaaa":1}`), Options{MaxText: 5})
	var size *SizeError
	if !errors.As(err, &size) || size.Limit != 5 {
		t.Errorf("key: %v", err)
	}
	_, err = Top([]byte(`{"a":[[1]]}`), Options{MaxDepth: 2})
	var deep *DepthError
	if !errors.As(err, &deep) || *deep != (DepthError{Offset: 6, Depth: 3, Limit: 2}) {
		t.Errorf("depth: %v", err)
	}
}

func TestTopErrors(t *testing.T) {
	for _, doc := range []string{``, ` `, `{"a":1}x`, `{"a"`, `[1`, "\xEF\xBB\xBF{}", `1 2`, `{"a":1,"b"}`} {
		want := Validate([]byte(doc))
		_, got := Top([]byte(doc), Options{})
		if want == nil || !sameError(got, want) {
			t.Errorf("%q:\n got %v\nwant %v", doc, got, want)
		}
		_, got = TopReader(iotest.HalfReader(strings.NewReader(doc)), Options{Window: 2})
		if !sameError(got, want) {
			t.Errorf("%q from a reader:\n got %v\nwant %v", doc, got, want)
		}
	}
	if _, err := TopReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(`{"a":1}`))), Options{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("failing reader: %v", err)
	}
	if _, err := TopReader(stuckReader{}, Options{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("stuck reader: %v", err)
	}
	cancelled := errors.New("cancelled")
	if _, err := Top([]byte(`{}`), Options{Check: func() error { return cancelled }}); !errors.Is(err, cancelled) {
		t.Errorf("check: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

// longReader is a document of size bytes which is never in memory.
type longReader struct {
	size, at int64
	largest  int
}

func (r *longReader) Read(p []byte) (int, error) {
	r.largest = max(r.largest, len(p))
	const open, closing = `{"a":"`, `"}`
	for i := range p {
		switch {
		case r.at == r.size:
			return i, io.EOF
		case r.at < int64(len(open)):
			p[i] = open[r.at]
		case r.at >= r.size-int64(len(closing)):
			p[i] = closing[r.at-r.size+int64(len(closing))]
		default:
			p[i] = 'x'
		}
		r.at++
	}
	return len(p), nil
}

func TestTopReaderIsBounded(t *testing.T) {
	r := &longReader{size: 8 << 20}
	doc, err := TopReader(r, Options{MaxText: 10})
	if err != nil || doc.Members[0].Length != r.size-6 {
		t.Fatalf("%+v, %v", doc, err)
	}
	if r.largest != DefaultWindow {
		t.Errorf("asked for %d bytes at once", r.largest)
	}
}

// checkOutline compares an outline with what encoding/json makes of doc.
func checkOutline(t fataler, doc []byte, got Document) {
	if got.Size != int64(len(doc)) {
		t.Fatalf("%q: size %d", doc, got.Size)
	}
	text := func(m Member) []byte {
		b := doc[m.Offset : m.Offset+m.Length]
		if !bytes.Equal(b, bytes.TrimSpace(b)) {
			t.Fatalf("%q: value of %q has white space around it: %q", doc, m.Key, b)
		}
		return b
	}
	if got.Kind != Object {
		if !bytes.Equal(bytes.Trim(doc, " \t\r\n"), text(got.Members[0])) {
			t.Fatalf("%q: %+v", doc, got)
		}
		return
	}
	var want map[string]any
	if err := json.Unmarshal(doc, &want); err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	if len(want) != len(got.Members) {
		t.Fatalf("%q: %d members, want %d", doc, len(got.Members), len(want))
	}
	for _, m := range got.Members {
		var v any
		if err := json.Unmarshal(text(m), &v); err != nil || !reflect.DeepEqual(v, want[m.Key]) {
			t.Fatalf("%q: %q is %v (%v), want %v", doc, m.Key, v, err, want[m.Key])
		}
	}
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func TestTopGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := []byte(genJSON(3).Draw(t, "doc"))
		got, err := Top(doc, Options{})
		if err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		checkOutline(t, doc, got)
		window := rapid.IntRange(1, 9).Draw(t, "window")
		streamed, err := TopReader(bytes.NewReader(doc), Options{Window: window})
		if err != nil || !reflect.DeepEqual(got, streamed) {
			t.Fatalf("%q: from a reader %+v, %v, want %+v", doc, streamed, err, got)
		}
	})
}

func FuzzTop(f *testing.F) {
	for i, doc := range seeds {
		f.Add([]byte(doc), uint8(i))
	}
	f.Fuzz(func(t *testing.T, doc []byte, window uint8) {
		want := Validate(doc)
		got, err := Top(doc, Options{})
		if !sameError(err, want) {
			t.Fatalf("%q: %v, want %v", doc, err, want)
		}
		streamed, streamErr := TopReader(bytes.NewReader(doc), Options{Window: 1 + int(window%16)})
		if !sameError(err, streamErr) || !reflect.DeepEqual(got, streamed) {
			t.Fatalf("%q: %+v %v, from a reader %+v %v", doc, got, err, streamed, streamErr)
		}
		if err == nil && !strings.Contains(string(doc), "e") { // numbers out of a float's range
			checkOutline(t, doc, got)
		}
	})
}
