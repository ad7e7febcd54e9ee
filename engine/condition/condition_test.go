package condition

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/millrace/millrace/ipc/jsonscan"
)

// document is a State made from JSON text.
type document struct {
	kind Kind
	keys []string
	rows map[string]Row
}

func (d *document) Kind() Kind     { return d.kind }
func (d *document) Keys() []string { return d.keys }
func (d *document) Row(key string) (Row, bool) {
	row, ok := d.rows[key]
	return row, ok
}

// stateOf splits a document as the engine does; "" is an absent state.
func stateOf(t testing.TB, doc string) *document {
	t.Helper()
	d := &document{rows: map[string]Row{}}
	if doc == "" {
		return d
	}
	outline, err := jsonscan.Top([]byte(doc), jsonscan.Options{})
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	d.kind = Value
	if outline.Kind == jsonscan.Object {
		d.kind = Object
	}
	for _, m := range outline.Members {
		d.keys = append(d.keys, m.Key)
		d.rows[m.Key] = Row{Data: io.NewSectionReader(strings.NewReader(doc), m.Offset, m.Length), Size: m.Length}
	}
	if d.kind == Value {
		d.keys = nil
	}
	return d
}

// sample is the state of most tests.
const sample = `{"data":{"items":[{"name":"w","n":1},{"name":"x","n":2.5},[],{"name":"x"}],"2":"two","1":"one","":0,
"s":"a\u00e9😀","t":true,"f":false,"z":null,"neg":-0,"big":1e400,"dup":1,"dup":2,"__proto__":"own"},
"list":[3,1,2],"errors":{"a":{"message":"no"}},"references":[]}`

// both answers a condition with and, for the simple ones, without the small
// evaluator, and wants the same.
func both(t *testing.T, expr, doc string) (bool, error) {
	t.Helper()
	c, err := Compile(expr)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Eval(context.Background(), stateOf(t, doc), Upstream{StepID: "a"})
	if c.simple != nil {
		slow := *c
		slow.simple = nil
		same, slowErr := slow.Eval(context.Background(), stateOf(t, doc), Upstream{StepID: "a"})
		if same != got || (err == nil) != (slowErr == nil) || err != nil && err.Error() != slowErr.Error() {
			t.Errorf("%s: small evaluator %v %v, goja %v %v", expr, got, err, same, slowErr)
		}
	}
	return got, err
}

