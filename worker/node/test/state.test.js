// What a state is to a step's code, and what of it is passed on by reference.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { FUNCTIONS, Supervisor, isPassedOn } from './stub.js';

const big = Array.from({ length: 5000 }, (_, id) => ({ id, name: `record ${id}` }));
const object = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`key${i}`, i]));
let s;
before(async () => (s = await Supervisor.start({ program: FUNCTIONS })));
after(() => s.stop());

const size = (value) => BigInt(Buffer.byteLength(JSON.stringify(value)));

test('a state that nobody touches is passed on by reference', async () => {
  const r = await s.fn('same', { big, object, text: 'x'.repeat(5000), small: { n: 1 }, nil: null });
  assert.equal(r.type, 'done');
  for (const key of ['big', 'object', 'text', 'small', 'nil']) assert.ok(isPassedOn(r, key), key);
  assert.equal(r.encoded, 0n);
  assert.deepEqual(r.blocks, []);
  assert.ok(r.decoded < 100n, `decoded ${r.decoded}`);
});

test('touching a small key leaves its big neighbour alone', async () => {
  for (const fn of ['touchSmall', 'spread']) {
    const r = await s.fn(fn, { big, small: { n: 1 } });
    assert.ok(isPassedOn(r, 'big'), fn);
    assert.ok(r.decoded < 100n, fn);
  }
});

test('reading a big key costs one decode and no write', async () => {
  const r = await s.fn('readBig', { big });
  assert.equal(r.state.count, 5000);
  assert.ok(isPassedOn(r, 'big'));
  assert.equal(r.decoded, size(big));
  assert.equal(r.encoded, 4n);
});

test('a big key in other words than JSON.stringify is rewritten, its value the same', async () => {
  const table = { kind: 1, rows: [s.row('big', JSON.stringify(big, null, 1))] };
  const r = await s.fn('readBig', table);
  assert.deepEqual(r.state.big, big);
  assert.equal(r.encoded, size(big) + 4n);
});

test('an append to a long array writes its end only', async () => {
  const long = Array.from({ length: 50_000 }, (_, id) => ({ id, name: `record ${id}` }));
  const r = await s.fn('append', { big: long });
  assert.equal(r.state.big.length, 50_001);
  assert.deepEqual(r.state.big.at(-1), { id: 50_000, name: 'new' });
  assert.deepEqual(r.state.big.slice(0, -1), long);
  assert.ok(r.encoded < size(long) / 4n, `${r.encoded} written`);
  // And once more onto the rope.
  const again = await s.fn('append', r.table);
  assert.equal(again.state.big.length, 50_002);
  assert.deepEqual(again.state.big.slice(0, -1), r.state.big);
});

test('a change deep down is seen', async () => {
  const r = await s.fn('deep', { big });
  const want = structuredClone(big);
  want[5].nested = { changed: [1, 2, 3] };
  assert.deepEqual(r.state.big, want);
});

test('a value is passed on under another key and inside new values', async () => {
  const r = await s.fn('carry', { big });
  assert.deepEqual(r.state, { result: big, list: [big, { in: big }] });
  assert.ok(isPassedOn(r, 'result', 'big'));
  assert.equal(r.decoded, 0n);
  assert.ok(r.encoded < 50n, `${r.encoded} written`);
  const read = await s.fn('carryRead', { big });
  assert.deepEqual(read.state, { n: 5000, data: { inner: big } });
  assert.ok(read.encoded < 50n);
});

test('results that are no objects', async () => {
  assert.equal((await s.fn('nothing', { big })).table.kind, 0);
  assert.equal((await s.fn('number', { big })).state, 42);
  const r = await s.fn('returnBig', { big });
  assert.equal(r.table.kind, 2);
  assert.deepEqual(r.state, big);
  assert.equal(r.encoded, 0n);
  assert.deepEqual((await s.fn('returnBig', { big: object })).state, object);
  for (const value of [[1, 'two'], 'text', 3.5, false, null]) assert.deepEqual((await s.fn('same', value)).state, value ?? undefined);
});

test('the state behaves as a plain object', async () => {
  const input = { big, object, text: 'é'.repeat(3000), small: { n: 1 } };
  const r = await s.fn('semantics', input);
  assert.equal(r.type, 'done', r.message);
  const { seen, state } = r.state;
  assert.deepEqual(seen, {
    keys: ['big', 'object', 'text', 'small'],
    in: true,
    restKeys: ['object', 'text', 'small'],
    isArray: true,
    tag: '[object Object]',
    same: true,
    length: 5000,
    first: big[0],
    stringified: input,
    cloned: input,
    clonedDeep: { a: [object] },
    entries: 200,
    has: true,
    proto: true,
    mapped: [0, 1, 2],
    spreadElements: 5000,
    concat: 5001,
    text: 3000,
    forIn: ['big', 'object', 'text', 'small'],
    deleted: false,
    aliased: 1,
  });
  assert.deepEqual(state, { big, object: { ...object, added: true, viaCopy: 1 }, text: `${input.text}!` });
});

test('long texts', async () => {
  const text = 'ü"\n'.repeat(2000);
  assert.ok(isPassedOn(await s.fn('same', { text }), 'text'));
  const read = await s.fn('readText', { text });
  assert.deepEqual(read.state, { other: text, n: text.length });
  assert.ok(isPassedOn(read, 'other', 'text'));
  assert.equal((await s.fn('assignText', { text })).state.text, 'short');
});

