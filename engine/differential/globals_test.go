package differential

import "testing"

// TestGlobals: a workflow's globals are the same to expressions on both sides.
func TestGlobals(t *testing.T) {
	nodePackages(t, ".")
	nodePackages(t, workerFolder)
	withGlobals := func(globals string, expressions ...string) flow {
		steps := []any{}
		for i, source := range expressions {
			step := object{"id": string(rune('a' + i)), "expression": source}
			if i+1 < len(expressions) {
				step["next"] = string(rune('a' + i + 1))
			}
			steps = append(steps, step)
		}
		return flow{Plan: object{"workflow": object{"steps": steps, "globals": globals}}, Input: object{}}
	}
	names := []string{"functions and values", "fresh for each step", "frozen", "the host's names", "throws", "shadowed by the job"}
	flows := []flow{
		withGlobals("export const p = 'x'; export function f(n) { return p + n; }", "export default [(s) => ({ v: f(1), p, d: typeof globalThis.f })];"),
		withGlobals("let n = 0; export const count = () => ++n;", "export default [(s) => ({ a: count() + count() })];", "export default [(s) => ({ ...s, b: count() })];"),
		withGlobals("export const list = [1]; export const o = { inner: {} };", "export default [(s) => { o.inner.x = 1; try { list.push(2); } catch (e) { return { e: e.name, list, o }; } }];"),
		withGlobals("export const console = 1; export const parseInt = 2; export const setTimeout = 3;", "export default [(s) => ({ t: [typeof console, typeof parseInt, typeof setTimeout] })];"),
		withGlobals("throw new Error('no');", "export default [(s) => s];"),
		withGlobals("export const v = 1;", "const v = 2;\nexport default [(s) => ({ v })];"),
	}
	want := onReference(t, flows, nil)
	eng := newEngine(t, "")
	for i, f := range flows {
		t.Run(names[i], func(t *testing.T) {
			for _, p := range compare(f, want[i], onMillrace(t, eng, f)) {
				t.Error(p)
			}
			t.Log(shown(want[i]))
		})
	}
}
