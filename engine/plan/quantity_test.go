package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"1ns": 1, "1.9ns": 1, "250us": 250 * time.Microsecond, "250µs": 250 * time.Microsecond, "3μs": 3 * time.Microsecond,
		"30s": 30 * time.Second, "1.5m": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour,
		"106751d": 106751 * 24 * time.Hour, "1s1s": 2 * time.Second,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "-5s", "+5s", "5 s", "s", "1.s", ".5s", "1h30", "1S", "0s", "0.1ns", "106752d", "1e3s",
		strings.Repeat("9", 100) + "s", "1s\n"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"1B": 1, "64KB": 64e3, "64kb": 64e3, "512MB": 512e6, "1GiB": 1 << 30, "1.5 KiB": 1536, "2TB": 2e12, "8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "5", "-5MB", "5M", "5iB", "MB", "0MB", "0.5B", "8388608TiB", "1  MB", "1e3MB"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q: got %d, want an error", s, got)
		}
	}
}

// Go's own text of a duration, and a size in any unit, come back as they were.
func TestQuantitiesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(1, 1<<62).Draw(t, "d"))
		if got, err := ParseDuration(d.String()); err != nil || got != d {
			t.Fatalf("%v: got %v, %v", d, got, err)
		}
		unit := rapid.SampledFrom([]string{"B", "KB", "MB", "GB", "KiB", "MiB", "GiB"}).Draw(t, "unit")
		n := rapid.Int64Range(1, 1<<32).Draw(t, "n")
		want := n * sizeUnits[strings.ToLower(unit)]
		if got, err := ParseSize(fmt.Sprintf("%d%s", n, unit)); err != nil || got != want {
			t.Fatalf("%d%s: got %d, %v, want %d", n, unit, got, err, want)
		}
	})
}

// The schema and the parsers accept the same texts, amounts out of range aside.
func TestSchemaAndParsersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[1-9][0-9]?(\.[1-9])?( |  )?([a-zA-Zµ]{0,3})([1-9](ns|s|h)?)?`).Draw(t, "s")
		_, durationErr := ParseDuration(s)
		_, sizeErr := ParseSize(s)
		accepts := func(key string) bool {
			root := &node{kind: isObject, members: []member{{key: "steps", value: &node{kind: isArray, items: []*node{{kind: isObject,
				members: []member{{key: "id", value: &node{kind: isString, text: "a"}}, {key: key, value: &node{kind: isString, text: s}}}}}}}}}
			return len(theSchema().validate(root, &suggester{})) == 0
		}
		if accepts("timeout") != (durationErr == nil) {
			t.Fatalf("%q: the schema and ParseDuration (%v) differ", s, durationErr)
		}
		if accepts("memory") != (sizeErr == nil) {
			t.Fatalf("%q: the schema and ParseSize (%v) differ", s, sizeErr)
		}
	})
}
