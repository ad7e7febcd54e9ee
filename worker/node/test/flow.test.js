// Calls, each, ropes and forward, with a supervisor that answers.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Asleep } from '../src/lanes.js';
import { Supervisor, isPassedOn } from './stub.js';

const FLOW = fileURLToPath(new URL('./fixtures/flow.js', import.meta.url));
const big = Array.from({ length: 2000 }, (_, id) => ({ id, name: `record ${id}` }));
const soon = () => new Promise((resolve) => setTimeout(resolve, 20));
const never = () => new Promise(() => {});
const fail = (fields) => {
  throw fields;
};
let s;
before(async () => (s = await Supervisor.start({ program: FLOW })));
afterEach(() => {
  s.onCall = () => ({});
  s.calls.length = s.cancelled.length = s.forgotten.length = s.forwards.length = 0;
});
after(() => s.stop());

const done = async (name, state = {}, options) => {
  const r = await s.fn(name, state, options);
  assert.equal(r.type, 'done', r.message);
  return r;
};
const refs = (row) => row.spans.map(({ segment, offset, length }) => `${segment}:${offset}:${length}`);

test('the executor announces calls', () => assert.ok(s.hello.capabilities.includes('calls')));

test('argument and result are passed on by reference', async () => {
  const results = [];
  s.onCall = ({ table }) => (results.push(table), table);
  const r = await done('pass', { big, n: 1 });
  assert.deepEqual(r.state, { big, n: 1 });
  assert.ok(isPassedOn(r, 'big'));
  assert.deepEqual(refs(results[0].rows[0]), refs(r.input.rows[0]));
  assert.equal(r.blocks.length, 0);
});

test('an executor that has used its output sleeps on the ring until it is answered', async () => {
  const asleep = [];
  s.onCall = async () => {
    await delay(1);
    asleep.push(s.lanes.out.sleeper);
    return {};
  };
  await done('prints');
  assert.ok(asleep.includes(Asleep.ON_WORD), `asleep: ${asleep}`);
});

test('options of a call', async () => {
  let seen;
  s.onCall = (call) => ((seen = call), {});
  await done('options');
  assert.deepEqual([seen.step, seen.until, seen.timeout, s.read(seen.table)], ['other', 'leaf', 2_500_000_000n, { n: 1 }]);
});

test('a result put into the step\'s own state is not decoded', async () => {
  let row;
  s.onCall = () => {
    const table = s.table({ big });
    row = table.rows[0];
    return table;
  };
  const r = await done('intoState', { n: 1 });
  assert.deepEqual(r.state, { n: 1, result: big });
  assert.deepEqual(refs(r.table.rows[1]), refs(row));
});

test('a result is the argument of the next call', async () => {
  const rows = [];
  s.onCall = ({ step, table }) => {
    if (step === 'second') rows.push(table.rows[0]);
    const made = step === 'first' ? s.table({ big }) : s.table({ ok: true });
    rows.push(made.rows[0]);
    return made;
  };
  assert.deepEqual((await done('resultAsArgument')).state, { ok: true });
  assert.deepEqual(refs(rows[1]), refs(rows[0]));
});

test('a result that is changed is written', async () => {
  s.onCall = () => ({ big });
  const { state } = await done('changed');
  assert.deepEqual(state, { first: { ...big[0], changed: true }, big: [{ ...big[0], changed: true }, ...big.slice(1)] });
});

test('long texts of a result are passed on by reference', async () => {
  s.onCall = () => ({ text: 'x'.repeat(5000) });
  const r = await done('texts');
  assert.deepEqual(r.state, { text: 'x'.repeat(5000), again: 'x'.repeat(5000) });
  assert.deepEqual(refs(r.table.rows[0]), refs(r.table.rows[1]));
  assert.equal(r.blocks.length, 0);
});

test('what the called step failed with can be caught', async () => {
  s.onCall = () => fail({ severity: 'crash', name: 'TypeError', message: 'no', details: '{"pos":{"line":3}}' });
  assert.deepEqual((await done('catches')).state, { error: { class: 'CallError', name: 'TypeError', message: 'no', severity: 'crash', details: { pos: { line: 3 } }, step: 'other' } });
});

test('uncaught it is how the caller fails', async () => {
  s.onCall = () => fail({ severity: 'kill', name: 'TimeoutError', message: 'too long', details: '{"ms":5}' });
  const r = await s.fn('uncaught', {});
  assert.deepEqual([r.type, r.severity, r.name, r.message, JSON.parse(r.details)], ['fail', 'kill', 'TimeoutError', 'too long', { ms: 5 }]);
});

