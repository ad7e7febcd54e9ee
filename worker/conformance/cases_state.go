package conformance

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/ipc"
	"github.com/millrace/millrace/shm"
)

// transform is a case of one step on one state.
type transform struct {
	name, about string
	step        string
	in          string                  // a document; "" is the absent state
	make        func(*check) ipc.Table  // in its place
	want        string                  // the result by value; "" is the absent state
	verify      func(*check, ipc.Table) // in its place
	// kept are the keys that must be passed on as the same references.
	kept []string
	// writes: false is that no block may be published.
	writes bool
	// anyOrder: languages may order keys that look like numbers first.
	anyOrder bool
	drop     []string
}

const added = `{"list":[1,2,3],"text":"a\"b\\c\u0001é😀"}`

// opaque are rows that no step of these cases may look at: they hold no JSON.
func opaque(c *check) ipc.Table {
	return object(
		c.row("raw", shm.Raw, "\x00\xff\xfe not text"),
		c.row("arrow", shm.ArrowStream, "\xff\xff\xff\xff\x10\x00\x00\x00 no arrow inside", " and a second span"),
		ipc.Row{Key: "empty", Spans: []shm.Ref{{Segment: c.row("", shm.Raw, "x").Spans[0].Segment, Encoding: shm.Raw}}},
	)
}

