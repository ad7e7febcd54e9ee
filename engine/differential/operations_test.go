package differential

// What generated operations are made of. $K and $O stand for keys, $V for a
// value.

// benign operations return states.
var benign = []string{
	`(s) => s`,
	`(s) => ({ ...s, [$K]: $V })`,
	`(s) => { s[$K] = $V; return s; }`,
	`(s) => ({ ...s, data: { ...s.data, [$K]: $V } })`,
	`(s) => { s.data[$K] = $V; return s; }`,
	`(s) => ({ data: $V })`,
	`(s) => ({ [$K]: s[$O] })`,
	`(s) => ({ ...s, references: [...(s.references ?? []), s.data] })`,
	`async (s) => { await null; return { ...s, n: (s.n ?? 0) + 1 }; }`,
	`(s) => Promise.resolve({ ...s, [$K]: s[$O] })`,
	`(s) => new Promise((resolve) => setTimeout(() => resolve(s), 1))`,
	`(s) => { delete s[$K]; return s; }`,
	`(s) => { s[$K] = undefined; return s; }`,
	`(s) => ({ ...s, keys: Object.keys(s).sort() })`,
	`(s) => ({ ...s, json: JSON.stringify(s[$K]) })`,
	`(s) => ({ ...s, conf: s.configuration })`,
	`(s) => { s.configuration.added = 1; s.conf = { ...s.configuration }; return s; }`,
	`(s) => { s.data = [s.data]; return s; }`,
	`(s) => ({ ...s, alias: s[$K], nested: { again: s[$K], list: [s[$O]] } })`,
	`({ data, ...rest }) => ({ ...rest, payload: data })`,
	`({ data = 1, [$K]: other = 2 }) => ({ data: other, other: data })`,
	`(s) => { if (Array.isArray(s[$K])) s[$K].push($V); return s; }`,
	`(s) => { if (Array.isArray(s[$K])) s[$K] = s[$K].map((x) => [x]).reverse(); return s; }`,
	`(s) => { if (Array.isArray(s[$K])) { s[$K].sort(); s[$K].length = Math.min(2, s[$K].length); } return s; }`,
	`(s) => { for (const x of Array.isArray(s[$K]) ? s[$K] : []) if (x && typeof x === 'object') x.seen = true; return s; }`,
	`(s) => { const x = s[$K]; if (x && typeof x === 'object') { delete x[Object.keys(x)[0]]; x.deeply = { changed: $V }; } return s; }`,
	`(s) => { const x = s.deep?.a?.[1]; if (x && typeof x === 'object') x.b = $V; return s; }`,
	`(s) => { s[$K] = s[$O]; if (s[$O] && typeof s[$O] === 'object') s[$O].after = 1; return s; }`,
	`(s) => ({ ...s, has: [$K in s, Object.hasOwn(s, $O), s.hasOwnProperty($K)] })`,
	`(s) => ({ ...s, is: [Array.isArray(s[$K]), typeof s[$K], s[$K] === s[$K], String(s[$O]?.length)] })`,
	`(s) => Object.assign(s, { [$K]: $V })`,
	`(s) => Object.fromEntries(Object.entries(s).filter(([k]) => k !== $K))`,
	`(s) => JSON.parse(JSON.stringify(s))`,
	`(s) => ({ ...s, sum: Object.values(s).filter((x) => typeof x === 'number').reduce((a, b) => a + b, 0) })`,
	`(s) => { for (const k in s) if (typeof s[k] === 'string') s[k] = s[k].toUpperCase(); return s; }`,
	`(s) => ({ ...s, len: JSON.stringify(s[$K] ?? null).length })`,
	`(s) => { s.list = [s.data, s.data]; return s; }`,
	`(s) => ({ ...s, response: { status: 200 }, [$K]: 1 })`,
	`(s) => { s.errors = { ...s.errors, own: 'mine' }; return s; }`,
}