test('answers come in any order', async () => {
  s.onCall = async ({ table }) => {
    const { n } = s.read(table);
    await new Promise((resolve) => setTimeout(resolve, 10 * n));
    return { n };
  };
  assert.deepEqual((await done('parallel')).state, { list: [3, 1, 2] });
});

test('who waits for an answer notices what else goes on', async () => {
  s.onCall = async ({ table }) => {
    const { late } = s.read(table);
    if (late) await new Promise((resolve) => setTimeout(resolve, 60));
    return { late: late ?? false };
  };
  const { state } = await done('keepsTurning');
  assert.ok(state.ticks >= 10, `${state.ticks} ticks of 1 ms in 60 ms`);
  assert.deepEqual([state.late, state.first], [true, 'read']);
});

test('calls that nobody waits for end with the step, late answers are ignored', async () => {
  let answer;
  s.onCall = () => new Promise((resolve) => (answer = resolve));
  assert.deepEqual((await done('unawaited')).state, { done: true });
  answer({ late: true });
  await soon();
  assert.deepEqual((await done('bad')).state.errors.length, 5);
});

test('a signal cancels a call', async () => {
  let answer;
  s.onCall = () => new Promise((resolve) => (answer = resolve));
  assert.deepEqual((await done('aborts')).state, { error: 'changed my mind' });
  assert.deepEqual(s.cancelled, s.calls);
  answer({ late: true });
  await soon();
});

test('a cancelled step\'s calls are cancelled, and it may end by itself', async () => {
  s.onCall = never;
  const execute = s.request({ type: 'execute', code: s.prepare('function', { function: 'waits' }), run: 'r', step: 's', attempt: 1 });
  await soon();
  s.channel.send({ id: execute.id, message: { type: 'cancel', reason: 'enough' } });
  const { message } = await execute;
  assert.deepEqual([message.severity, message.name, message.message], ['cancel', 'CancelError', 'enough']);
  assert.deepEqual(s.cancelled, s.calls);
});

test('a forgotten result cannot be decoded, and says why', async () => {
  s.onCall = () => ({ big });
  const { state } = await done('forgets');
  assert.match(state.error, /state\.big belongs to the result of a call that was forgotten/);
  assert.deepEqual(s.forgotten, s.calls);
});

test('blocks of a call stay published when the step fails', async () => {
  let blocks;
  s.onCall = (call) => ((blocks ??= call.blocks), {});
  const r = await s.fn('failsAfterCall', {});
  assert.deepEqual([r.type, r.message], ['fail', 'after']);
  assert.equal(blocks.length, 1);
  const before = s.segments.view({ ...blocks[0] }).toString();
  await done('options');
  assert.equal(s.segments.view({ ...blocks[0] }).toString(), before);
});

test('what is wrong with a call is its own error', async () => {
  const { state } = await done('bad');
  assert.deepEqual(
    state.errors.map((e) => e.slice(0, 36)),
    ["call: the step's id must be a text, ", "call of x: until must be 'step' or '", 'call of x: timeout must be a number ', 'TypeError: state.n is a BigInt, whic', 'before'],
  );
  const inside = await s.fn('inToJSON', {});
  assert.equal(inside.type, 'done');
  assert.equal(s.calls.length, 0);
});

test('a call of a step that has ended', async () => {
  await done('keepCall');
  assert.deepEqual((await done('useKept')).state, { error: 'call of other: the step step has ended' });
});

test('no more than 4096 calls at a time', async () => {
  s.onCall = () => soon().then(() => ({}));
  assert.deepEqual((await done('many')).state, { ok: 4096, refused: 4 });
});

test('a supervisor without calls', async () => {
  const old = await Supervisor.start({ program: FLOW, welcome: { capabilities: ['conditions'] } });
  try {
    const r = await old.fn('pass', {});
    assert.deepEqual([r.name, r.message], ['RuntimeError', 'call of other: the supervisor of this step does not offer calls']);
  } finally {
    await old.stop();
  }
});

test('each gives results as they come', async () => {
  s.onCall = async ({ table }) => {
    const { data } = s.read(table);
    await new Promise((resolve) => setTimeout(resolve, data));
    return { n: data };
  };
  const { state } = await done('order', { pages: [60, 30, 1] });
  assert.deepEqual(state.seen, [[2, 1], [1, 30], [0, 60]]);
});

test('each puts a page beside other keys, which are passed on by reference', async () => {
  const seen = [];
  s.onCall = ({ table }) => (seen.push(table), {});
  const r = await done('others', { pages: [1, 2], big });
  assert.deepEqual(seen.map((t) => s.read(t)), [1, 2].map((page) => ({ pages: [1, 2], big, page })));
  assert.deepEqual(refs(seen[1].rows[1]), refs(r.input.rows[1]));
});