var transforms = []transform{
	{
		name: "identity", about: "what no step touches is passed on: same references, nothing written", step: "identity",
		make: func(c *check) ipc.Table { return c.document(untouched) }, want: untouched,
		kept: []string{"data", "text", "large", "n"},
	},
	{name: "empty-object", about: "an object without keys stays one", step: "identity", in: `{}`, want: `{}`},
	{
		name: "empty-object-set", about: "a key is set in an object without keys", step: "set",
		in: `{}`, want: `{"added":` + added + `}`, writes: true,
	},
	{name: "absent", about: "no state stays no state", step: "identity"},
	{name: "absent-fresh", about: "an object is made where there was no state", step: "fresh", want: `{"fresh":true}`, writes: true},
	{name: "bare-array", about: "a bare array stays one", step: "identity", in: `[1,[2],"three"]`, want: `[1,[2],"three"]`, writes: true},
	{name: "bare-text", about: "a bare text stays one", step: "identity", in: `"just text"`, want: `"just text"`, writes: true},
	{name: "bare-number", about: "a bare number stays one", step: "identity", in: `12.5`, want: `12.5`, writes: true},
	{name: "bare-fresh", about: "an object takes the place of a bare value", step: "fresh", in: `[1]`, want: `{"fresh":true}`, writes: true},
	{name: "value", about: "a bare value takes the place of an object", step: "value", in: `{"a":1}`, want: `[1,2,3]`, writes: true},
	{name: "nothing", about: "a step that returns nothing leaves no state", step: "nothing", in: `{"a":1}`},
	{
		name: "set", about: "a new key goes to the end, escaped as it must be; the others stay", step: "set",
		in: `{"b":{"x":1},"a":[1]}`, want: `{"b":{"x":1},"a":[1],"added":` + added + `}`, kept: []string{"a", "b"}, writes: true,
	},
	{
		name: "set-again", about: "a key that is there keeps its place", step: "set",
		in: `{"a":1,"added":"old","b":2}`, want: `{"a":1,"added":` + added + `,"b":2}`, kept: []string{"a", "b"}, writes: true,
	},
	{
		name: "delete", about: "a key is deleted; nothing is written", step: "delete",
		in: `{"a":1,"gone":{"x":1},"b":2}`, want: `{"a":1,"b":2}`, kept: []string{"a", "b"},
	},
	{
		name: "rename", about: "a value moves to another key", step: "rename",
		in: `{"from":{"deep":[1,{"x":"é"}]},"a":1}`, want: `{"a":1,"to":{"deep":[1,{"x":"é"}]}}`, kept: []string{"a"}, writes: true,
	},
	{
		name: "mutate", about: "a change deep inside a key is seen", step: "mutate",
		in: `{"a":"A","data":{"nested":{"n":41,"more":[{}]},"list":[1]}}`, want: `{"a":"A","data":{"nested":{"n":42,"more":[{}]},"list":[1]}}`,
		kept: []string{"a"}, writes: true,
	},
	{
		name: "read-only", about: "a key that is only read is not written again", step: "read",
		make: func(c *check) ipc.Table { return c.document(`{"a":1,"read":` + thousand + `}`) },
		want: `{"a":1,"read":` + thousand + `}`, kept: []string{"a", "read"},
	},
	{
		name: "copy", about: "a value is at two keys", step: "copy",
		in: `{"value":{"a":["é\n",-0.5,1e3,false,null,""]}}`, want: `{"value":{"a":["é\n",-0.5,1e3,false,null,""]},"copy":{"a":["é\n",-0.5,1e3,false,null,""]}}`, writes: true,
	},
	{
		name: "copy-nested", about: "a value nested 200 deep is decoded and encoded", step: "append",
		in:   `{"value":[` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `]}`,
		want: `{"value":[` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `,"end"]}`, writes: true,
	},
	{
		name: "rope-kept", about: "a value in several spans is passed on as it is", step: "set",
		make: rope, want: `{"value":[1,"é",{"k":2}],"added":` + added + `}`, kept: []string{"value"}, writes: true,
	},
	{
		name: "rope-decode", about: "a value in several spans, cut inside a character, is decoded", step: "append",
		make: rope, want: `{"value":[1,"é",{"k":2},"end"]}`, writes: true,
	},
	{
		name: "opaque", about: "raw and Arrow rows, of no bytes too, are passed on", step: "set",
		make: func(c *check) ipc.Table { return join(c.document(`{"a":1}`), opaque(c)) },
		verify: func(c *check, t ipc.Table) {
			row, _ := t.Get("added")
			c.wantValue(row, added)
		},
		kept: []string{"a", "raw", "arrow", "empty"}, writes: true,
	},
	{
		name: "keys", about: "a step sees the keys, in order", step: "keys",
		in: `{"b":1,"a":2,"c":3}`, want: `{"b":1,"a":2,"c":3,"keys":["b","a","c"]}`, writes: true,
	},
	{
		name: "keys-odd", about: "keys of any text: empty, escaped, beyond the BMP, alike, names of built-ins", step: "keys",
		make: func(c *check) ipc.Table { return c.document(oddKeys(false)) }, want: oddKeys(true), writes: true,
	},
	{
		name: "keys-numeric", about: "keys that look like numbers", step: "set",
		in: `{"10":"a","2":"b","-1":"c","1.5":"d","007":"e"}`, want: `{"10":"a","2":"b","-1":"c","1.5":"d","007":"e","added":` + added + `}`,
		kept: []string{"10", "2", "-1", "1.5", "007"}, writes: true, anyOrder: true,
	},
	{
		name: "keys-twice", about: "of a key that stands twice in a document the last value counts", step: "copy",
		in: `{"value":"first","a":1,"value":"last"}`, want: `{"value":"last","a":1,"copy":"last"}`, kept: []string{"a"}, writes: true,
	},
	{
		name: "keys-many", about: "an object of 5000 keys: a frame that is larger than the ring takes", step: "set",
		make: func(c *check) ipc.Table { return c.document(manyKeys("")) }, want: manyKeys(`,"added":` + added), kept: []string{"key 0", "key 4999"}, writes: true,
	},
	{
		name: "private-kept-out", about: "private keys and those of the welcome's list are dropped, also untouched ones", step: "identity",
		in: `{"_secret":1,"__proto__":{"polluted":true},"a":1,"configuration":{"x":1},"response":2}`, want: `{"a":1}`, kept: []string{"a"},
		drop: []string{"configuration", "response"},
	},
	{
		name: "private-set", about: "private keys that a step sets are dropped", step: "private",
		in: `{"a":1,"configuration":{"x":1}}`, want: `{"a":1,"kept":true}`, kept: []string{"a"}, writes: true,
		drop: []string{"configuration", "response"},
	},
	{
		name: "large", about: "a value of 8 MiB has a segment of its own", step: "allocate", in: `{"a":1}`, kept: []string{"a"}, writes: true,
		verify: func(c *check, t ipc.Table) { c.wantBig(t) },
	},
}

