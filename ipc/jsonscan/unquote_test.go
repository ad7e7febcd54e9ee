package jsonscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendString(t *testing.T) {
	// The right side is what JSON.stringify prints.
	for s, want := range map[string]string{
		"":                        `""`,
		"plain text, long enough": `"plain text, long enough"`,
		"<&>'/":                   `"<&>'/"`,
		"\"\\\b\f\n\r\t":          `"\"\\\b\f\n\r\t"`,
		"\x00\x1f\x7f":            `"\u0000\u001f` + "\x7f\"",
		"é\u2028😀":                "\"é\u2028😀\"",
		"1234567\"89":             `"1234567\"89"`,
		"a\xffb":                  "\"a\uFFFDb\"",
	} {
		if got := string(AppendString(nil, s)); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
		if got := string(AppendKey([]byte("{"), s)); got != "{"+want+":" {
			t.Errorf("key %q: %s", s, got)
		}
	}
}

func FuzzStrings(f *testing.F) {
	for _, s := range []string{"", "a", `\u0000`, "\"\\\n", "é😀\u2028", "\xff\xc3", `\ud83d\ude00`, `\ud83dx`, `\u00`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		literal := AppendString(nil, s)
		if err := Validate(literal); err != nil {
			t.Fatalf("%q became %q: %v", s, literal, err)
		}
		text, err := Of(literal, Options{}).Text()
		if err != nil || text != strings.ToValidUTF8(s, "\uFFFD") && utf8.ValidString(s) {
			t.Fatalf("%q became %q, then %q, %v", s, literal, text, err)
		}
		// As the body of a literal, s says what encoding/json says it does.
		var want string
		literal = []byte(`"` + s + `"`)
		if json.Unmarshal(literal, &want) != nil || !utf8.ValidString(s) {
			return
		}
		if text, err = Of(literal, Options{}).Text(); err != nil || text != want {
			t.Fatalf("%s is %q, %v, want %q", literal, text, err, want)
		}
	})
}