test('each asks for pages as results are taken', async () => {
  const { taken, most } = (await done('slowTaker')).state;
  assert.equal(taken, 20);
  assert.ok(most <= 5, `${most} pages were asked for that were not taken, one of them on its way`);
});

test('each ends with the first error, and cancels the rest', async () => {
  s.onCall = ({ table }) => {
    const { data } = s.read(table);
    if (data === 1) return soon().then(() => fail({ severity: 'fail', name: 'JobError', message: 'page 1' }));
    return data === 0 ? {} : never();
  };
  const { state } = await done('first');
  assert.deepEqual([state.error.name, state.error.message, state.closed], ['JobError', 'page 1', true]);
  assert.deepEqual(s.cancelled, s.calls.slice(2));
});

test('results that arrive before the first error are given before it', async () => {
  s.onCall = async ({ table }) => {
    const { data } = s.read(table);
    if (data < 2) return { data };
    await soon(); // answered last
    fail({ severity: 'fail', name: 'JobError', message: 'two' });
  };
  assert.deepEqual((await done('firstInTurn', { pages: [0, 1, 2] })).state, { seen: [0, 1], error: 'two' });
});

test('bytes of a result stay bytes, by reference where it is kept', async () => {
  const rows = [];
  s.onCall = ({ table }) => {
    const row = s.row('packed', Buffer.from([200, s.read(table).data]));
    rows.push(row);
    return { kind: 1, rows: [row] };
  };
  const r = await done('packed', { pages: [7, 8, 9] });
  const bytes = Object.fromEntries(r.table.rows.map((row) => [row.key, [row.spans[0].encoding, ...s.segments.view(row.spans[0])]]));
  assert.deepEqual(bytes, { own: [3, 1, 2, 3], 'page-0': [3, 200, 7], 'page-1': [3, 200, 8], 'page-2': [3, 200, 9] });
  assert.deepEqual(refs(r.table.rows[2]), refs(rows[1]));
});

test('bytes as an argument, and what is none', async () => {
  s.onCall = ({ table }) => ({ seen: [table.rows[0].spans[0].encoding, ...s.segments.view(table.rows[0].spans[0])] });
  assert.deepEqual((await done('rawArgument')).state, { seen: [3, 4, 5] });
  assert.match((await s.fn('notRaw', {})).message, /must be a Uint8Array/);
});

test('JSON text is passed on as it is', async () => {
  s.onCall = ({ table }) => ({ seen: s.read(table).data });
  assert.deepEqual((await done('encoded')).state, { text: { a: [1, 2] }, bytes: 'b', called: [1], pages: [[2], { x: 3 }] });
  assert.match((await s.fn('noText', {})).message, /not empty/);
});

test('each can give errors as results', async () => {
  s.onCall = ({ table }) => (s.read(table).data === 2 ? fail({ severity: 'fail', name: 'JobError', message: 'two' }) : {});
  assert.deepEqual((await done('collect', { pages: [1, 2, 3] })).state.seen, [[0, 'ok', ''], [1, 'JobError', 'two'], [2, 'ok', '']]);
});

test('an error of the source is the step\'s', async () => {
  const r = await s.fn('sourceFails', {});
  assert.deepEqual([r.name, r.message], ['RuntimeError', 'RangeError: the source']);
});

test('break cancels the calls under way and ends the source', async () => {
  s.onCall = ({ table }) => (s.read(table).data === 0 ? {} : never());
  assert.deepEqual((await done('breaks')).state, { closed: true });
  assert.deepEqual(s.cancelled.length, 4);
  assert.deepEqual(new Set([...s.cancelled, s.calls[0]]), new Set(s.calls));
});

test('a result is forgotten when the next one is asked for', async () => {
  s.onCall = () => ({ big });
  const { state } = await done('readAfter', { pages: [1, 2] });
  for (const text of state.tries) assert.match(text, /was forgotten: keep\(\) it/);
  assert.deepEqual(s.forgotten, s.calls.slice(0, s.forgotten.length));
  assert.ok(s.forgotten.length >= 1);
});

test('unless it is kept', async () => {
  s.onCall = () => ({ big });
  assert.deepEqual((await done('keeps', { pages: [1, 2] })).state.lengths, [2000, 2000]);
  assert.deepEqual(s.forgotten, []);
});