var untouched = `{"data":{"a":[1,2.5,null,true]},"text":"x","large":` + thousand + `,"n":1}`

var thousand = `{"list":[` + strings.Repeat(`{"id":1,"name":"somebody"},`, 999) + `{}]}`

// rope is a state whose value is cut between tokens, inside a character and
// inside a number's surroundings.
func rope(c *check) ipc.Table {
	return object(c.row("value", shm.JSON, `[1`, ",\"\xc3", "\xa9\"", `,{"k":2`, `}]`))
}

// oddKeys is an object of odd keys; with answer it has also what the step keys
// sets.
func oddKeys(answer bool) string {
	keys := []string{
		"", " ", "a", "A", "a ", "é", "e\u0301", "\U0001f600", "\u2028", "quo\"te", `back\slash`, "new\nline", "nul\x00",
		"constructor", "toString", "hasOwnProperty", "toJSON", "length", "then", "get", "items", "0x10", "true", "null", strings.Repeat("k", 300),
	}
	var members, names []string
	for i, k := range keys {
		members = append(members, fmt.Sprintf("%s:%d", quote(k), i))
		names = append(names, quote(k))
	}
	if answer {
		members = append(members, `"keys":[`+strings.Join(names, ",")+"]")
	}
	return "{" + strings.Join(members, ",") + "}"
}

func manyKeys(more string) string {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, `%s"key %d":%d`, "{,"[min(i, 1):min(i, 1)+1], i, i)
	}
	return b.String() + more + "}"
}

// wantBig checks the outcome of allocate.
func (c *check) wantBig(t ipc.Table) shm.Ref {
	row, ok := t.Get("big")
	if !ok || row.Encoding() != shm.JSON || row.Size() != allocated || len(row.Spans) != 1 {
		c.failf("key big: want one JSON span of %d bytes: %s", allocated, c.text(t))
	}
	if c.value(row) != `"`+strings.Repeat("x", allocated-2)+`"` {
		c.failf("key big is %s", c.text(t))
	}
	return row.Spans[0]
}

func stateCases() []testCase {
	cases := make([]testCase, len(transforms))
	for i, t := range transforms {
		cases[i] = testCase{name: "state/" + t.name, about: t.about, run: t.run}
	}
	return cases
}

func (t transform) run(c *check) {
	s := c.start(how{welcome: ipc.Welcome{DropKeys: t.drop}})
	var in ipc.Table
	if t.make != nil {
		in = t.make(c)
	} else {
		in = c.document(t.in)
	}
	st := c.kind.steps[t.step]
	if st.rewrites && t.name == "opaque" {
		c.skipf("a step of kind %s writes the whole state as JSON", c.kind.name)
	}
	res := s.run(t.step, in)
	if t.verify != nil {
		t.verify(c, res.state)
	} else {
		c.wantState(res.state, t.want, t.anyOrder)
	}
	if st.rewrites {
		return
	}
	c.wantKept(in, res.state, t.kept...)
	if !t.writes && len(res.done.Blocks) > 0 {
		c.failf("nothing was changed and %d blocks were written, the first: %s", len(res.done.Blocks), blockText(res.done.Blocks[0]))
	}
	// Small values may be decoded at once: it costs less than waiting.
	if t.name == "identity" && (res.done.Decoded >= uint64(len(thousand)) || res.done.Encoded > 0) {
		c.failf("no key was touched and done says that %d bytes were decoded and %d encoded", res.done.Decoded, res.done.Encoded)
	}
}
