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

	"pgregory.net/rapid"
)

// forms are the ways to open a document; all must answer alike.
func forms(doc string) map[string]Value {
	return map[string]Value{
		"memory": Of([]byte(doc), Options{}),
		"reader": Open(strings.NewReader(doc), int64(len(doc)), Options{}),
		"narrow": Open(strings.NewReader(doc), int64(len(doc)), Options{Window: 3}),
	}
}

func TestValueNavigates(t *testing.T) {
	const doc = ` {"items":[{"name":"x","n":1}, [2,"three"],null,-4.5e1], "s":"a\u00e9\n","items2":[],"d":1,"d":"last"} `
	for name, v := range forms(doc) {
		t.Run(name, func(t *testing.T) {
			if kind, err := v.Kind(); err != nil || kind != Object {
				t.Fatal(kind, err)
			}
			keys, err := v.Keys()
			if err != nil || !reflect.DeepEqual(keys, []string{"items", "s", "items2", "d"}) {
				t.Fatal(keys, err)
			}
			items, ok, err := v.Member("items")
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if n, err := items.Len(); err != nil || n != 4 {
				t.Fatal(n, err)
			}
			for i, want := range []string{`{"name":"x","n":1}`, `[2,"three"]`, `null`, `-4.5e1`} {
				element, ok, err := items.Index(int64(i))
				if err != nil || !ok {
					t.Fatal(i, ok, err)
				}
				if raw, err := element.Raw(0); err != nil || string(raw) != want {
					t.Errorf("element %d is %s, %v", i, raw, err)
				}
			}
			for _, i := range []int64{-1, 4, 1 << 60} {
				if _, ok, err := items.Index(i); ok || err != nil {
					t.Errorf("element %d: %v, %v", i, ok, err)
				}
			}
			for key, want := range map[string]string{"s": "aé\n", "d": "last"} {
				member, ok, err := v.Member(key)
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				if text, err := member.Text(); err != nil || text != want {
					t.Errorf("%s is %q, %v", key, text, err)
				}
			}
			if _, ok, err := v.Member("absent"); ok || err != nil {
				t.Error(ok, err)
			}
		})
	}
}

func TestValueErrors(t *testing.T) {
	v := Of([]byte(`[1,"abc",{}]`), Options{MaxText: 4})
	var kind *KindError
	if _, _, err := v.Member("a"); !errors.As(err, &kind) || kind.Kind != Array {
		t.Errorf("member of an array: %v", err)
	}
	if _, err := v.Text(); !errors.As(err, &kind) {
		t.Errorf("text of an array: %v", err)
	}
	one, _, _ := v.Index(0)
	if _, err := one.Len(); !errors.As(err, &kind) || kind.Kind != Number {
		t.Errorf("length of a number: %v", err)
	}
	var size *SizeError
	abc, _, _ := v.Index(1)
	if _, err := abc.Text(); !errors.As(err, &size) || size.Limit != 4 {
		t.Errorf("long text: %v", err)
	}
	if _, err := v.Raw(11); !errors.As(err, &size) || size.Limit != 11 {
		t.Errorf("large value: %v", err)
	}
	if raw, err := v.Raw(12); err != nil || len(raw) != 12 {
		t.Errorf("%s, %v", raw, err)
	}
	broken := Of([]byte(`[1,2,x]`), Options{})
	if _, ok, err := broken.Index(1); !ok || err != nil {
		t.Errorf("before the damage: %v, %v", ok, err)
	}
	var syntax *SyntaxError
	if _, err := broken.Len(); !errors.As(err, &syntax) || syntax.Offset != 5 {
		t.Errorf("at the damage: %v", err)
	}
	short := Open(strings.NewReader(`[1,`), 100, Options{})
	if _, err := short.Len(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short reader: %v", err)
	}
	if _, err := Of(nil, Options{}).Kind(); !errors.Is(err, ErrEmpty) {
		t.Errorf("nothing: %v", err)
	}
}