func TestTrue(t *testing.T) {
	for _, expr := range []string{
		`always`, ` on_job_failure `, `on_upstream_fail`, `true`, `1`, `'x'`, `!false`, `state.errors`, `!state.absent`,
		`state.list.length > 0`, `state.list.length === 3`, `state.list['length'] == 3`, `state.list[0] === 3 && state.list[2] !== 3`,
		`state.data.items[3].name === 'x'`, `state.data.items[0]["name"] < 'x'`, `state.data.items[1].n >= 2.5`,
		`state.data.items[9] === undefined`, `state.list[-1] === undefined`, `state.list['01'] === undefined`, `state.list[1.5] === undefined`,
		`state.data.t`, `!state.data.f`, `state.data.z === null`, `state.data.z == undefined`, `state.data.nothing == null`,
		`state.data.s === 'aé😀'`, `state.data.s.length === 4`, `state.data.items[0].name.length === 1`,
		`1 / state.data.neg === -Infinity`, `state.data.big === Infinity`, `state.data.dup === 2`, `state.data[''] === 0`,
		`state.data.__proto__ === 'own'`, `state.__proto__ === Object.prototype`, `state.toString() === '[object Object]'`,
		`state?.nothing?.more.and.more === undefined`, `state.data?.items?.[0]?.name`, `(state.nothing ?? 7) === 7`,
		`upstreamStepId === 'a'`, `state.errors[upstreamStepId]`, `state.errors[upstreamStepId].message === 'no'`,
		`state.data.items[0] !== state.data.items[1]`, `state.data.items === state.data.items`, `state.data !== null`, `state.data !== 'x'`,
		`Object.keys(state).join() === 'data,list,errors,references'`,
		`Object.keys(state.data).join() === '1,2,items,,s,t,f,z,neg,big,dup,__proto__'`,
		`'list' in state && !('x' in state) && 'name' in state.data.items[0]`, `state.hasOwnProperty('data')`, `Object.hasOwn(state.data, 'dup')`,
		`Array.isArray(state.list) && !Array.isArray(state.data)`, `typeof state === 'object' && typeof state.data.items === 'object'`,
		`state.list.map(x => x * 2).join('-') === '6-2-4'`, `state.list.includes(2) && state.list.indexOf(2) === 2`,
		`state.data.items.filter(i => i.name === 'x').length === 2`, `state.data.items.some(i => i.n > 2)`,
		`state.list.reduce((a, b) => a + b) === 6`, `[...state.list].sort().join('') === '123'`, `Math.max(...state.list) === 3`,
		`(() => { let s = 0; for (const x of state.list) s += x; return s === 6 })()`,
		`(() => { let s = ''; for (const k in state.errors) s += k; return s === 'a' })()`,
		`(() => { const { list: [first], ...rest } = state; return first === 3 && Object.keys(rest).length === 3 })()`,
		`JSON.stringify(state.data.items[0]) === '{"name":"w","n":1}'`, `JSON.stringify(state.list) === '[3,1,2]'`,
		`JSON.stringify(state.data) === '{"1":"one","2":"two","items":[{"name":"w","n":1},{"name":"x","n":2.5},[],{"name":"x"}],"":0,"s":"aé😀","t":true,"f":false,"z":null,"neg":0,"big":null,"dup":2,"__proto__":"own"}'`,
		`Object.entries(state.errors)[0][1].message === 'no'`, `String(state.list) === '3,1,2'`, `state.list == '3,1,2'`,
		`state.list.slice(-1)[0] === 2 && state.list.at(-1) === 2`, `state.data.items.find(i => i.n === 2.5).name === 'x'`,
		`JSON.parse('{"a":[1]}').a[0] === 1`, `/^x$/.test(state.data.items[1].name)`, `/(?=x)x/.test(state.data.items[1].name)`,
		`(state.x = 1, state.x === 1 && Object.keys(state).pop() === 'x' && 'x' in state)`,
		`(delete state.list, !('list' in state) && state.list === undefined && !Object.keys(state).includes('list'))`,
		`(delete state.data, state.data = 1, Object.keys(state).join() === 'list,errors,references,data')`,
		`(state.list.push(9), state.list.length === 4 && state.list[3] === 9 && state.list.pop() === 9 && state.list.length === 3)`,
		`state.list.sort()[0] === 1 && state.list[2] === 3`, `state.list.reverse().join() === '2,1,3'`,
		`(state.list.length = 1, state.list.length === 1 && state.list[1] === undefined)`,
		`(state.data.items[0].name = 'changed', state.data.items[0].name === 'changed')`,
		`(console.log(state), true)`, `(() => 1) instanceof Function`, `typeof require === 'undefined' && typeof process === 'undefined'`,
		`state.list.length > 0;`, `true // because`, "state.list.length\n  > 0", `({}).a === undefined`, `state.list.length ? 1 : 0`,
		`'ab'.repeat(2) === 'abab' && 'a'.padStart(2) === ' a'`, `this !== 1`,
		`[].constructor === Array && [] instanceof Array && Array(3).length === 3 && new Array(1, 2).length === 2 && Array.of(1)[0] === 1`,
		`[3, 1].sort().map(x => x + 1).join() === '2,4' && Array.from('ab').length === 2 && Math.max.apply(null, [1, 2]) === 2`,
		`(() => { class A extends Array {} return new A(1, 2).length === 2 })()`, `state.data.items[0].constructor === Object`,
	} {
		if got, err := both(t, expr, sample); err != nil || !got {
			t.Errorf("%s: %v, %v", expr, got, err)
		}
	}
}

func TestFalse(t *testing.T) {
	for _, expr := range []string{
		`on_job_success`, `on_upstream_success`, `!state.errors`, `false`, `0`, `NaN`, `null`, `undefined`, `''`, `state.data['']`, `state.data.f`, `state.data.z`,
		`state.references.length`, `state.data.neg`, `state.list.length < 3`, `state.list.length <= 2.5`, `state.list[0] > 3`,
		`state.data.items[0].name >= 'x'`, `state.data.t === 1`, `state.list === 3`, `state.data.z === undefined`,
		`state.data.items[2].length`, `state.data.items[3].n`, `state.data.dup === 1`, `upstreamStepId === 'b'`, `state.errors.b`, `void 0`,
	} {
		if got, err := both(t, expr, sample); err != nil || got {
			t.Errorf("%s: %v, %v", expr, got, err)
		}
	}
}

func TestOtherStates(t *testing.T) {
	for _, c := range []struct {
		doc, expr string
		want      bool
	}{
		{``, `state === undefined`, true}, {``, `on_job_success`, true}, {``, `on_job_failure`, false}, {``, `always`, true},
		{`null`, `state === null`, true}, {`null`, `on_job_success`, true}, {`null`, `on_job_failure`, false},
		{`[1,2]`, `state.length === 2 && Array.isArray(state)`, true}, {`[1,2]`, `state[1] === 2`, true}, {`[1,2]`, `!state.errors`, true},
		{`"text"`, `state.length === 4`, true}, {`"text"`, `on_job_success`, true}, {`12`, `state > 11`, true}, {`12`, `!state.errors`, true},
		{`{}`, `state`, true}, {`{}`, `!state.errors`, true}, {`{}`, `on_job_success`, true},
		{`{"errors":{}}`, `!state.errors`, false}, {`{"errors":{}}`, `on_job_success`, true}, {`{"errors":{"b":1}}`, `on_job_failure`, false},
		{`{"errors":null}`, `on_job_success`, true}, {`{"errors":{"a":{}}}`, `on_job_failure`, true},
	} {
		if got, err := both(t, c.expr, c.doc); err != nil || got != c.want {
			t.Errorf("%s over %q: %v, %v", c.expr, c.doc, got, err)
		}
	}
}

