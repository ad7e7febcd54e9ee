package plan

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                        nil,
		"  jq   .data ":           {"jq", ".data"},
		`a 'b c' "d e"`:           {"a", "b c", "d e"},
		`a'b'"c"d`:                {"abcd"},
		`'' ""`:                   {"", ""},
		`a\ b \'`:                 {"a b", "'"},
		`"a\"b\\c\d\$"`:           {`a"b\c\d$`},
		`'a\b'`:                   {`a\b`},
		"a\\\nb \"c\\\nd\"\te\nf": {"ab", "cd", "e", "f"},
		"$HOME *.js ~ # x":        {"$HOME", "*.js", "~", "#", "x"},
		"é 'ü x'":                 {"é", "ü x"},
	} {
		if got, err := SplitWords(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`'`, `a "b`, `a\`, `"\`, `"a\"`} {
		if got, err := SplitWords(line); err == nil {
			t.Errorf("%q: got %q, want an error", line, got)
		}
	}
}

// Words in single quotes come back, whatever they hold.
func TestQuotedWordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOf(rapid.String()).Draw(t, "words")
		var line []string
		for _, w := range words {
			line = append(line, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		got, err := SplitWords(strings.Join(line, " "))
		if err != nil || !slices.Equal(got, words) {
			t.Fatalf("%q: got %q, %v", words, got, err)
		}
	})
}

func TestSuggestions(t *testing.T) {
	known := []string{"command", "concurrency", "configuration", "id", "drop_keys", "next"}
	for word, want := range map[string]string{
		"comand": `did you mean "command"?`, "commnad": `did you mean "command"?`, "Command": `did you mean "command"?`,
		"dropKeys": `did you mean "drop_keys"?`, "drop-key": `did you mean "drop_keys"?`, "nxt": `did you mean "next"?`,
		"xyz": "", "": "", "banana": "", strings.Repeat("command", 100): "",
	} {
		if got := (&suggester{}).hint(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	s := &suggester{asked: maxSuggestions}
	if got := s.hint("comand", known); got != "" {
		t.Errorf("beyond the bound: got %q", got)
	}
}
