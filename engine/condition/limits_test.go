package condition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/ipc/jsonscan"
)

func compileFor(t testing.TB, expr string) *Condition {
	t.Helper()
	c, err := Compile(expr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rows is a state of one key, data, with count records.
func records(count int) *document {
	doc := []byte{'['}
	for i := range count {
		doc = fmt.Appendf(doc, `{"id":%d,"name":"record %d","tags":["a","b",{"c":null}]},`, i, i)
	}
	doc[len(doc)-1] = ']'
	return oneRow(doc)
}

func oneRow(doc []byte) *document {
	return &document{kind: Object, keys: []string{"data"}, rows: map[string]Row{
		"data": {Data: bytes.NewReader(doc), Size: int64(len(doc))},
	}}
}

func TestLazy(t *testing.T) {
	const count = 20_000
	state := records(count)
	size := state.rows["data"].Size
	for _, c := range []struct {
		expr          string
		values        int64
		scanned, read int64
		runtime       bool
	}{
		{`always`, 0, 0, 0, false},
		{`on_job_success`, 0, 0, 0, false},
		{`!state.errors`, 0, 0, 0, false},
		{`'data' in state`, 1, 0, 0, true},
		{`Object.keys(state).length === 1`, 1, 0, 0, true},
		{`!!state.data`, 0, 1, 16 << 10, false},
		{`state.data.length === 20000`, 1, size + 1, size, false},
		{`state.data[3].name === 'record 3'`, 1, 500, 16 << 10, false},
		{`state.data[3].name.startsWith('record')`, 4, 700, 16 << 10, true},
		{`state.data.some(r => r.id === 2)`, 8, 2*size + 500, size + 64<<10, true},
		{`state.data.every(r => r.id >= 0)`, 2 + 2*count, 4 * size, 3 * size, true},
	} {
		var stats Stats
		ok, err := compileFor(t, c.expr).EvalWith(context.Background(), state, Upstream{}, Limits{Time: time.Minute}, &stats)
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", c.expr, ok, err)
		}
		if stats.Values != c.values || stats.Scanned > c.scanned || stats.Read > c.read || stats.Runtime != c.runtime {
			t.Errorf("%s: cost %+v, want %+v", c.expr, stats, c)
		}
	}
}

func TestTimeout(t *testing.T) {
	limits := Limits{Time: 30 * time.Millisecond}
	for _, expr := range []string{
		`(() => { for (;;) {} })()`,
		`(() => { for (;;) { try { for (;;) {} } catch (e) {} finally { continue } } })()`,
		`(() => { for (;;) state.data })()`,
		`/(?=x)(x+x+)+y/.test('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx')`,
	} {
		start := time.Now()
		_, err := compileFor(t, expr).EvalWith(context.Background(), records(3), Upstream{}, limits, nil)
		var late *TimeoutError
		if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) || late.Limit < limits.Time || late.Condition != expr {
			t.Errorf("%s: %v", expr, err)
		}
		if time.Since(start) > 10*time.Second {
			t.Errorf("%s: ended after %v", expr, time.Since(start))
		}
	}
}