test('rows of bytes', async () => {
  const r = await s.fn('bytes', { kind: 1, rows: [s.row('raw', Buffer.from([9, 8, 7]))] });
  assert.equal(r.type, 'done', r.message);
  assert.deepEqual(r.state, { n: 3, first: 9 });
  assert.ok(isPassedOn(r, 'raw'));
});

test('ropes, white space, escapes, odd keys and deep values decode', async () => {
  const rope = s.row('rope', '[1,', '"tw', 'ö', '",', `${' '.repeat(2000)}{"a":[]}]`);
  const spaced = s.row('spaced', ` \n\t [${'1, '.repeat(1000)}1 ]`);
  const deep = s.row('deep', `${'['.repeat(3000)}${']'.repeat(3000)}`);
  const r = await s.fn('spread', { kind: 1, rows: [rope, spaced, deep] });
  assert.equal(r.type, 'done', r.message);
  assert.ok(isPassedOn(r, 'rope') && isPassedOn(r, 'spaced') && isPassedOn(r, 'deep'));
  const read = await s.fn('semantics', { kind: 1, rows: [s.row('big', '[{"a":1},', `{"b":"${'é'.repeat(600)}"}]`), s.row('object', '{', `"__proto__":{"x":1},"y":"${'z'.repeat(1100)}"}`), s.row('text', `"${'t'.repeat(700)}`, `${'u'.repeat(700)}"`)] });
  assert.equal(read.type, 'done', read.message);
  assert.deepEqual(read.state.seen.first, { a: 1 });
  assert.equal(read.state.seen.text, 1400);
  assert.deepEqual(Object.keys(read.state.state.object), ['__proto__', 'y', 'added', 'viaCopy']);
});

test('a row that is not JSON fails when it is touched, not before', async () => {
  const table = () => ({ kind: 1, rows: [s.row('big', `[1,${' '.repeat(2000)}`)] });
  assert.equal((await s.fn('touchSmall', { kind: 1, rows: [...table().rows, s.row('small', '{"n":1}')] }).catch((e) => ({ type: e.name }))).type, 'SyntaxError');
  const r = await s.fn('readBig', table());
  assert.deepEqual([r.type, r.severity, r.name], ['fail', 'exception', 'DataClipError']);
  assert.match(r.message, /state\.big is not valid JSON/);
});

test('a row that no JavaScript text can hold fails when it is touched', async () => {
  const spans = Array.from({ length: 6 }, () => ({ ...s.row('big', JSON.stringify(big)).spans[0] }));
  const r = await s.fn('readBig', { kind: 1, rows: [{ key: 'big', spans: Array.from({ length: 4000 }, (_, i) => spans[i % 6]) }] });
  assert.deepEqual([r.type, r.severity, r.name], ['fail', 'kill', 'StateTooLargeError']);
  assert.match(r.message, /state\.big has \d{9} bytes; JavaScript's engine cannot hold a text longer than 536870888/);
});

test('what a worker keeps of a state after its step', async () => {
  await s.fn('keep', { big, object });
  const r = await s.fn('useKept', {});
  assert.deepEqual(r.state, { read: object, again: object });
  assert.ok(r.encoded >= 2n * size(object), 'its old rows are not referred to');
  const unread = await s.fn('useUnread', {});
  assert.deepEqual([unread.type, unread.name], ['fail', 'RuntimeError']);
  assert.match(unread.message, /state\.big belongs to a step that has ended/);
});

test('released blocks are used again, and reach no earlier reader', async () => {
  const first = await s.fn('makeBig', { n: 1 });
  const segment = first.blocks.find((b) => b.length > 200_000n);
  s.release(first.blocks);
  const second = await s.fn('makeBig', { n: 2 });
  assert.equal(second.blocks.find((b) => b.length > 200_000n).segment, segment.segment);
  assert.equal(second.state.big.length, 20_000);
});

test('characters of every width survive large writes', async () => {
  const r = await s.fn('makeBigUnicode', {});
  assert.equal(r.state.big.length, 20_000);
  assert.ok(r.state.big.every((row, i) => row.name === `名前 ${i} 😀`));
});

test('a budget that is passed kills the run and names the key', async () => {
  const r = await s.fn('makeBig', {}, { budget: 100_000n });
  assert.deepEqual([r.type, r.severity, r.name], ['fail', 'kill', 'StateTooLargeError']);
  const details = JSON.parse(r.details);
  assert.equal(details.key, 'big');
  assert.equal(details.limit, 100_000);
  const after = await s.fn('touchSmall', { small: { n: 1 } });
  assert.equal(after.state.small.n, 2);
});

/** How many segments a process has mapped for reading. */
const mapsOf = (pid) => readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').filter((line) => line.includes('memfd:millrace') && line.includes('r--s')).length;

test('segments are mapped only when they are read', async () => {
  const own = await Supervisor.start({ program: FUNCTIONS });
  const maps = () => mapsOf(own.child.pid);
  await own.fn('spread', { big });
  assert.equal(maps(), 0);
  await own.fn('readBig', { big });
  assert.equal(maps(), 1);
  own.channel.send({ message: { type: 'detach', segments: [own.arena.publish()[0]?.segment ?? (1n << 32n) | 1n] } });
  await own.fn('nothing', {});
  assert.equal(maps(), 0);
  await own.stop();
});

test('a small segment that is looked at again and again is mapped', async () => {
  const own = await Supervisor.start({ program: FUNCTIONS });
  const maps = () => mapsOf(own.child.pid);
  for (let n = 0; n < 80; n++) {
    const { state } = await own.fn('touchSmall', { small: { n } });
    assert.equal(state.small.n, n + 1);
    if (n === 10) assert.equal(maps(), 0);
  }
  assert.equal(maps(), 1);
  await own.stop();
});
