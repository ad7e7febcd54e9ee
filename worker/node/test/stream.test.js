// Streams: two executors over one ring, each with a supervisor that passes on
// what the other end says.
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Encoding, Kind } from '../src/frames.js';
import * as libc from '../src/libc.js';
import { RingReader, RingWriter } from '../src/ring.js';
import { Supervisor } from './stub.js';

const STREAMS = fileURLToPath(new URL('./fixtures/streams.js', import.meta.url));
const ID = (1n << 63n) | 5n;
const CAPACITY = 64 << 10;
let p;
let c;
before(async () => ([p, c] = await Promise.all([Supervisor.start({ program: STREAMS }), Supervisor.start({ program: STREAMS })])));
afterEach(() => {
  for (const s of [p, c]) {
    s.onStream = () => {};
    s.onCall = () => ({});
    s.calls.length = 0;
  }
});
after(() => Promise.all([p.stop(), c.stop()]));

function ringFile(capacity = CAPACITY, seals = libc.SEAL_SHRINK | libc.SEAL_GROW | libc.SEAL_SEAL) {
  const fd = libc.memfdCreate('stream');
  libc.ftruncate(fd, 4096 + capacity);
  libc.addSeals(fd, seals);
  return fd;
}

/** Another descriptor of the same memory. */
const again = (fd) => openSync(`/proc/self/fd/${fd}`, 'r+');

const streamRow = (key = 'pages') => ({ key, spans: [{ segment: ID, offset: 0n, length: 0n, encoding: Encoding.JSON, flags: 1 }] });
const withStream = (s, state = {}) => ({ kind: Kind.OBJECT, rows: [...s.table(state).rows, streamRow()] });

/** Runs a producer and a consumer at once, over one ring. */
async function pipe(producer, state, consumer, { maxDemand = 1000, minDemand = 500, manual = false, capacity = CAPACITY } = {}) {
  const fd = ringFile(capacity);
  const seen = { wakes: 0, ends: [], handedOver: null };
  const ring = (s, id) => s.channel.send({ id, message: { type: 'stream-ring', stream: ID, capacity: BigInt(capacity), maxDemand, minDemand, manual } }, fd);
  const reading = { start: null };
  const consumed = new Promise((resolve) => (reading.start = resolve));
  const relay = (to, from) => (message, id, table) => {
    if (message.type === 'wake') seen.wakes++;
    if (message.type === 'stream-end') seen.ends.push([from, message.name]);
    if (message.type === 'stream') {
      seen.handedOver = table;
      ring(p, id);
      reading.start(c.fn(consumer, withStream(c, { note: 'n' })));
    } else if (message.type === 'consume') ring(c, id);
    else to.channel.send({ message });
  };
  p.onStream = relay(c, 'producer');
  c.onStream = relay(p, 'consumer');
  const out = p.fn(producer, state);
  try {
    const failedEarly = out.then((r) => (r.type === 'fail' && !seen.handedOver ? Promise.reject(new Error(r.message)) : new Promise(() => {})));
    const into = await Promise.race([consumed, failedEarly]);
    return { out: await out, into, seen };
  } finally {
    libc.close(fd);
  }
}

test('items flow from a generator to a loop, the other keys go first', async () => {
  const { out, into, seen } = await pipe('feed', { n: 3000 }, 'read');
  assert.deepEqual(into.state, { n: 3000, sum: 4498500 });
  assert.deepEqual(p.read(seen.handedOver), { n: 3000 });
  assert.deepEqual([out.type, out.table.kind, out.blocks.length], ['done', Kind.ABSENT, 0]);
  assert.deepEqual(seen.ends, [['producer', '']]);
});

test('a generator of the plain kind, a stream of objects, a slow one, none at all', async () => {
  assert.deepEqual((await pipe('feedSync', { n: 10 }, 'read')).into.state, { n: 10, sum: 45 });
  assert.deepEqual((await pipe('feedReadable', {}, 'read')).into.state, { n: 2, sum: 1 });
  assert.deepEqual((await pipe('feedSlow', {}, 'read')).into.state, { n: 5, sum: 10 });
  assert.deepEqual((await pipe('feed', { n: 0 }, 'read')).into.state, { n: 0, sum: 0 });
});

test('items of any size, round the ring many times, with little demand', async () => {
  for (const size of [1, 100, 3001, 16000]) {
    const { into } = await pipe('feed', { n: 200, size }, 'readSlow', { maxDemand: 7, minDemand: 2 });
    assert.deepEqual(into.state, { inOrder: true, n: 200 }, `size ${size}`);
  }
});