func TestElementsReadOnce(t *testing.T) {
	const count = 300_000 // more than the marks can hold at their first stride
	doc := []byte{'['}
	for i := range count {
		doc = fmt.Appendf(doc, `{"i":%d},`, i)
	}
	doc[len(doc)-1] = ']'
	var stats Stats
	e := Open(bytes.NewReader(doc), int64(len(doc)), Options{Stats: &stats}).Elements()
	if n, err := e.Len(); err != nil || n != count {
		t.Fatal(n, err)
	}
	if stats.Scanned != int64(len(doc)) || stats.Read != int64(len(doc)) {
		t.Errorf("counting %d bytes cost %+v", len(doc), stats)
	}
	check := func(i int64) {
		t.Helper()
		element, ok, err := e.At(i)
		if err != nil || !ok {
			t.Fatal(i, ok, err)
		}
		if raw, err := element.Raw(100); err != nil || string(raw) != fmt.Sprintf(`{"i":%d}`, i) {
			t.Fatalf("element %d is %s, %v", i, raw, err)
		}
	}
	stats = Stats{}
	for _, i := range []int64{count - 1, 0, 123_456, 123_455, 64, 63, 65} {
		check(i)
	}
	if stats.Scanned > 7*256*20 {
		t.Errorf("random access scanned %d bytes", stats.Scanned)
	}
	stats = Stats{}
	for i := range int64(count) {
		check(i)
	}
	if stats.Scanned > 2*int64(len(doc)) {
		t.Errorf("a loop over %d bytes scanned %d", len(doc), stats.Scanned)
	}
}

// rebuild decodes a value through navigation alone.
func rebuild(t fataler, v Value) any {
	must := func(err error) {
		if err != nil {
			t.Fatalf("navigating: %v", err)
		}
	}
	kind, err := v.Kind()
	must(err)
	switch kind {
	case Object:
		members, err := v.Members()
		must(err)
		object := map[string]any{}
		for _, m := range members {
			object[m.Key] = rebuild(t, v.Of(m))
			byKey, ok, err := v.Member(m.Key)
			must(err)
			if !ok || byKey.Offset() != m.Offset {
				t.Fatalf("member %q at %d, by key %v at %d", m.Key, m.Offset, ok, byKey.Offset())
			}
		}
		return object
	case Array:
		array, elements := []any{}, v.Elements()
		for i := int64(0); ; i++ {
			element, ok, err := elements.At(i)
			must(err)
			if !ok {
				break
			}
			array = append(array, rebuild(t, element))
		}
		return array
	case True, False:
		return kind == True
	case Null:
		return nil
	}
	text, err := v.Text()
	must(err)
	if kind == String {
		return text
	}
	return json.Number(text)
}

func TestValueGenerated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := genJSON(3).Draw(t, "doc")
		decoder := json.NewDecoder(strings.NewReader(doc))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		for name, v := range forms(doc) {
			if got := rebuild(t, v); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q from %s: %v, want %v", doc, name, got, want)
			}
		}
	})
}

func FuzzNavigate(f *testing.F) {
	for i, doc := range seeds {
		f.Add(doc, int64(i), "a")
	}
	f.Fuzz(func(t *testing.T, doc string, i int64, key string) {
		// Navigation need not notice all damage, but must stop and not panic.
		v := Open(strings.NewReader(doc), int64(len(doc)), Options{Window: 5})
		if raw, err := v.Raw(0); err == nil && !json.Valid(raw) {
			t.Fatalf("%q: raw %q", doc, raw)
		}
		e := v.Elements()
		if element, ok, err := e.At(i % 8); err == nil && ok {
			_, _ = element.Text()
			_, _, _ = element.Member(key)
		}
		n, lenErr := e.Len()
		m, countErr := Of([]byte(doc), Options{}).Len()
		if n != m || (lenErr == nil) != (countErr == nil) {
			t.Fatalf("%q: length %d %v, %d %v", doc, n, lenErr, m, countErr)
		}
		members, err := v.Members()
		if member, ok, byKey := v.Member(key); err == nil && byKey == nil {
			at := int64(-1)
			for _, m := range members {
				if m.Key == key {
					at = m.Offset
				}
			}
			if ok != (at >= 0) || ok && member.Offset() != at {
				t.Fatalf("%q: member %q at %d, in the list at %d", doc, key, member.Offset(), at)
			}
		}
	})
}
