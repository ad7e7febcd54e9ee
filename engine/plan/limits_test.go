package plan

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refused parses a text that must not be valid.
func refused(t *testing.T, name string, src []byte) *InvalidError {
	t.Helper()
	_, err := Parse(name, src, "")
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v, want an *InvalidError", err)
	}
	return invalid
}

func bomb(levels, width int) string {
	var b strings.Builder
	b.WriteString("steps: [{id: a}]\nx-0: &x0 {a: lolololololol}\n")
	for i := 1; i <= levels; i++ {
		fmt.Fprintf(&b, "x-%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d,", i-1), width), ","))
	}
	return b.String()
}

func TestLimits(t *testing.T) {
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + strings.Repeat(shut, n) }
	var indented strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&indented, "%sa:\n", strings.Repeat(" ", i))
	}
	for _, c := range []struct{ name, file, src, want string }{
		{"billion laughs", "x.yaml", bomb(20, 10), "aliases expanded"},
		{"long text laughs", "x.yaml", "x-a: &a " + strings.Repeat("x", 1<<20) + "\nx-b: [" + strings.Repeat("*a,", 100) + "]\n", "aliases expanded"},
		{"deep flow", "x.yaml", deep("[", "]", 1<<20), "nested too deeply, the limit is 500"},
		{"deep mappings", "x.yaml", deep("{a: ", "}", 1<<18), "nested too deeply"},
		{"deep dashes", "x.yaml", strings.Repeat("- ", 1<<18) + "a", "nested too deeply"},
		{"deep questions", "x.yaml", strings.Repeat("? ", 1<<16) + "a", "nested too deeply"},
		{"deep indent", "x.yaml", indented.String(), "nested too deeply"},
		{"deep JSON", "x.json", deep("[", "]", 5000), "nested too deeply"},
		{"deeper JSON", "x.json", deep("[", "]", 1<<20), "JSON syntax"},
		{"many YAML tokens", "x.yaml", "[" + strings.Repeat("0,", maxTokens/2) + "0]", "the limit is 200000 tokens"},
		{"much punctuation", "x.yaml", "a: |\n  " + strings.Repeat("[", maxPunctuation), "the limit is 3000000"},
		{"many keys", "x.yaml", func() string {
			var b strings.Builder
			for i := range maxBlockKeys + 1 {
				fmt.Fprintf(&b, "x-%d: 1\n", i)
			}
			return b.String()
		}(), "too many keys in one mapping, the limit is 5000"},
		{"many JSON values", "x.json", "[" + strings.Repeat("0,", maxValues) + "0]", "the limit is 1000000 values"},
		{"file size", "x.yaml", strings.Repeat(" ", MaxFileBytes+1), "is too large: 16777217 bytes or more, the limit is 16777216"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := refused(t, c.file, []byte(c.src)); !strings.Contains(err.Problems[0].Message, c.want) {
				t.Errorf("got %v, want %q", err.Problems[0], c.want)
			}
		})
	}
	// None of these may recurse without bound, whatever the answer is.
	for _, open := range []string{"!a ", "&a ", "[!a ", "[&a ", "[? ", "{? ", "[a: ", "!!str ", "%a ", "- ? ", "? - ", "a: &b ", "--- ", "&a - ", "'", "\"", "| "} {
		t.Run("repeated "+open, func(t *testing.T) {
			refused(t, "x.yaml", []byte(strings.Repeat(open, 1<<15)))
			refused(t, "x.yaml", []byte("[a, "+strings.Repeat(open, 1<<15)))
		})
	}
}

func TestAliasesWithinLimits(t *testing.T) {
	p := mustParse(t, "x.yaml", bomb(3, 5)+`
x-base: &base {timeout: 5s, concurrency: 2}
x-more: &more {concurrency: 7, memory: 1MB}
`, "")
	if len(p.Steps) != 1 {
		t.Fatal(p.Steps)
	}
	p = mustParse(t, "x.yaml", `
x-base: &base {timeout: 5s, concurrency: 2}
x-more: &more {concurrency: 7, memory: 1MB}
steps:
  - <<: [*base, *more]
    id: a
    timeout: 9s
`, "")
	if s := p.Steps[0]; s.Timeout.Seconds() != 9 || s.Concurrency != 2 || s.Memory != 1e6 {
		t.Errorf("merged: %+v", s)
	}
	if err := refused(t, "x.yaml", []byte("steps: &a [*a]")); !strings.Contains(err.Error(), "no anchor") {
		t.Error(err)
	}
}