test('or some of it may stand somewhere unread', async () => {
  const made = [];
  s.onCall = () => {
    const table = s.table({ big, rest: big });
    made.push(table.rows[0].spans[0].segment);
    return table;
  };
  const r = await done('byReference', { pages: [1, 2, 3] });
  assert.deepEqual(r.state, { all: [big, big, big] });
  assert.ok(r.encoded < 20n);
  assert.deepEqual(s.forgotten, []);
});

test('pages are aggregated by reference', async () => {
  const rows = [];
  s.onCall = ({ table }) => {
    const { data: page } = s.read(table);
    const made = s.table({ data: big.map((r) => ({ ...r, page })) });
    rows.push(made.rows[0]);
    return made;
  };
  const r = await done('aggregate', { pages: Array.from({ length: 50 }, (_, i) => i) });
  assert.equal(r.state.data.length, 50 * big.length);
  assert.deepEqual(new Set(r.state.data.map((x) => x.page)).size, 50);
  assert.equal(r.encoded, 90n + 3n, `${r.encoded} bytes written`);
  assert.ok(r.decoded < 1024n, `${r.decoded} bytes decoded`);
  assert.equal(r.table.rows[0].spans.length, 101);
  const inner = rows.map(({ spans: [{ segment, offset, length }] }) => `${segment}:${offset + 1n}:${length - 2n}`);
  assert.deepEqual(new Set(refs(r.table.rows[0]).filter((_, i) => i % 2)), new Set(inner));
});

test('an aggregate decodes when it is looked into', async () => {
  s.onCall = ({ table }) => ({ data: [{ page: s.read(table).data }] });
  assert.deepEqual((await done('aggregateRead', { before: [0], pages: [1, 2] })).state, { n: 3, last: { page: 2 }, data: [0, { page: 1 }, { page: 2 }] });
});

test('ropes of any pieces', async () => {
  const state = s.table({ big, small: [1, 2] });
  state.rows.push(s.row('spaced', ` \n[ ${JSON.stringify(big.slice(0, 200)).slice(1)} `), s.row('empty', `[${' '.repeat(3000)}]`));
  const r = await done('ropes', state);
  const own = Array.from({ length: 500 }, (_, i) => ({ page: 0, i }));
  assert.deepEqual(r.state.data, [{ own: 1 }, ...big, 1, 2, ...big.slice(0, 200), ...own]);
  assert.deepEqual(r.state.nested, { list: [...big, ...big] });
  assert.deepEqual([r.state.none, r.state.only], [[], []]);
  assert.deepEqual(r.state.two, [...big, 1]);
});

test('a rope as a bare result, and as an argument', async () => {
  const r = await done('ropeAsResult', { big });
  assert.deepEqual(r.state, [...big, ...big]);
  assert.equal(r.encoded, 3n);
  s.onCall = ({ table }) => table;
  assert.deepEqual((await done('ropeAsArgument', { big })).state, { data: [...big, ...big] });
});

test('ropes of what is no array', async () => {
  assert.deepEqual((await done('notArrays')).state.errors, ['concat: piece 0 is no array', 'append to a: the piece is no array', 'append: a is there and is no array', 'append: the target is no object']);
  const state = s.table({});
  state.rows.push(s.row('big', `[${' '.repeat(2000)}`), s.row('small', '[]'), s.row('spaced', '[]'), s.row('empty', '[]'));
  const r = await s.fn('ropes', state);
  assert.deepEqual([r.severity, r.name, r.message], ['exception', 'DataClipError', 'data[piece 1] is no JSON array']);
});

test('forward hands the input on with a new head', async () => {
  const r = await done('forward', { big, note: 'old', gone: 1, _private: 1, configuration: {} }, { conditions: ['true', 'state.big.length > 0'] });
  assert.deepEqual(r.state, { big, note: 'x' });
  assert.ok(isPassedOn(r, 'big'));
  assert.deepEqual(s.forwards.map((f) => f.step), ['archive']);
  assert.deepEqual(r.verdicts, [{ taken: false, error: '' }, { taken: false, error: '' }]);
});

test('forward hands on what came, not what was changed in place', async () => {
  const r = await done('forwardChanged', { big, n: 1 });
  assert.deepEqual(r.state, { big, n: 1 });
});

test('a forward that cannot be', async () => {
  assert.match((await s.fn('forwardNowhere', {})).message, /the step's id must be a text/);
  assert.match((await s.fn('forwardFails', {})).message, /state\.n is a BigInt/);
  assert.deepEqual(s.forwards, []);
});

test('the overhead of a call is small', async () => {
  const { state } = await done('measure', { n: 500 });
  assert.equal(state.n, 500);
  // The bound is wide: other work shares the machine. It is here for an accident of another order.
  assert.ok(state.us < 3000, `${state.us} µs a call`);
});