func TestContext(t *testing.T) {
	endless := compileFor(t, `(() => { for (;;) {} })()`)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := endless.EvalWith(ctx, records(1), Upstream{}, Limits{Time: time.Hour}, nil)
	var late *TimeoutError
	if !errors.As(err, &late) || late.Limit != 0 {
		t.Errorf("deadline: %v", err)
	}
	why := errors.New("the run was cancelled")
	cancelled, stop := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { stop(why) })
	if _, err := endless.EvalWith(cancelled, records(1), Upstream{}, Limits{Time: time.Hour}, nil); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := compileFor(t, `true`).Eval(cancelled, records(1), Upstream{}); !errors.Is(err, why) {
		t.Errorf("cancelled before: %v", err)
	}
	// A scan in the small evaluator ends, too.
	for _, expr := range []string{`state.data.length`, `state.data.map(x => x)`} {
		ctx, cancel := context.WithCancelCause(context.Background())
		state := oneRow(nil)
		state.rows["data"] = Row{Data: endlessArray{func() { cancel(why) }}, Size: 1 << 60}
		_, err := compileFor(t, expr).EvalWith(ctx, state, Upstream{}, Limits{Time: time.Hour}, nil)
		if !errors.Is(err, why) {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// endlessArray is the text of an array that never ends.
type endlessArray struct{ reading func() }

func (e endlessArray) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = "1,"[(off+int64(i)+1)%2]
		if off+int64(i) == 0 {
			p[i] = '['
		}
	}
	if off > 1<<20 {
		e.reading()
	}
	return len(p), nil
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		expr   string
		limits Limits
	}{
		{`JSON.stringify(state.data)`, Limits{Text: 10_000}},
		{`state.data[0].name === 'x'`, Limits{Text: 3}},
		{`(() => { try { return state.data[0].name } catch (e) { return true } })()`, Limits{Text: 3}},
		{`state.data.sort()`, Limits{Items: 100}},
		{`(() => { const all = []; for (;;) all.push([all]) })()`, Limits{Memory: 16 << 20, Time: time.Minute}},
		{`(() => { let s = 'x'; for (;;) s += s })()`, Limits{Memory: 16 << 20, Time: time.Minute}},
	} {
		ok, err := compileFor(t, c.expr).EvalWith(context.Background(), records(1000), Upstream{}, c.limits, nil)
		var limit *LimitError
		if !errors.As(err, &limit) || limit.Size <= limit.Limit {
			t.Errorf("%s: %v, %v", c.expr, ok, err)
		}
	}
	wide := []byte{'{'}
	for i := range 1000 {
		wide = fmt.Appendf(wide, `"key%d":%d,`, i, i)
	}
	wide[len(wide)-1] = '}'
	few := Limits{Items: 10}
	if ok, err := compileFor(t, `(() => state.data.key999 === 999 && !('x' in state.data))()`).EvalWith(context.Background(), oneRow(wide), Upstream{}, few, nil); err != nil || !ok {
		t.Errorf("a member of a wide object: %v, %v", ok, err)
	}
	var limit *LimitError
	if _, err := compileFor(t, `Object.keys(state.data)`).EvalWith(context.Background(), oneRow(wide), Upstream{}, few, nil); !errors.As(err, &limit) || limit.Limit != 10 {
		t.Errorf("the keys of a wide object: %v", err)
	}
}

func TestBrokenState(t *testing.T) {
	broken := oneRow([]byte(`[1,{"a":x}]`))
	for _, expr := range []string{`state.data.length`, `state.data.map(x => x)`, `(() => { try { return state.data.length } catch (e) { return true } })()`, `JSON.stringify(state)`} {
		ok, err := compileFor(t, expr).Eval(context.Background(), broken, Upstream{})
		var unreadable *StateError
		if !errors.As(err, &unreadable) || !strings.Contains(err.Error(), "offset 8") {
			t.Errorf("%s: %v, %v", expr, ok, err)
		}
	}
	short := oneRow([]byte(`[1`))
	short.rows["data"] = Row{Data: short.rows["data"].Data, Size: 100}
	if _, err := compileFor(t, `state.data.length`).Eval(context.Background(), short, Upstream{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short row: %v", err)
	}
}

func TestOpaque(t *testing.T) {
	state := stateOf(t, `{"a":1}`)
	state.keys = append(state.keys, "table")
	state.rows["table"] = Row{Encoding: "arrow", Size: 1234}
	for _, expr := range []string{
		`state.table`, `state.table.length === 1234`, `state.table.encoding === 'arrow'`, `String(state.table) === '[arrow]'`,
		`JSON.stringify(state) === '{"a":1,"table":"[arrow]"}'`, `Object.keys(state.table).join() === 'encoding,length'`, `!state.table.rows`,
	} {
		if ok, err := compileFor(t, expr).Eval(context.Background(), state, Upstream{}); err != nil || !ok {
			t.Errorf("%s: %v, %v", expr, ok, err)
		}
	}
}

func TestNoTraces(t *testing.T) {
	leave := compileFor(t, `(() => { globalThis.x = 1; Object.prototype.y = 1; Array.prototype.map = null; state.z = 1; JSON.parse = null; return true })()`)
	look := compileFor(t, `typeof x === 'undefined' && !('y' in {}) && [].map && !state.z && !!JSON.parse`)
	state := records(2)
	for range 3 {
		for _, c := range []*Condition{leave, look} {
			if ok, err := c.Eval(context.Background(), state, Upstream{}); err != nil || !ok {
				t.Fatalf("%v: %v, %v", c, ok, err)
			}
		}
	}
}

func TestStepNamedAsMethod(t *testing.T) {
	_, err := compileFor(t, `''[upstreamStepId].call('x', 1e9)`).Eval(context.Background(), records(1), Upstream{StepID: "repeat"})
	var thrown *EvalError
	if !errors.As(err, &thrown) || !strings.Contains(thrown.Message, "Invalid string length") {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) {
	c := compileFor(t, `state.data.filter(r => r.id % 2).length === 50 && upstreamStepId.length === 1`)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				if ok, err := c.Eval(context.Background(), records(100), Upstream{StepID: "s"}); err != nil || !ok {
					t.Errorf("%v, %v", ok, err)
				}
			}
		})
	}
	group.Wait()
}

