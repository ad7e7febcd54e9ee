package lightning

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseWorkloops(t *testing.T) {
	for _, c := range []struct {
		in     string
		want   []Workloop
		doubts int
	}{
		{"manual>*:5", []Workloop{{[]string{"manual", "*"}, 5}}, 0},
		{"  fast_lane:1\tmanual>*:4 ", []Workloop{{[]string{"fast_lane"}, 1}, {[]string{"manual", "*"}, 4}}, 0},
		{"*:1", []Workloop{{[]string{"*"}, 1}}, 0},
		{"a>a:1", []Workloop{{[]string{"a", "a"}, 1}}, 1},
		{"a:1 a:2", []Workloop{{[]string{"a"}, 1}, {[]string{"a"}, 2}}, 1},
	} {
		got, doubts, err := ParseWorkloops(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
		}
		if d := cmp.Diff(c.want, got); d != "" || len(doubts) != c.doubts {
			t.Errorf("%q: %s doubts %q", c.in, d, doubts)
		}
	}
	for in, want := range map[string]string{
		"": "empty", "  ": "empty", "manual": "no :<capacity>", "manual:": `capacity ""`, "manual:0": "at least 1",
		"manual:-1": "at least 1", "manual:1.5": "whole number", "manual:01": "whole number", "manual:+1": "whole number",
		">a:1": "empty", "a>:1": "empty", ":1": "empty", "a>*>b:1": "only be the last", "a-b:1": "other characters", "ä:1": "other characters",
	} {
		_, _, err := ParseWorkloops(in)
		var werr *WorkloopError
		if !errors.As(err, &werr) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", in, err, want)
		}
	}
}