test('few messages: no more than one wake a sleep', async () => {
  const { seen, into } = await pipe('feed', { n: 20_000 }, 'read');
  assert.equal(into.state.n, 20_000);
  assert.ok(seen.wakes < 2000, `${seen.wakes} wakes`);
});

test('a consumer that breaks off ends the generator, and its result is without the stream', async () => {
  const { out, into, seen } = await pipe('feedForever', {}, 'readSome');
  assert.deepEqual(into.state, { note: 'n' });
  assert.equal(out.type, 'done');
  assert.deepEqual(seen.ends[0], ['consumer', '']);
  assert.deepEqual((await p.fn('wasReturned', {})).state, { returned: 'yes' });
});

test('one that is not read to its end ends with the step', async () => {
  const { out, into } = await pipe('feedForever', {}, 'readUnfinished');
  assert.deepEqual(into.state, { value: { i: 0 } });
  assert.equal(out.type, 'done');
});

test('what a generator throws fails both', async () => {
  const { out, into } = await pipe('feedFails', {}, 'read');
  assert.deepEqual([out.name, out.message], ['RuntimeError', 'RangeError: the generator']);
  assert.deepEqual([into.type, into.name, into.message], ['fail', 'RuntimeError', 'RangeError: the generator']);
  assert.deepEqual((await pipe('feedFails', {}, 'readCatches')).into.state, { name: 'RuntimeError', message: 'RangeError: the generator', severity: 'fail' });
  const bad = await pipe('feedBad', {}, 'readCatches');
  assert.match(bad.out.message, /item 0.*BigInt/);
  const large = await pipe('feedLarge', {}, 'readCatches');
  assert.match(large.out.message, /state\.pages, item 0: an item of 40004 bytes is over the stream's limit of 32760/);
});

test('a producer whose consumer failed fails with its error', async () => {
  const fd = ringFile();
  p.onStream = (message, id) => {
    if (message.type !== 'stream') return;
    p.channel.send({ id, message: { type: 'stream-ring', stream: ID, capacity: BigInt(CAPACITY), maxDemand: 10, minDemand: 5 } }, fd);
    setTimeout(() => p.channel.send({ message: { type: 'stream-end', stream: ID, severity: 'kill', name: 'TimeoutError', message: 'the reader' } }), 20);
  };
  const r = await p.fn('feedForever', {});
  libc.close(fd);
  assert.deepEqual([r.severity, r.name, r.message], ['kill', 'TimeoutError', 'the reader']);
});

test('two streams in one state', async () => {
  const r = await p.fn('two', {});
  assert.deepEqual([r.type, r.name], ['fail', 'RuntimeError']);
  assert.match(r.message, /state\.a and state\.b are both streams/);
});

test('raw items are bytes', async () => {
  const { into } = await pipe('feed', { n: 2 }, 'readRaw');
  assert.deepEqual(into.state.texts, ['{"i":0}', '{"i":1}']);
});

test('a stream is read once', async () => {
  assert.match((await pipe('feed', { n: 2 }, 'readTwice')).into.message, /state\.pages was read already/);
});

test('manual demand', async () => {
  assert.deepEqual((await pipe('feedForever', {}, 'readManual', { manual: true })).into.state, { asked: [0, 1], waited: [2, 3] });
});

test('an unread stream is passed on with the state, anything else sees a text', async () => {
  const r = await c.fn('pass', withStream(c, { n: 1 }), { conditions: ['state.pages === "[stream]"'] });
  assert.deepEqual(r.table.rows.find((row) => row.key === 'pages'), streamRow());
  assert.deepEqual(r.verdicts, [{ taken: true, error: '' }]);
  assert.deepEqual((await c.fn('passNested', withStream(c))).state, { inside: ['[stream]'], text: '[stream]' });
  const forwarded = await c.fn('forwards', withStream(c));
  assert.deepEqual(forwarded.table.rows[0], streamRow());
});

test('it goes one way only', async () => {
  let argument;
  c.onCall = ({ table }) => ((argument = table), {});
  assert.deepEqual((await c.fn('callWith', withStream(c))).state, { again: '[stream]' });
  assert.deepEqual(argument.rows, [streamRow()]);
});

test('pages of a stream go through each without being decoded', async () => {
  const pages = [];
  c.onCall = ({ table }) => (pages.push(c.text(table.rows[0])), { data: [c.read(table).data.i] });
  const { into } = await pipe('feed', { n: 300 }, 'eachRaw');
  assert.deepEqual(into.state.data.sort((a, b) => a - b), Array.from({ length: 300 }, (_, i) => i));
  assert.equal(pages[7], '{"i":7}');
});

/** A consumer of its own end, which the test feeds by hand. */
async function handFed(write, fn = 'readCatches') {
  const fd = ringFile();
  const memory = libc.view(libc.mmap(fd, 4096 + CAPACITY, true), 4096 + CAPACITY);
  let ended;
  c.onStream = (message, id) => {
    if (message.type === 'consume') {
      write(memory);
      c.channel.send({ id, message: { type: 'stream-ring', stream: ID, capacity: BigInt(CAPACITY), maxDemand: 10, minDemand: 5 } }, fd);
    } else if (message.type === 'stream-end') ended = message;
  };
  const r = await c.fn(fn, withStream(c));
  libc.close(fd);
  return { r, ended };
}

for (const [name, write] of [
  ['more bytes than the ring has', (m) => m.writeBigUInt64LE(BigInt(CAPACITY) + 8n, 0)],
  ['a record past what was written', (m) => (m.writeUInt32LE(100, 4096), m.writeBigUInt64LE(16n, 0))],
  ['a record of an absurd size', (m) => (m.writeUInt32LE(0xffffffff, 4096), m.writeBigUInt64LE(BigInt(CAPACITY), 0))],
  ['a skip in the middle', (m) => (m.writeUInt32LE(8, 4096), m.writeUInt32LE(1, 4100), m.writeBigUInt64LE(16n, 0))],
  ['an unknown kind', (m) => (m.writeUInt32LE(8, 4096), m.writeUInt32LE(2, 4100), m.writeBigUInt64LE(16n, 0))],
  ['a header cut off', (m) => m.writeBigUInt64LE(4n, 0)],
]) {
  test(`a hostile producer: ${name}`, async () => {
    const { r, ended } = await handFed(write);
    assert.deepEqual([r.state?.name, r.state?.severity], ['StreamError', 'exception'], r.message);
    assert.match(r.state.message, /broke its rules/);
    assert.equal(ended.name, 'StreamError');
  });
}

test('an item that is not JSON', async () => {
  const { r } = await handFed((m) => (m.writeUInt32LE(1, 4096), m.write('{', 4104), m.writeBigUInt64LE(16n, 0)));
  assert.deepEqual([r.state.name, r.state.severity], ['DataClipError', 'exception']);
  assert.match(r.state.message, /^item 1 of state\.pages is not valid JSON: /);
});

test('a ring that is none is refused', async () => {
  for (const [capacity, seals] of [[CAPACITY, libc.SEAL_SHRINK], [4096, 7], [3 * CAPACITY, 7]]) {
    const fd = ringFile(capacity, seals);
    assert.throws(() => new RingReader(fd, { capacity: BigInt(capacity), maxDemand: 1, minDemand: 0 }, () => {}), /broke its rules/);
  }
});

test('a hostile consumer', () => {
  for (const [at, value] of [[64, 8n], [64, 2n ** 64n - 1n]]) {
    const fd = ringFile();
    const address = libc.mmap(fd, 4096 + CAPACITY, true);
    const memory = libc.view(address, 4096 + CAPACITY);
    const writer = new RingWriter(fd, BigInt(CAPACITY), () => {});
    memory.writeBigUInt64LE(value, at);
    assert.throws(() => writer.write('1'), /broke its rules/);
    writer.close();
    libc.munmap(address, 4096 + CAPACITY);
  }
});

test('a step may do both', async () => {
  const fd = ringFile();
  const items = [];
  const writer = new RingWriter(again(fd), BigInt(CAPACITY), () => c.channel.send({ message: { type: 'wake', stream: ID } }));
  const out = ringFile();
  const OUT = ID + 1n;
  let reader;
  c.onStream = (message, id) => {
    if (message.type === 'stream') {
      reader = new RingReader(again(out), { capacity: BigInt(CAPACITY), maxDemand: 100, minDemand: 50 }, () => c.channel.send({ message: { type: 'wake', stream: OUT } }));
      c.channel.send({ id, message: { type: 'stream-ring', stream: OUT, capacity: BigInt(CAPACITY) } }, out);
    } else if (message.type === 'consume') {
      c.channel.send({ id, message: { type: 'stream-ring', stream: ID, capacity: BigInt(CAPACITY), maxDemand: 100, minDemand: 50 } }, fd);
      setTimeout(() => {
        for (let i = 0; i < 20; i++) assert.ok(writer.write(`{"i":${i}}`));
        writer.flush();
        c.channel.send({ message: { type: 'stream-end', stream: ID } });
      }, 5);
    }
  };
  const r = await c.fn('transform', withStream(c));
  assert.equal(r.type, 'done', r.message);
  for (let item; (item = reader.take((bytes) => JSON.parse(bytes.toString()).i)); ) items.push(item.value);
  assert.deepEqual(items, Array.from({ length: 20 }, (_, i) => 2 * i));
  libc.close(fd);
  libc.close(out);
});
