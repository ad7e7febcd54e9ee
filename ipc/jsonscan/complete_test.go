package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	for cut, want := range map[string]string{
		``: `null`, ` `: `null`, `{`: `}`, `[`: `]`, `{"a`: `":null}`, `{"a"`: `:null}`, `{"a":`: `null}`,
		`{"a":1,`: `"":null}`, `{"a":[1,"x`: `"]}`, `["\`: `n"]`, `["\u1`: `000"]`, `[-`: `0]`, `[1.`: `0]`,
		`[1e`: `0]`, `[1e+`: `0]`, `[tr`: `ue]`, `[[],`: `null]`, `"` + "\xf0": "\x90\x80\x80\"", `12`: ``,
	} {
		var v Validator
		if err := v.Feed([]byte(cut)); err != nil {
			t.Fatal(err)
		}
		var c Checkpoint
		v.Checkpoint(&c)
		got := string(c.Completion(nil))
		if got != want || !json.Valid([]byte(cut+got)) {
			t.Errorf("%q is completed by %q, want %q", cut, got, want)
		}
	}
}

// Wherever a document is cut, and whatever follows, it can be completed.
func FuzzCompletion(f *testing.F) {
	for _, doc := range seeds {
		f.Add(doc, len(doc)/2)
	}
	f.Add(strings.Repeat(`[{"a":`, 100), 333)
	f.Fuzz(func(t *testing.T, doc string, cut int) {
		if cut < 0 || cut > len(doc) {
			cut = len(doc)
		}
		var v Validator
		if v.Feed([]byte(doc[:cut])) != nil || strings.HasPrefix(strings.TrimLeft(doc[:cut], " \t\r\n"), "\xef") {
			return
		}
		var c Checkpoint
		v.Checkpoint(&c)
		v.Feed([]byte(doc[cut:])) // must not change the checkpoint
		whole := doc[:cut] + string(c.Completion(nil))
		if err := Validate([]byte(whole)); err != nil {
			t.Fatalf("%q became %q: %v", doc[:cut], whole, err)
		}
	})
}