// shapes put values into the state that JSON has another form for, or none.
var shapes = []string{
	`(s) => ({ ...s, [$K]: new Date(0) })`,
	`(s) => ({ ...s, [$K]: { when: new Date(86400000), nan: NaN, inf: -Infinity, zero: -0 } })`,
	`(s) => ({ ...s, [$K]: [undefined, () => 1, Symbol('x'), , null] })`,
	`(s) => ({ ...s, [$K]: { f() {}, u: undefined, ok: 1, [Symbol('s')]: 1 } })`,
	`(s) => ({ ...s, [$K]: () => 1 })`,
	`(s) => ({ ...s, [$K]: Symbol('gone') })`,
	`(s) => ({ ...s, [$K]: { toJSON: () => ({ from: 'toJSON' }) } })`,
	`(s) => ({ ...s, [$K]: { deep: { toJSON(key) { return key; } } } })`,
	`(s) => ({ ...s, [$K]: { m: new Map([[1, 2]]), s: new Set([1]), r: /x/, e: new Error('nested') } })`,
	`(s) => ({ ...s, [$K]: [new Number(5), new String('boxed'), new Boolean(false)] })`,
	`(s) => ({ ...s, [$K]: new Number(5) })`,
	`(s) => ({ ...s, [$K]: NaN })`,
	`(s) => ({ ...s, [$K]: { bytes: new Uint8Array([1, 2, 3]) } })`,
	`(s) => { class Point { constructor() { this.x = 1; } get y() { return 2; } } return { ...s, [$K]: new Point(), in: [new Point()] }; }`,
	`(s) => ({ ...s, [$K]: Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true }, hidden: { value: 3 } }) })`,
	`(s) => ({ ...s, get [$K]() { return 'computed'; } })`,
	`(s) => { const sparse = []; sparse[3] = 1; sparse.extra = 2; return { ...s, [$K]: sparse }; }`,
	`(s) => ({ ...s, [$K]: '\ud800 lone' })`,
	`(s) => ({ ...s, [$K]: { '\udc00': '\u2028\u2029\u007f\u0001' } })`,
	`(s) => { class State { constructor(x) { Object.assign(this, x); } } return new State({ ...s, [$K]: 1 }); }`,
	`(s) => ({ ...s, toJSON: undefined })`,
	`(s) => ({ ...s, [$K]: JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}') })`,
}

// returns are operations that return something else than a state.
var returns = []string{
	`(s) => {}`, `(s) => undefined`, `(s) => null`, `(s) => 0`, `(s) => ''`, `(s) => false`, `(s) => NaN`,
	`(s) => 5`, `(s) => true`, `(s) => [1, 2, { x: 3 }]`, `(s) => []`, `(s) => (typeof s.data === 'string' ? 7 : s.data)`, `async (s) => {}`,
	`(s) => Promise.resolve([s.data])`,
}

// failures are recorded; the run goes on.
var failures = []string{
	`(s) => { throw new Error('plain'); }`,
	`async (s) => { throw new Error('asynchronous'); }`,
	`(s) => Promise.reject(new Error('rejected'))`,
	`(s) => { throw new TypeError('typed'); }`,
	`(s) => { throw new RangeError('out of range'); }`,
	`(s) => new Array(-1)`,
	`(s) => s.missing.deeper`,
	`(s) => null.x`,
	`(s) => { throw 'a text'; }`,
	`(s) => { throw { message: 'an object' }; }`,
	`(s) => { throw { code: 'E1' }; }`,
	`(s) => { throw 5; }`,
	`(s) => { class MyError extends Error { name = 'MyError'; code = 'E42'; } throw new MyError('own class'); }`,
	`(s) => { throw new URIError('uri'); }`,
	`(s) => { throw new AggregateError([new Error('one')], 'several'); }`,
	`(s) => { throw Object.assign(new Error('with more'), { code: 'ECONN', status: 404, body: { a: 1 } }); }`,
	`(s) => { throw new Error(''); }`,
	`(s) => decodeURIComponent('%')`,
	`(s) => 'x'.repeat(-1)`,
	`(s) => { const f = () => f(); return f(); }`,
}

// crashes end the run.
var crashes = []string{
	`(s) => nowhere`,
	`(s) => { throw new ReferenceError('by hand'); }`,
	`(s) => { throw new SyntaxError('by hand'); }`,
	`(s) => JSON.parse('{')`,
	`(s) => eval('1')`,
	`(s) => new Function('return 1')()`,
	`(s) => { undeclared = 1; return s; }`,
	`(s) => structuredClone(s)`,
	`(s) => process.exit(1)`,
}
