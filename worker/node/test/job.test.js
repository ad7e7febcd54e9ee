// OpenFn job expressions, with a real adaptor from npm.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { install } from '../src/adaptors.js';
import { Supervisor, isPassedOn } from './stub.js';

const CLI = fileURLToPath(new URL('../bin/millrace-adaptors.js', import.meta.url));
const big = Array.from({ length: 5000 }, (_, id) => ({ id, name: `record ${id}` }));
let s;
let repo;
let adaptors;

before(async () => {
  repo = await mkdtemp(path.join(tmpdir(), 'millrace-repo-'));
  const out = execFileSync(process.execPath, [CLI, 'install', '@openfn/language-common@3', '--repo-dir', repo, '--json'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  adaptors = JSON.parse(out);
  s = await Supervisor.start();
});
after(async () => {
  await s.stop();
  await rm(repo, { recursive: true, force: true });
});

const run = (source, state = {}, options = {}) => s.job(source, state, { adaptors, repo_dir: repo, ...options });
const brief = (r) => [r.type, r.severity, r.name, r.message];
const detail = (r) => JSON.parse(r.details || '{}');

test('an installed adaptor is found offline, by version, range and name', async () => {
  assert.match(adaptors[0].version, /^3\./);
  const offline = { ...process.env, PATH: '/nowhere' };
  for (const spec of ['@openfn/language-common@3', `@openfn/language-common@${adaptors[0].version}`, '@openfn/language-common', '@openfn/language-common@latest']) {
    const out = execFileSync(process.execPath, [CLI, 'install', spec, '--repo-dir', repo, '--json'], { env: offline, encoding: 'utf8' });
    assert.deepEqual(JSON.parse(out), adaptors, spec);
  }
});

test('a version that does not exist, and a name that is none', async () => {
  await assert.rejects(install(['@openfn/language-common@999'], { repoDir: repo }), { name: 'AutoinstallError', message: /999: no such version/ });
  await assert.rejects(install(['x; rm -rf /'], { repoDir: repo }), { name: 'AutoinstallError', message: /is not a package/ });
});

test('fn changes the state, and leaves big neighbours where they are', async () => {
  const r = await run('fn(state => { state.data.x += 1; return state; })', { data: { x: 1 }, big });
  assert.equal(r.type, 'done', r.message);
  assert.deepEqual(r.state.data, { x: 2 });
  assert.ok(isPassedOn(r, 'big'));
});

test('spread, each and composed operations work on lazy states', async () => {
  const r = await run(
    `each("$.data.list[*]", fn(state => ({ ...state, seen: [...(state.seen ?? []), state.data * 2] })));
     fn(state => ({ ...state, total: state.seen.reduce((a, b) => a + b, 0) }));`,
    { data: { list: [1, 2, 3] }, big },
  );
  assert.deepEqual(r.state.seen, [2, 4, 6]);
  assert.equal(r.state.total, 12);
  assert.ok(isPassedOn(r, 'big'));
});

test('configuration is seen and never passed on; references and errors are kept', async () => {
  const r = await run('fn(state => ({ ...state, user: state.configuration.user, n: state.references.length }))', {
    configuration: { user: 'u', password: 'p' },
    data: {},
    references: [{ a: 1 }],
    errors: { before: { name: 'JobError' } },
  });
  assert.deepEqual(r.state, { data: {}, references: [{ a: 1 }], errors: { before: { name: 'JobError' } }, user: 'u', n: 1 });
});

test('a response becomes data, and what data was goes to the references by reference', async () => {
  const r = await run('fn(state => util.request ? composeNextState(state, { new: true }) : state)', { data: big, references: [] });
  assert.deepEqual(r.state, { data: { new: true }, references: [big] });
  assert.equal(r.decoded, 2n);
  assert.ok(r.encoded < 40n, `${r.encoded} written`);
});

test('promises: an operation may be async, and may be chained', async () => {
  assert.deepEqual((await run('fn(async state => { await new Promise(r => setTimeout(r, 5)); return { ok: 1 }; })')).state, { ok: 1 });
  assert.deepEqual((await run('fn(state => ({ a: 1 })).then(state => ({ ...state, b: 2 }))')).state, { a: 1, b: 2 });
  assert.deepEqual((await run('fn(() => { throw Error("no"); }).catch((e, state) => ({ ...state, caught: e.message }))', { data: 1 })).state, { data: 1, caught: 'no' });
  assert.deepEqual((await run('fn(async () => { throw Error("no"); }).catch((e, state) => state).then(s => ({ ...s, then: true }))', { data: 1 })).state, { data: 1, then: true });
});

test('$ is the state, inside an operation', async () => {
  assert.deepEqual((await run('fn($.data.inner)', { data: { inner: { x: 1 } } })).state, { x: 1 });
  assert.deepEqual((await run('fnIf($.data.go, fn(state => ({ went: true })))', { data: { go: true } })).state, { went: true });
  const r = await run('const x = 1;\n$.data.inner;');
  assert.deepEqual(brief(r), ['fail', 'crash', 'SyntaxError', 'job.js: Lazy State Error: Must be inside an operation (2:1)']);
});

test('statements run before operations, wherever they stand', async () => {
  const r = await run('fn(state => ({ ...state, list: map1([1, 2]) }));\nconst double = x => 2 * x;\nfunction map1(list) { return list.map(double); }');
  assert.deepEqual(r.state.list, [2, 4]);
});

test('the compiled form runs as well', async () => {
  const r = await run('import { fn } from "@openfn/language-common";\nexport default [fn(state => ({ ...state, compiled: true }))];');
  assert.equal(r.state.compiled, true);
  const execute = await run('export const execute = (...ops) => async state => ({ before: true, ...(await ops[0](state)) });\nexport default [state => ({ ran: true })];');
  assert.deepEqual(execute.state, { before: true, ran: true });
});

test('each execution starts with fresh module state', async () => {
  const source = 'let n = 0;\nfn(state => ({ n: ++n }))';
  assert.deepEqual((await run(source)).state, { n: 1 });
  assert.deepEqual((await run(source)).state, { n: 1 });
});

test('nothing returned', async () => {
  const r = await run('fn(() => {})', { data: 1 });
  assert.equal(r.table.kind, 0);
  const between = await run('fn(() => {});\nfn(state => ({ keys: Object.keys(state) }))', { data: 1 });
  assert.deepEqual(between.state, { keys: [] });
  assert.match(between.logs[0].message, /No state was passed into operation 2/);
});

test('errors have the user\'s line and column', async () => {
  const r = await run('// comment\nfn(state => state);\n\nfn(state => {\n  const data = state.nothing;\n  return data.x;\n});');
  assert.deepEqual(brief(r), ['fail', 'fail', 'RuntimeError', "TypeError: Cannot read properties of undefined (reading 'x')"]);
  const { pos, stack } = detail(r);
  assert.deepEqual(pos, { line: 6, column: 15, src: '  return data.x;' });
  assert.match(stack, /job\.js:6:15/);
});

for (const [source, severity, name, message] of [
  ['fn(() => { throw new Error("mine"); })', 'fail', 'JobError', 'mine'],
  ['fn(() => { throw "text"; })', 'fail', 'JobError', 'text'],
  ['fn(() => { throw null; })', 'fail', 'JobError', 'null'],
  ['fn(() => { new Array(-1); })', 'fail', 'RuntimeError', 'RangeError: Invalid array length'],
  ['fn(() => missing)', 'crash', 'ReferenceError', 'ReferenceError: missing is not defined'],
  ['fn(() => process.exit(0))', 'crash', 'ReferenceError', 'ReferenceError: process is not defined'],
  ['fn(() => eval("1"))', 'kill', 'SecurityError', 'Illegal eval statement detected'],
  ['fn(state => {', 'crash', 'SyntaxError', 'job.js: Unexpected token (1:14)'],
  ['fn(1 2)', 'crash', 'SyntaxError', 'job.js: Unexpected token (1:6)'],
  ['import "nope"; fn(s => s)', 'crash', 'ImportError', 'Failed to import module "nope"'],
  ['import fs from "fs"; fn(s => fs)', 'crash', 'ImportError', 'Failed to import module "fs"'],
  ['export default 7', 'crash', 'ValidationError', 'Invalid exports in job expression: exports must be an array'],
  ['export default [1]', 'crash', 'ValidationError', 'Invalid operation at statement 0'],
  ['String(1)', 'crash', 'ValidationError', 'Invalid operation at statement 0'],
]) {
  test(`${source} is a ${severity}: ${name}`, async () => assert.deepEqual(brief(await run(source)), ['fail', severity, name, message]));
}

test('what an adaptor throws is an AdaptorError with its operation', async () => {
  const r = await run('fn(s => s);\nparseCsv(5);');
  assert.deepEqual(brief(r).slice(0, 3), ['fail', 'fail', 'AdaptorError']);
  assert.deepEqual(detail(r).operation, { name: 'parseCsv', line: 2 });
});

test('an adaptor that is not installed', async () => {
  const r = await run('fn(s => s)', {}, { adaptors: [{ name: '@openfn/language-nope', version: '1.0.0', path: '' }] });
  assert.deepEqual(brief(r), ['fail', 'crash', 'ImportError', 'Failed to import module "@openfn/language-nope@1.0.0"']);
  assert.match(detail(r).fix, /adaptors install @openfn\/language-nope@1\.0\.0/);
});

test('console lines are logs of the job', async () => {
  const { logs } = await run('fn(state => { console.log("hello", { a: [1] }, undefined); console.error(new Error("bad")); return state; })');
  assert.deepEqual(
    logs.map((l) => [l.source, l.level, JSON.parse(l.message)]),
    [
      ['job', 'info', ['hello', { a: [1] }, 'undefined']],
      ['job', 'error', [{ name: 'Error', message: 'bad' }]],
    ],
  );
});

test('timers that a step leaves behind are stopped', async () => {
  const r = await run('fn(state => { setInterval(() => console.log("still here"), 1); return state; })');
  assert.match(r.logs.at(-1).message, /left 1 timer behind/);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal((await run('fn(state => state)')).logs.length, 0);
});

test('conditions are evaluated on the result', async () => {
  const conditions = ['always', 'on_job_success', 'on_job_failure', '!state.errors', 'state.big.length === 5000', 'state.when.startsWith("1970")', 'state.configuration', 'state.none.x', 'state.data.x > 1 && upstreamStepId === "step"', '))'];
  const r = await run('fn(state => ({ ...state, when: new Date(0) }))', { big, data: { x: 2 }, configuration: { a: 1 } }, { conditions });
  assert.deepEqual(
    r.verdicts.map((v) => v.error || v.taken),
    [true, true, false, true, true, true, false, "Cannot read properties of undefined (reading 'x')", true, "Unexpected token ')'"],
  );
  assert.ok(isPassedOn(r, 'big'));
  const failed = await run('fn(state => ({ errors: { step: { name: "JobError" } } }))', {}, { conditions: ['on_job_success', 'on_job_failure'] });
  assert.deepEqual(failed.verdicts.map((v) => v.taken), [false, true]);
  const none = await run('fn(() => {})', {}, { conditions: ['on_job_success', 'state.x'] });
  assert.deepEqual(none.verdicts.map((v) => Boolean(v.error)), [false, true]);
});

test('a job may call other steps, and has each, append, concat and forward', async () => {
  s.onCall = ({ step, table }) => ({ step, big, ...(s.read(table) ?? {}) });
  const r = await run(`fn(async state => {
    const { step, ...rest } = await call('other', { n: 1 });
    const out = { step, keys: Object.keys(rest) };
    for await (const r of millrace.each([1, 2], 'page', { concurrency: 1 })) append(out, 'all', r.state.big);
    return out;
  })`);
  assert.deepEqual(r.state, { step: 'other', keys: ['big', 'n'], all: [...big, ...big] });
});

test('a name of an adaptor\'s or of the job\'s goes before them', async () => {
  assert.deepEqual((await run('each("$.list[*]", fn(s => { seen.push(s.data); return s; }));\nconst seen = [];\nfn(() => ({ seen }))', { list: [1, 2] })).state, { seen: [1, 2] });
  assert.deepEqual((await run('const call = () => "mine";\nfn(() => ({ by: call() }))')).state, { by: 'mine' });
  assert.deepEqual((await run('fn(() => ({ by: append() }))', {}, { globals: 'export const append = () => "globals";' })).state, { by: 'globals' });
});

test('what a called step failed with is how the job fails, unless it is caught', async () => {
  s.onCall = () => {
    throw { severity: 'crash', name: 'ReferenceError', message: 'x is not defined', details: '{"pos":{"line":7}}' };
  };
  const r = await run('fn(() => call("other", {}))');
  assert.deepEqual([...brief(r), detail(r).pos], ['fail', 'crash', 'ReferenceError', 'x is not defined', { line: 7 }]);
  assert.deepEqual((await run('fn(() => call("other", {}).catch(e => ({ caught: e.name, step: e.step })))')).state, { caught: 'ReferenceError', step: 'other' });
});

test('forward is an operation, or what one returns; nothing runs after it', async () => {
  for (const source of ['forward("archive", { note: "x" });', 'fn(state => { state.big = 0; return forward("archive", { note: "x" }); });', 'fnIf(true, forward("archive", { note: "x" }));']) {
    s.forwards.length = 0;
    const r = await run(`${source}\nfn(() => ({ ran: true }))`, { big, note: '' });
    assert.deepEqual(r.state, { big, note: 'x' }, source);
    assert.ok(isPassedOn(r, 'big'));
    assert.deepEqual(s.forwards.map((f) => f.step), ['archive']);
  }
});
