package lightning

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

const credential = `{"username":"alice","password":"p\"ss\nword","baseUrl":"https://example.org","pin":1234,"deep":{"list":["token-1","token-1-long"]},"on":true,"s":"abc"}`

func TestScrubber(t *testing.T) {
	var s scrubber
	if got := s.text("token-1"); got != "token-1" {
		t.Errorf("an empty scrubber changed %q", got)
	}
	s.addCredential(json.RawMessage(credential))
	s.addCredential(json.RawMessage(`not json`))
	for in, want := range map[string]string{
		"login alice at https://example.org, abc": "login alice at https://example.org, abc",
		"p\"ss\nword":                "***",
		`p\"ss\nword`:                "***",
		"token-1-long and token-1":   "*** and ***",
		"Basic YWxpY2U6cCJzcwp3b3Jk": "Basic ***",
		"code 1234":                  "code ***",
	} {
		if got := s.text(in); got != want {
			t.Errorf("%q became %q, not %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		`["p\"ss\nword",1]`:         `["***",1]`,
		`[1234,{"token-1":12345}]`:  `["***",{"***":"***5"}]`,
		`{"a":[{"b":"a token-1"}]}`: `{"a":[{"b":"a ***"}]}`,
	} {
		if got := s.json(in); got != want {
			t.Errorf("%s became %s, not %s", in, got, want)
		}
	}
}

func line(t *testing.T, l *logger, source, level, message string, structured bool) (string, bool) {
	t.Helper()
	out, ok := l.line(&engine.LogLine{Time: time.UnixMicro(5), Source: source, Level: level, Message: message, Structured: structured}, "s")
	if ok && !json.Valid(out.Message) {
		t.Errorf("%s: not JSON", out.Message)
	}
	return out.Source + " " + out.Level + " " + string(out.Message), ok
}

func TestLogLines(t *testing.T) {
	var s scrubber
	s.add("secret")
	for _, c := range []struct {
		policy, source, level, message string
		structured                     bool
		want                           string
	}{
		{"", "job", "info", `["a",1,{"b":[2]}]`, true, `JOB info ["a",1,{"b":[2]}]`},
		{"", "job", "log", "plain \"text\"", false, `JOB info ["plain \"text\""]`},
		{"", "adaptor", "warn", `["the secret"]`, true, `ADA warn ["the ***"]`},
		{"", "runtime", "trace", `"x"`, true, `R/T debug ["x"]`},
		{"", "stderr", "warning", "x", false, `R/T warn ["x"]`},
		{"", "job", "fatal", `{"msg":"x"}`, true, `JOB error [{"msg":"x"}]`},
		{"", "job", "info", `not json`, true, `JOB info ["not json"]`},
		{"", "job", "info", `not "configuration" json`, true, `JOB info ["not \"configuration\" json"]`},
		{"", "job", "info", `["a",{"data":1,"configuration":{"p":"x"}}]`, true, `JOB info ["a",{"configuration":{"p":"****"},"data":1}]`},
		{"none", "job", "info", `[{"configuration":{"p":"x"}}]`, true, `JOB info [{"configuration":{"p":"****"}}]`},
		{"remove", "job", "info", `["a",{"x":1},[1]]`, true, `JOB info ["a",null,null]`},
		{"obfuscate", "job", "info", `["a",{"x":1},[1]]`, true, `JOB info ["a","[object]","[array]"]`},
		{"summarize", "job", "info", `["a",{"y":1,"x":1},[1,2],[],{}]`, true, `JOB info ["a","(object with keys x, y)","(array with 2 items)","(empty array)","(empty object)"]`},
	} {
		l := newLogger(&converted{sanitize: c.policy}, &s)
		if got, ok := line(t, l, c.source, c.level, c.message, c.structured); got != c.want || !ok {
			t.Errorf("%+v:\ngot  %s", c, got)
		}
	}
	l := newLogger(&converted{logLevel: "warn", limits: Limits{LogPayload: 1 << 20}}, &s)
	for level, want := range map[string]bool{"debug": false, "info": false, "success": true, "warn": true, "error": true} {
		if _, ok := line(t, l, "job", level, "x", false); ok != want {
			t.Errorf("level %s: %v", level, ok)
		}
		if _, ok := line(t, l, "adaptor", level, "x", false); !ok {
			t.Errorf("an adaptor's line of level %s was dropped", level)
		}
	}
	if got, _ := line(t, l, "job", "error", strings.Repeat("x", 1<<20+1), false); got != `JOB error ["(Log message redacted: exceeds 1mb memory limit)"]` {
		t.Errorf("a large line became %.100s", got)
	}
	if got, _ := line(t, l, "job", "error", strings.Repeat("\n", 1<<19+1000), false); !strings.Contains(got, "redacted") {
		t.Errorf("a line that escaping made large became %.100s", got)
	}
}