func TestThrows(t *testing.T) {
	for _, c := range []struct{ doc, expr, message string }{
		{``, `state.data`, "TypeError: Cannot read property 'data' of undefined"},
		{`null`, `state.data`, "TypeError: Cannot read property 'data' of"},
		{sample, `state.a.b`, "TypeError: Cannot read property 'b' of undefined"},
		{sample, `nothing`, "ReferenceError: nothing is not defined"},
		{sample, `state.list()`, "TypeError"},
		{sample, `(() => { throw new Error('mine') })()`, "Error: mine"},
		{sample, `(() => { throw 'text' })()`, "text"},
		{sample, `(() => { throw { toString() { throw 1 } } })()`, ""},
		{sample, `eval('1')`, "EvalError: Code generation from strings disallowed"},
		{sample, `new Function('return 1')()`, "EvalError"},
		{sample, `(() => 1).constructor('return 1')()`, "EvalError"},
		{sample, `(function* () {}).constructor('return 1')()`, "EvalError"},
		{sample, `(async () => 1).constructor('return 1')()`, "EvalError"},
		{sample, `(() => { const f = () => f(); return f() })()`, "RangeError"},
		{sample, `'x'.repeat(1e9)`, "RangeError: Invalid string length"},
		{sample, `'x'.padEnd(1e9)`, "RangeError: Invalid string length"},
		{sample, `JSON.parse('['.repeat(100000))`, "SyntaxError"},
		{sample, `''['rep' + 'eat'].call('x', 1e9)`, "RangeError: Invalid string length"},
		{sample, `((f) => f.call('x', 1e9))(Object.getOwnPropertyDescriptor(String.prototype, 'rep'+'eat').value)`, "RangeError"},
		{sample, `(({ ['rep' + 'eat']: f }) => f.call('x', 1e9))('')`, "RangeError"},
		{sample, `''.rep\u0065at.call('x', 1e9)`, "RangeError"},
		{sample, `globalThis['ev' + 'al']('1')`, "EvalError"},
		{sample, `Array(1e9)`, "RangeError: Invalid array length"},
		{sample, `new Array(1e9)`, "RangeError: Invalid array length"},
		{sample, `[].constructor(1e9)`, "RangeError: Invalid array length"},
		{sample, `(() => { const a = []; a.length = 1e9; return a.fill(0) })()`, "RangeError: Invalid array length"},
		{sample, `(() => { const a = []; a[999999999] = 1; return [...a] })()`, "RangeError: Invalid array length"},
		{sample, `Array.from({ length: 1e9 })`, "RangeError: Invalid array length"},
		{sample, `[].map.call({ 'length': 1e9 }, x => x)`, "RangeError: Invalid array length"},
		{sample, `Math.max.apply(null, { length: 1e9 })`, "RangeError: Invalid array length"},
		{sample, `new ArrayBuffer(1e10)`, "ReferenceError"},
		{sample, `new Uint8Array(1e10)`, "ReferenceError"},
		{sample, `BigInt(1)`, "ReferenceError"},
	} {
		_, err := both(t, c.expr, c.doc)
		var thrown *EvalError
		if !errors.As(err, &thrown) || thrown.Condition != c.expr || !strings.Contains(thrown.Message, c.message) {
			t.Errorf("%s: %v", c.expr, err)
		}
	}
}

func TestCompileRejects(t *testing.T) {
	for _, c := range []struct {
		expr         string
		line, column int
	}{
		{``, 1, 1}, {` `, 1, 1}, {`state.`, 1, 7}, {`state.a ==== 1`, 1, 12}, {`  a b`, 1, 5}, {"true &&\n  )", 2, 3},
		{`(1`, 1, 3}, {`1}) || (function(){return 1`, 1, 1}, {`1}, function(){return 1`, 1, 1}, {`1});(function(){`, 1, 1},
		{`if (x) 1`, 1, 1}, {`'abc`, 1, 1}, {"// why\ntrue", 1, 1}, {strings.Repeat(`!`, MaxExpression+1), 1, MaxExpression + 1},
		{`/* open`, 1, 8}, {`2n ** (2n ** 40n)`, 1, 1}, {`1n << 99999999999n`, 1, 1},
	} {
		_, err := Compile(c.expr)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.Line != c.line || syntax.Column != c.column {
			t.Errorf("%.40q: %v, want line %d, column %d", c.expr, err, c.line, c.column)
		}
	}
	if a, _ := Compile(`state.x`); a == nil {
		t.Error("not compiled")
	} else if b, _ := Compile(`state.x`); a != b || a.String() != `state.x` {
		t.Error("not remembered")
	}
}