// The limits leave room for what workflows are made of: long scripts, thousands
// of steps.
func TestRoomWithinLimits(t *testing.T) {
	script := strings.Repeat("      const total = items.map(x => x.price * 2);\n", 200_000)
	p := mustParse(t, "x.yaml", "steps:\n  - id: a\n    expression: |\n"+script, "")
	if got := p.Steps[0].Expression.Text; len(got) != len(script)-6*200_000 {
		t.Errorf("%d bytes of script", len(got))
	}
	var b strings.Builder
	b.WriteString("steps:\n")
	for i := range 6000 {
		fmt.Fprintf(&b, "  - id: s%d\n    # a comment\n    command: [jq, .]\n    next: {s%d: state.ok}\n", i, i+1)
	}
	b.WriteString("  - id: s6000\n")
	if p := mustParse(t, "x.yaml", b.String(), ""); len(p.Steps) != 6001 || len(p.Warnings) != 0 {
		t.Errorf("%d steps, warnings %v", len(p.Steps), p.Warnings)
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := Load(filepath.Join(dir, "none.yaml"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "none.yaml: there is no such file") {
		t.Errorf("missing: %v", err)
	}
	_, err = Load(dir)
	if err == nil || !strings.HasSuffix(err.Error(), ": is a folder, not a file") {
		t.Errorf("folder: %v", err)
	}
	big := filepath.Join(dir, "big.yaml")
	write(t, big, "")
	if err := os.Truncate(big, MaxFileBytes+10); err != nil {
		t.Fatal(err)
	}
	if _, err = Load(big); err == nil || !strings.Contains(err.Error(), "is too large: 16777226 bytes") {
		t.Errorf("large: %v", err)
	}
	flow := filepath.Join(dir, "flow.yaml")
	write(t, filepath.Join(dir, "bad.js"), "a\xff")
	write(t, flow, "steps: [{id: a, expression: bad.js}]")
	if _, err = Load(flow); err == nil || !strings.Contains(err.Error(), "bad.js: is not UTF-8: byte 0xff at offset 1") {
		t.Errorf("expression: %v", err)
	}
}

// A workflow that came without a folder cannot make the host read a file.
func TestNoFolderNoFiles(t *testing.T) {
	err := refused(t, "x.yaml", []byte(`
globals: g.js
steps:
  - {id: a, expression: /etc/x.js, next: b}
  - {id: b, python: /etc/x.py, next: c}
  - {id: c, command: ./x, cwd: /, next: d}
  - {id: d, command: /bin/cat}
`))
	if len(err.Problems) != 5 {
		t.Errorf("%d problems, want 5:\n%v", len(err.Problems), err)
	}
	for _, p := range err.Problems {
		if !strings.Contains(p.Message, "was not read from a file") {
			t.Error(p)
		}
	}
}

// All problems are kept, the text of the error stays readable.
func TestManyProblems(t *testing.T) {
	var b strings.Builder
	b.WriteString("steps:\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "  - {id: s%d, next: t%d, x%d: 1}\n", i, i, i)
	}
	err := refused(t, "x.yaml", []byte(b.String()))
	if len(err.Problems) != 6000 || !strings.HasSuffix(err.Error(), "and 5950 more problems") {
		t.Errorf("%d problems; ends with %q", len(err.Problems), err.Error()[len(err.Error())-40:])
	}
	for i, p := range err.Problems {
		if p.Line != 2+i/2 {
			t.Fatalf("problem %d is at line %d: out of order", i, p.Line)
		}
	}
}

func TestByteOrderMarkAndLineEnds(t *testing.T) {
	p := mustParse(t, "x.yaml", "\ufeffsteps:\r\n  - id: a\r\n    expression: |\r\n      one\r\n\r\n      two\r\n", "")
	if got := p.Steps[0].Expression.Text; strings.ReplaceAll(got, "\r\n", "\n") != "one\n\ntwo\n" {
		t.Errorf("%q", got)
	}
}
