package differential

import (
	"strings"
	"testing"
)

// TestDifferences shows both sides of what docs/openfn-differences.md lists: a
// difference that is gone, on either side, fails here and leaves the page.
func TestDifferences(t *testing.T) {
	nodePackages(t, ".")
	nodePackages(t, workerFolder)
	one := func(source string) object {
		return object{"workflow": object{"steps": []any{object{"id": "a", "expression": source}}}}
	}
	returning := func(value string) object { return one("export default [(s) => (" + value + ")];") }
	throwing := func(value string) object { return one("export default [(s) => { throw " + value + "; }];") }
	cases := []struct {
		name  string
		plan  object
		input any
		// reference and millrace are parts of what each makes of it, as JSON:
		// the final state, or the error's name and message.
		reference, millrace string
	}{
		{"private keys", returning("{ _p: 1, b: 2 }"), object{}, `"_p":1`, `{"b":2}`},
		{"changes of a failed step", one("export default [(s) => { s.data.x = 1; throw new Error('no'); }];"), object{}, `"data":{"x":1}`, `"data":{}`},
		{"cycles", one("export default [(s) => { const x = {}; x.x = x; return { x }; }];"), object{}, `{"x":{"x":"[Circular]"}}`, `state.x.x`},
		{"BigInt", returning("{ n: 5n }"), object{}, `unable to serialize`, `state.n`},
		{"a Map at the top", returning("{ m: new Map([[1, 2]]), b: 1 }"), object{}, `"m":{}`, `{"b":1}`},
		{"frozen", returning("Object.freeze({ b: 1, configuration: {} })"), object{}, `TypeError`, `{"b":1}`},
		{"no prototype", returning("Object.assign(Object.create(null), { b: 1 })"), object{}, `TypeError`, `{"b":1}`},
		{"null before a step without code", object{"workflow": object{"steps": []any{object{"id": "a"}}}}, nil, `{"configuration":{},"data":{}}`, `null`},
		{"crash", returning("nowhere"), object{}, `RuntimeCrash: ReferenceError: nowhere is not defined`, `ReferenceError: ReferenceError: nowhere is not defined`},
		{"named function", one("const helper = () => { throw new Error('no'); };\nexport default [(s) => helper()];"), object{}, `"name":"AdaptorError"`, `"name":"JobError"`},
		{"a number thrown", throwing("5"), object{}, `"message":""`, `"message":"5"`},
		{"an empty message", throwing("new Error('')"), object{}, `"message":""`, `"message":"Error"`},
		{"null thrown", throwing("null"), object{}, `TypeError`, `"name":"JobError"`},
		{"subtype", throwing("new Error('x')"), object{}, `"name":"JobError"`, `"subtype":"Error"`},
		{"exports", one("export const x = 1;"), object{}, `InvalidExportsError`, `{"data":{}}`},
		{"bad operation", one("export default [5];"), object{}, `InvalidOperationError`, `ValidationError: Invalid operation at statement 0`},
		{
			"a text on its way", object{"workflow": object{"steps": []any{
				object{"id": "a", "expression": "export default [(s) => 'ab'];", "next": "b"},
				object{"id": "b", "expression": "export default [(s) => s];"},
			}}}, object{},
			`{"0":"a","1":"b","data":{}}`, `{"data":{}}`,
		},
		{
			"a condition that changes the state", object{"workflow": object{"steps": []any{
				object{"id": "a", "expression": "export default [(s) => ({ n: 1 })];", "next": object{"b": "state.n = 2"}},
				object{"id": "b", "expression": "export default [(s) => ({ n: s.n })];"},
			}}}, object{},
			`{"n":2}`, `{"n":1}`,
		},
		{
			"a condition that is none", object{"workflow": object{"steps": []any{
				object{"id": "a", "next": object{"b": "state ++ 1"}}, object{"id": "b"},
			}}}, object{},
			`Failed to compile edge condition`, `InvalidError`,
		},
	}
	flows := make([]flow, len(cases))
	for i, c := range cases {
		flows[i] = flow{Plan: c.plan, Input: c.input}
	}
	want := onReference(t, flows, object{"raw": true})
	eng := newEngine(t, "")
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if text := shown(want[i]); !strings.Contains(text, c.reference) {
				t.Errorf("the reference: %s\nnot %s", text, c.reference)
			}
			if text := shown(onMillrace(t, eng, flows[i])); !strings.Contains(text, c.millrace) || strings.Contains(text, c.reference) && !strings.Contains(c.millrace, c.reference) && c.name != "subtype" {
				t.Errorf("millrace: %s\nnot %s", text, c.millrace)
			}
		})
	}
}

func shown(o outcome) string {
	if o.Error != nil {
		return o.Error.Name + ": " + o.Error.Message
	}
	return unescape(js(o.State))
}