func TestSmallEvaluatorAgrees(t *testing.T) {
	values := []string{`state`, `state.data`, `state.list`, `state.errors`, `state.missing`, `upstreamStepId`, `undefined`, `null`, `true`, `0`, `-1`, `2.5`,
		`''`, `'x'`, `'é'`, `'length'`, `state.list[1]`, `state.data.s`, `state.data.items[1].n`, `state.data.z`, `state.toString`}
	keys := []string{`.length`, `[0]`, `['1']`, `.items`, `?.a`, `?.[upstreamStepId]`, `.constructor`, `.name`, `[-1]`}
	rapid.Check(t, func(rt *rapid.T) {
		var expression func(depth int) string
		expression = func(depth int) string {
			if depth == 0 {
				return rapid.SampledFrom(values).Draw(rt, "value")
			}
			switch rapid.IntRange(0, 3).Draw(rt, "form") {
			case 0:
				return "!" + expression(depth-1)
			case 1:
				return "(" + expression(depth-1) + ")" + rapid.SampledFrom(keys).Draw(rt, "key")
			}
			op := rapid.SampledFrom([]string{"&&", "||", "??", "==", "===", "!=", "!==", "<", "<=", ">", ">="}).Draw(rt, "op")
			return "(" + expression(depth-1) + ") " + op + " (" + expression(depth-1) + ")"
		}
		doc := rapid.SampledFrom([]string{sample, ``, `null`, `[1,"x"]`, `"xy"`, `{"list":[true,null],"data":5}`}).Draw(rt, "doc")
		both(t, expression(rapid.IntRange(0, 3).Draw(rt, "depth")), doc)
		if t.Failed() {
			rt.FailNow()
		}
	})
}

func TestNeedsGuard(t *testing.T) {
	for _, text := range []string{
		`state.data.length > 0 && state.list[0] === state['key']`, `Object.keys(state.data).length >= 3`, `state.list.map(x => x * 2).includes(4)`,
		`['a', "b", 3].includes(state.data.status) && [].concat(state.list)`, `state.errors[upstreamStepId].message.includes('x')`,
		`Array.isArray(state.data) && state.data.length === 1`, `state.references["0"].name != 'x'`, `(() => { for (const x of state.data) if (x.id) return true })()`,
	} {
		if needsGuard(text) {
			t.Errorf("%s would pay for the guard", text)
		}
	}
	for _, text := range []string{
		`x['a' + 'b']`, `x['a', y]`, `x[y]`, `[a, 2]`, `eval`, `a.constructor`, `a.const\u0072uctor`, `Object.getOwnPropertyNames`, `Reflect`, `JSON.parse`,
		`({length:9})`, `({'length' : 9})`, `({length})`, `a.length = 9`, `a.length += 9`, `a[9999999999]`, `new Uint8Array`, `2n`, `Object`,
	} {
		if !needsGuard(text) {
			t.Errorf("%s does without the guard", text)
		}
	}
}

func FuzzCondition(f *testing.F) {
	for _, expr := range []string{`!state.errors`, `on_job_success`, `state.list.map(x => x.a)[0] ?? 1`, `1})(function(){`, "`${state}`", `/x/.test(state)`,
		`state?.[upstreamStepId]`, `class{}`, `{a:1}`, `a=>b`, `"\ud800" < state.data.s`, `/*`, `#x in state`, `async () => await 1`, `state.data.items[1].n >= 2`} {
		f.Add(expr, sample)
	}
	f.Fuzz(func(t *testing.T, expr, doc string) {
		c, err := parse(expr)
		if err != nil {
			if strings.Contains(err.Error(), "the parser failed") {
				t.Fatal(err)
			}
			return
		}
		if jsonscan.Validate([]byte(doc)) != nil {
			doc = sample
		}
		got, err := c.EvalWith(context.Background(), stateOf(t, doc), Upstream{StepID: "a"}, Limits{Time: 20 * time.Millisecond}, nil)
		if err != nil && strings.Contains(err.Error(), "internal error") {
			t.Fatal(err)
		}
		if c.simple == nil || errors.Is(err, context.DeadlineExceeded) {
			return
		}
		slow := *c
		slow.simple = nil
		same, slowErr := slow.EvalWith(context.Background(), stateOf(t, doc), Upstream{StepID: "a"}, Limits{}, nil)
		if got != same || (err == nil) != (slowErr == nil) {
			t.Fatalf("%s over %s: small evaluator %v %v, goja %v %v", expr, doc, got, err, same, slowErr)
		}
	})
}
