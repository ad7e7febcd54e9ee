// The compiled form: what people and tools see of a compiled expression.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CompileError, compile } from '../src/compile.js';

const adaptors = [{ name: '@openfn/language-common', exports: ['fn', 'each', 'get', 'http', 'default'] }];
const code = (source, options = { adaptors }) => compile(source, options).code.replace(/\s+/g, ' ').trim();
const imports = (...names) => `import { ${names.join(', ')} } from "@openfn/language-common"; export * from "@openfn/language-common";`;

for (const [name, source, want] of [
  ['operations go into the default export', 'fn(a => a);\nfn(b => b)', `${imports('fn')} export default [fn(a => a), fn(b => b), ];`],
  ['other statements stay', 'const x = 1;\nfn(() => x);\nlet y;', `${imports('fn')} const x = 1; let y; export default [fn(() => x), ];`],
  ['calls are added to an array that is exported', 'export default [get("a")];\nfn(b => b);', `${imports('fn', 'get')} export default [get("a"), fn(b => b), ];`],
  ['nothing that is declared is imported', 'const fn = f => f;\nfn(({ get }) => get);\nhttp.get("x");', `${imports('http')} const fn = f => f; export default [fn(({ get }) => get), http.get("x"), ];`],
  ['nothing that is only a member is imported', 'x.fn({ get: 1 })', 'export default [x.fn({ get: 1 }), ];'],
  ['imports of the user stay', 'import { fn } from "other";\nfn(a => a)', 'import { fn } from "other"; export default [fn(a => a), ];'],
  ['$ becomes a function of the state', 'get($.a.b, { c: $.d, e: [$.f] })', `${imports('get')} export default [get(state => state.a.b, state => ({ c: state.d, e: [state.f] })), ];`],
  ['$ in an open function', 'fn(state => $.a)', `${imports('fn')} export default [fn(state => state.a), ];`],
  ['a declared $ is left alone', 'fn($ => $.a)', `${imports('fn')} export default [fn($ => $.a), ];`],
  ['a chained promise', 'get("a").then(f)', `${imports('get')} import { defer as _defer } from "@openfn/runtime"; export default [_defer(get("a"), p => p.then(f)), ];`],
  ['promises inside functions stay', 'fn(s => s.p.then(f))', `${imports('fn')} export default [fn(s => s.p.then(f)), ];`],
  ['an empty source', '', 'export default [];'],
]) {
  test(name, () => assert.equal(code(source), want));
}

test('operations are listed with their lines', () => {
  const { operations } = compile('fn(a);\n\nhttp\n  .get("x");\nget(1).then(f);', { adaptors });
  assert.deepEqual(operations, [{ name: 'fn', line: 1 }, { name: 'get', line: 3 }, { name: 'then', line: 5 }]);
});

test('a source map leads back', async () => {
  const { TraceMap, originalPositionFor } = await import('@jridgewell/trace-mapping');
  const source = 'fn(a => a);\nconst late = 1;\nget($.x,\n   late, marker)';
  const { code: out, map } = compile(source, { adaptors, name: 'job.js' });
  const trace = new TraceMap(map);
  for (const word of ['late = 1', 'marker', 'a => a']) {
    const at = (text) => {
      const before = text.slice(0, text.indexOf(word)).split('\n');
      return { line: before.length, column: before.at(-1).length };
    };
    const { line, column, source: from } = originalPositionFor(trace, at(out));
    assert.deepEqual({ line, column }, at(source), word);
    assert.equal(from, 'job.js');
  }
});

test('errors have positions', () => {
  for (const [source, line, column] of [['fn(\n  1 2)', 2, 5], ['const a = 1;\nconst a = 2;', 2, 7], ['fn(s => s);\n$.x', 2, 1]]) {
    assert.throws(() => compile(source), (error) => error instanceof CompileError && error.position.line === line && error.position.column === column, source);
  }
});

test('a module that is no job stays as it is, its exports are known', async () => {
  const { compileModule } = await import('../src/compile.js');
  const { code: out, exports, imports } = compileModule('import { x as y } from "m";\nconst a = 1;\nlog(y);\nexport const [b, { c }] = [2, { c: 3 }];\nexport function d() {}\nexport { a, a as "odd name" };\nexport { z } from "n";\nexport default 7;');
  assert.deepEqual(exports.sort(), ['a', 'b', 'c', 'd', 'odd name', 'z']);
  assert.deepEqual(imports, ['m', 'n']);
  const got = await (0, eval)(out)((from) => ({ m: { x: 1 }, n: { z: 26 } })[from], {}).catch((error) => error);
  assert.equal(String(got), 'ReferenceError: log is not defined');
});
