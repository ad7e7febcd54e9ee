// A workflow's globals, as OpenFn's runtime shows them to expressions.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Supervisor } from './stub.js';

let s;
let folder;
before(async () => {
  s = await Supervisor.start();
  folder = await mkdtemp(path.join(tmpdir(), 'millrace-globals-'));
  await mkdir(path.join(folder, 'adaptor'));
  await writeFile(path.join(folder, 'adaptor', 'package.json'), '{"name": "adaptor", "version": "1.0.0", "type": "module", "main": "index.js"}');
  await writeFile(path.join(folder, 'adaptor', 'index.js'), 'export const fn = (f) => (state) => f(state);\nexport const helper = () => "adaptor";\n');
});
after(async () => {
  await s.stop();
  await rm(folder, { recursive: true, force: true });
});

const run = (globals, source, state = {}) => s.job(source, state, { globals, adaptors: [{ name: 'adaptor', version: '1.0.0', path: path.join(folder, 'adaptor') }] });

test('exports are globals of every expression', async () => {
  const globals = 'export const prefix = "x-";\nexport function label(n) { return prefix + n; }\nconst hidden = 1;\nexport default 5;';
  const r = await run(globals, 'fn(state => ({ label: label(state.n), hidden: typeof hidden, default: typeof globalThis.default }))', { n: 7 });
  assert.deepEqual(r.state, { label: 'x-7', hidden: 'undefined', default: 'undefined' });
});

test('they go before an adaptor\'s exports, and after what a job declares', async () => {
  assert.deepEqual((await run('export const helper = () => "globals";', 'fn(() => ({ by: helper() }))')).state, { by: 'globals' });
  assert.deepEqual((await run('export const helper = () => "globals";', 'const helper = () => "job";\nfn(() => ({ by: helper() }))')).state, { by: 'job' });
});

test('the host\'s own names stay', async () => {
  const r = await run('export const console = 1; export const parseInt = 2; export const state = 3;', 'fn(s => ({ types: [typeof console, typeof parseInt, typeof state] }))');
  assert.deepEqual(r.state, { types: ['object', 'function', 'object'] });
});

test('each execution has a module of its own, whose exports are frozen', async () => {
  const globals = 'let n = 0;\nexport const count = () => ++n;\nexport const list = [1];';
  const source = 'fn(() => { let error; try { list.push(2); } catch (e) { error = e.name; } return { n: count(), error }; })';
  for (let i = 0; i < 2; i++) assert.deepEqual((await run(globals, source)).state, { n: 1, error: 'TypeError' });
});

test('top-level calls and awaits run; nothing is an operation', async () => {
  const r = await run('const seen = [];\nconst add = (x) => seen.push(x);\nadd(await Promise.resolve(1));\nadd(2);\nexport { seen as visits };', 'fn(() => ({ visits }))');
  assert.deepEqual(r.state, { visits: [1, 2] });
});

test('it may import what a job may', async () => {
  const r = await run('export * from "adaptor";\nimport { helper } from "adaptor";\nexport const twice = helper() + helper();', 'fn(() => ({ twice, by: helper() }))');
  assert.deepEqual(r.state, { twice: 'adaptoradaptor', by: 'adaptor' });
});

for (const [globals, severity, name, message] of [
  ['export const a = ;', 'crash', 'SyntaxError', '[globals] Unexpected token (1:18)'],
  ['throw new Error("no");', 'fail', 'JobError', '[globals] no'],
  ['missing();', 'crash', 'ReferenceError', 'ReferenceError: [globals] missing is not defined'],
  ['import "nowhere";', 'crash', 'ImportError', 'Failed to import module "nowhere"'],
]) {
  test(`${globals} is a ${severity}: ${name}`, async () => {
    const r = await run(globals, 'fn(s => s)');
    assert.deepEqual([r.type, r.severity, r.name, r.message], ['fail', severity, name, message]);
  });
}
