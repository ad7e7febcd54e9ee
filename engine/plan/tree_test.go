package plan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

func TestPlainScalars(t *testing.T) {
	for yamlText, want := range map[string]string{
		"null": "null", "~": "null", "Null": "null", "true": "true", "False": "false",
		"yes": `"yes"`, "on": `"on"`, "12:30": `"12:30"`, "2001-01-01": `"2001-01-01"`, "1_000": `"1_000"`, "0b1": `"0b1"`,
		"0": "0", "-0": "-0", "+12": "12", "017": "17", "0o17": "15", "0x1F": "31", "1.10": "1.10", ".5": "0.5", "-.5e3": "-0.5e3",
		"5.": "5", "5.e2": "5e2", "00.5": "0.5", "1e400": "1e400", "123456789012345678901234567890": "123456789012345678901234567890",
		"'12'": `"12"`, `"true"`: `"true"`, "!!str 017": `"017"`, "!!str": `""`, "!!int 5": "5", "a b": `"a b"`, "1.2.3": `"1.2.3"`,
		`"\ud83d\ude00\/<&>"`: `"😀/<&>"`, "|\n  a\n  b\n": `"a\nb\n"`, ">-\n  a\n  b\n": `"a b"`, "[1, {a: , b}]": `[1,{"a":null,"b":null}]`,
		"{? a : b, 1: c, true: d}": `{"a":"b","1":"c","true":"d"}`,
	} {
		root, problems, err := parseYAML("v: " + yamlText + "\n")
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v %v", yamlText, err, problems)
			continue
		}
		if got := string(root.get("v").json()); got != want {
			t.Errorf("%s: got %s, want %s", yamlText, got, want)
		}
	}
	for _, yamlText := range []string{"!!int a", "!!seq {}", "!!binary aGk=", "!x 1", "*none", "{[a]: b}"} {
		if root, _, err := parseYAML("v: " + yamlText + "\n"); err == nil {
			t.Errorf("%s: got %s, want an error", yamlText, root.json())
		}
	}
}

// value draws any JSON value.
func value(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 6
		if depth == 0 {
			kinds = 4
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return rapid.Int64().Draw(t, "number")
		case 3:
			return rapid.String().Draw(t, "string")
		case 4:
			return rapid.SliceOfN(value(depth-1), 0, 4).Draw(t, "list")
		}
		return rapid.MapOfN(rapid.String(), value(depth-1), 0, 4).Draw(t, "object")
	})
}

// JSON text becomes the same bytes through the JSON reader, which keeps it, and
// through the tree; positions point at what they name.
func TestJSONReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := value(3).Draw(t, "value")
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		if rapid.Bool().Draw(t, "indent") {
			e.SetIndent("", "  ")
		}
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		root, problems, err := parseJSON(text.String())
		if err != nil || len(problems) > 0 {
			t.Fatalf("%s: %v %v", text.String(), err, problems)
		}
		var want, encoded bytes.Buffer
		if err := json.Compact(&want, text.Bytes()); err != nil {
			t.Fatal(err)
		}
		root.encode(&encoded)
		if got := root.json(); string(got) != want.String() || encoded.String() != want.String() {
			t.Fatalf("got %s\nand %s\nwant %s", got, encoded.String(), want.String())
		}
		lines := strings.Split(text.String(), "\n")
		var walk func(n *node)
		walk = func(n *node) {
			if rest := string([]rune(lines[n.pos.line-1])[n.pos.column-1:]); n.raw[0] != rest[0] {
				t.Fatalf("%q is not at %v: %q", n.raw, n.pos, rest)
			}
			for _, item := range n.items {
				walk(item)
			}
			for _, m := range n.members {
				walk(m.value)
			}
		}
		walk(root)
	})
}

// A block of YAML means what the YAML library says it means.
func TestYAMLReader(t *testing.T) {
	word := rapid.StringMatching(`[a-zé]{1,5}( [a-z0-9]{1,3})?`)
	var block func(depth int) *rapid.Generator[any]
	block = func(depth int) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			switch {
			case depth > 0 && kind == 0:
				return rapid.SliceOfN(block(depth-1), 1, 3).Draw(t, "list")
			case depth > 0 && kind == 1:
				return rapid.MapOfN(word, block(depth-1), 1, 3).Draw(t, "object")
			case kind == 2:
				return rapid.Int32().Draw(t, "number")
			}
			return rapid.SampledFrom([]string{"plain", "two\nlines\n", "  led", "it's", "# no", "- no", "a: b", "\ttab", "é\n\n  x"}).Draw(t, "text")
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{"v": block(3).Draw(t, "value")}
		text, err := yaml.MarshalWithOptions(v, yaml.UseLiteralStyleIfMultiline(true))
		if err != nil {
			t.Fatal(err)
		}
		var decoded any
		if err := yaml.Unmarshal(text, &decoded); err != nil {
			t.Skip("the library does not read what it wrote")
		}
		want, _ := json.Marshal(decoded)
		root, problems, err := parseYAML(string(text))
		if err != nil || len(problems) > 0 {
			t.Fatalf("%s: %v %v", text, err, problems)
		}
		var got any
		if err := json.Unmarshal(root.json(), &got); err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(got); string(again) != string(want) {
			t.Fatalf("%s\ngot  %s\nwant %s", text, again, want)
		}
	})
}
