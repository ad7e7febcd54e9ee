package command

import (
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func lines(text string, read func(*lineLog)) []string {
	var list []string
	l := &lineLog{limit: 16, emit: func(line string) { list = append(list, line) }}
	read(l)
	return list
}

// However the bytes come, the lines are the same, none is too long or empty,
// and nothing but line ends, overwritten text and empty lines is lost.
func TestLinesDoNotDependOnReads(t *testing.T) {
	alphabet := []rune("abé\r\n\x00 ")
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom(alphabet), 0, 200, -1).Draw(r, "text")
		whole := lines(text, func(l *lineLog) { l.readFrom(strings.NewReader(text)) })
		bytewise := lines(text, func(l *lineLog) { l.readFrom(iotest.OneByteReader(strings.NewReader(text))) })
		if strings.Join(whole, "|") != strings.Join(bytewise, "|") {
			r.Fatalf("in one piece %q, byte by byte %q", whole, bytewise)
		}
		for _, line := range whole {
			if line == "" || len(line) > 16 || strings.ContainsAny(line, "\n") {
				r.Fatalf("line %q", line)
			}
		}
		if !strings.Contains(text, "\r") {
			plain := strings.ReplaceAll(text, "\n", "")
			if got := strings.Join(whole, ""); got != plain {
				r.Fatalf("%q became %q", plain, got)
			}
		}
	})
}

func TestTail(t *testing.T) {
	for text, want := range map[string][2]string{
		"":                        {"", ""},
		"one":                     {"one", "one"},
		"one\ntwo\n\n":            {"one\ntwo", "two"},
		"one\rtwo\r\n":            {"one\rtwo", "two"},
		strings.Repeat("é", 4096): {strings.Repeat("é", tailSize/2), strings.Repeat("é", tailSize/2)},
	} {
		l := &lineLog{limit: maxLine, emit: func(string) {}}
		l.readFrom(strings.NewReader(text))
		if tail, last := l.tailText(); tail != want[0] || last != want[1] {
			t.Errorf("%.20q: tail %.40q, last line %.40q", text, tail, last)
		}
	}
}
