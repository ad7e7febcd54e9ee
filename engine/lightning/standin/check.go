package standin

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker takes the fields out of one message and notes what is wrong with
// them. s.mu is held as long as it is used.
type checker struct {
	s        *Server
	conn     *conn
	m        *message
	r        *run // of the topic, or nil
	used     []string
	problems int
}

// topic acts on the message.
func (k *checker) topic() *reply {
	if k.m.fields == nil {
		k.bad("its payload is %.40s: it must be an object", k.m.payload)
		return refuse("invalid payload")
	}
	if k.m.topic == queueTopic {
		return k.queue()
	}
	if k.r = k.s.run(k.m.topic); k.r == nil {
		k.bad("there is no such topic")
		return refuse("unmatched topic")
	}
	return k.channel()
}

func (k *checker) bad(format string, args ...any) {
	k.problems++
	k.s.violate(Violation{Conn: k.conn.n, Topic: k.m.topic, Event: k.m.event, Text: fmt.Sprintf(format, args...)})
}

// take returns a field's text; ok is false where it is absent.
func (k *checker) take(name string) (json.RawMessage, bool) {
	k.used = append(k.used, name)
	text, ok := k.m.fields[name]
	return text, ok
}

// rest complains about fields that nothing asked for.
func (k *checker) rest() {
	for name := range k.m.fields {
		if !slices.Contains(k.used, name) {
			k.bad("it has a field %q that it must not have", name)
		}
	}
	for name := range k.m.clips {
		if !slices.Contains(k.used, name) {
			k.bad("it has a field %q that it must not have", name)
		}
	}
}

// want reports a field's text; it must be there and not null.
func (k *checker) want(name, what string) (json.RawMessage, bool) {
	text, ok := k.take(name)
	if !ok || string(text) == "null" {
		k.bad("%s is missing: it must be %s", name, what)
		return nil, false
	}
	return text, true
}

func (k *checker) text(name string) string {
	text, ok := k.want(name, "a string")
	return k.asText(name, text, ok)
}

// optional is a string that may be absent; present, it must be one.
func (k *checker) optional(name string) string {
	text, ok := k.take(name)
	return k.asText(name, text, ok)
}

func (k *checker) asText(name string, text json.RawMessage, ok bool) (s string) {
	if ok && (text[0] != '"' || json.Unmarshal(text, &s) != nil) {
		k.bad("%s is %.80s: it must be a string", name, text)
	} else if ok && s == "" {
		k.bad("%s is empty", name)
	}
	return s
}

// nullable is a string or null, and must be there.
func (k *checker) nullable(name string) string {
	text, ok := k.take(name)
	if !ok {
		k.bad("%s is missing: it must be a string or null", name)
	}
	if !ok || string(text) == "null" {
		return ""
	}
	return k.asText(name, text, true)
}

func (k *checker) uuid(name string) string {
	s := k.text(name)
	if s != "" && !isUUID(s) {
		k.bad("%s is %q: it must be a UUID", name, s)
	}
	return s
}

func (k *checker) integer(name string) int64 {
	text, ok := k.want(name, "a whole number")
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 {
		k.bad("%s is %.80s: it must be a whole number, not negative", name, text)
	}
	return n
}

func (k *checker) number(name string) float64 {
	text, ok := k.want(name, "a number")
	if !ok {
		return 0
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || n < 0 || math.IsInf(n, 0) {
		k.bad("%s is %.80s: it must be a number, not negative", name, text)
	}
	return n
}

func (k *checker) object(name string, required bool) map[string]json.RawMessage {
	text, ok := k.take(name)
	if !ok && !required {
		return nil
	}
	var m map[string]json.RawMessage
	if !ok || json.Unmarshal(text, &m) != nil || m == nil {
		k.bad("%s is %.80s: it must be an object", name, text)
	}
	return m
}

// maxSkew is how far a worker's clock may be from this one.
const maxSkew = 24 * time.Hour

// stamp is microseconds as decimal digits in a string.
func (k *checker) stamp(name string) time.Time {
	return k.asStamp(name, k.text(name))
}

func (k *checker) asStamp(name, s string) time.Time {
	if s == "" {
		return time.Time{} // reported
	}
	us, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strings.TrimLeft(s, "0123456789") != "" {
		k.bad("%s is %q: it must be microseconds in decimal digits", name, s)
		return time.Time{}
	}
	t := time.UnixMicro(us)
	if d := time.Since(t); d > maxSkew || d < -maxSkew {
		k.bad("%s is %q, which is %v: not of today, are these microseconds?", name, s, t.UTC())
	}
	return t
}

// oneOf is a string that must be one of the words.
func (k *checker) oneOf(name string, words ...string) string {
	s := k.text(name)
	if s != "" && !slices.Contains(words, s) {
		k.bad("%s is %q: it must be one of %s", name, s, strings.Join(words, ", "))
	}
	return s
}

var reasons = []string{"success", "fail", "crash", "kill", "exception", "cancel"}

// reason takes the three fields that say how something ended.
func (k *checker) reason() (reason, kind, message string) {
	reason, kind, message = k.oneOf("reason", reasons...), k.nullable("error_type"), k.nullable("error_message")
	if reason == "success" && (kind != "" || message != "") {
		k.bad("a success has an error: %s %s", kind, message)
	}
	if reason != "" && reason != "success" && kind == "" {
		k.bad("a %s has no error_type", reason)
	}
	return reason, kind, message
}
