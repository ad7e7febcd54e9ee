// Messages by way of shared memory: order, what a hostile peer may write there,
// and that nobody sleeps through a message.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fstatSync, openSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Channel } from '../src/channel.js';
import { encodeFrame, parseFrame } from '../src/frames.js';
import { Asleep, Lanes, laneMemorySize } from '../src/lanes.js';
import * as libc from '../src/libc.js';
import { FrameSocket } from '../src/socket.js';
import { ProtocolError } from '../src/wire.js';
import { FUNCTIONS, Supervisor, offerRing, ringMemory } from './stub.js';

const SIZE = 4096;
const DATA = 4096;
const dup = (fd) => openSync(`/proc/self/fd/${fd}`, 'r+');
const frame = (type, id = 0n, fields = {}) => encodeFrame({ id, message: { type, ...fields } });
/** A frame of so many bytes. */
const frameOf = (bytes, id = 0n) => frame('log', id, { message: 'm'.repeat(bytes - frame('log').length) });

/** A channel on a ring, and the peer's hands on the ring and the socket. */
class Hands {
  got = [];
  constructor(size = SIZE, options = {}) {
    const [mine, theirs] = libc.socketpair();
    this.ended = new Promise((resolve) => {
      this.channel = new Channel(mine, {
        onMessage: ({ id, message }, file) => this.got.push({ id, type: message.type, file }),
        onEnd: resolve,
        ...options,
      });
    });
    const memory = ringMemory(size);
    this.lanes = new Lanes(dup(memory), size, 1);
    this.channel.useRing(new Lanes(memory, size));
    this.socket = new FrameSocket(theirs);
  }
  /** What the channel reads: its counters, as the peer writes them. */
  store(counter, value) {
    const { counters, [counter]: at } = this.lanes.out;
    Atomics.store(counters, at, value);
  }
  ring() {
    this.socket.write(frame('doorbell'));
  }
  close() {
    this.channel.close();
    this.lanes.close();
    this.socket.close();
  }
}

const turns = async (n = 5) => {
  for (let i = 0; i < n; i++) await new Promise((resolve) => setImmediate(resolve));
};

test('frames wrap, whatever their size', () => {
  const memory = ringMemory(SIZE);
  const theirs = new Lanes(dup(memory), SIZE, 1);
  const mine = new Lanes(memory, SIZE);
  for (let i = 0, pending = []; i < 3000; i++) {
    const bytes = frameOf(72 + 8 * ((i * 37) % 100), BigInt(i));
    while (!theirs.out.write(bytes)) {
      const { header, bytes: got } = mine.in.take();
      assert.deepEqual(Buffer.from(got.subarray(0, header.size)), pending.shift());
    }
    pending.push(Buffer.from(bytes));
  }
  theirs.close();
  mine.close();
});

const vectors = JSON.parse(readFileSync(new URL('../../../ipc/testdata/lanes.json', import.meta.url), 'utf8'));

for (const { name, ringSize, lane, frames, head, data } of vectors.lanes) {
  test(`bytes of the ring: ${name}`, () => {
    const memory = ringMemory(ringSize);
    const bytes = libc.view(libc.mmap(memory, laneMemorySize(ringSize), false), laneMemorySize(ringSize));
    const writer = new Lanes(dup(memory), ringSize, 1 - lane);
    const reader = new Lanes(memory, ringSize, lane);
    for (const hex of frames) {
      assert.ok(writer.out.write(Buffer.from(hex, 'hex')));
      const { header, bytes: got } = reader.in.take();
      assert.equal(Buffer.from(got.subarray(0, header.size)).toString('hex'), hex);
    }
    assert.equal(reader.in.doze(Asleep.ON_WORD), true);
    assert.equal(bytes.subarray(192 * lane, 192 * (lane + 1)).toString('hex'), head);
    const from = DATA + lane * ringSize;
    assert.equal(bytes.subarray(from, from + ringSize).toString('hex'), data);
  });
}

for (const [name, make, message] of [
  ['without seals', () => [ringMemory(SIZE, libc.SEAL_SHRINK), SIZE], /not sealed/],
  ['of another size', () => [ringMemory(SIZE), 2 * SIZE], /has 12288 bytes, not 20480/],
  ['that is no power of two', () => [ringMemory(SIZE), 5000], /not a power of two/],
  ['too small', () => [ringMemory(2048), 2048], /not a power of two/],
]) {
  test(`memory ${name} is refused`, () => {
    assert.throws(() => new Lanes(...make()), { name: 'ProtocolError', message });
  });
}

for (const [name, act, message] of [
  ['more than the ring holds', (h) => h.store('written', BigInt(SIZE + 8)), /4104 away/],
  ['2^63', (h) => h.store('written', (1n << 63n) + 8n), /away from the reader's/],
  ['a step back', (h) => h.store('written', 2n ** 64n - 8n), /away from the reader's/],
  ['less than a header', (h) => h.store('written', 16n), /less than a header/],
  ['an empty frame', (h) => h.store('written', 64n), /below the header's/],
  [
    'a frame longer than what is there',
    (h) => {
      h.lanes.out.write(frameOf(104));
      h.lanes.out.bytes[0] = 112;
    },
    /112 bytes, 104 pending/,
  ],
  ['a frame with a descriptor', (h) => h.lanes.out.write(encodeFrame({ message: { type: 'attach' }, files: 1 })), /those go by the socket/],
  ['a doorbell', (h) => h.lanes.out.write(frame('doorbell')), /out of place/],
  ['an unknown frame', (h) => h.lanes.out.write(Buffer.from(frame('ping')).fill(99, 4, 5)), /unknown frame type 99/],
]) {
  test(`a writer that shows ${name} ends the channel`, async () => {
    const h = new Hands();
    await turns();
    act(h);
    h.ring();
    const error = await h.ended;
    assert.ok(error instanceof ProtocolError, error);
    assert.match(error.message, message);
    h.close();
  });
}

for (const [name, value] of [['ahead', 48n], ['far ahead', 1n << 63n], ['behind', -BigInt(SIZE) - 8n]]) {
  test(`a reader's counter ${name} is found out`, () => {
    const h = new Hands();
    Atomics.store(h.lanes.in.counters, h.lanes.in.read, BigInt.asUintN(64, value));
    assert.throws(() => h.channel.send({ message: { type: 'ping' } }), { name: 'ProtocolError', message: /away from the writer's/ });
    h.close();
  });
}

test('what a peer does to the counters that are not its own does no harm', async () => {
  const h = new Hands();
  await turns();
  for (let i = 1; i <= 300; i++) {
    Atomics.store(h.lanes.out.counters, h.lanes.out.read, BigInt(i * 7919));
    Atomics.store(h.lanes.in.counters, h.lanes.in.written, BigInt(i * 104729));
    h.channel.send({ id: BigInt(i), message: { type: 'ping' } });
    // The peer's own reader trusts no more than this side's.
    Atomics.store(h.lanes.in.counters, h.lanes.in.written, BigInt(i * 24));
    assert.equal(parseFrame(h.lanes.in.take().bytes.subarray(0, 24)).id, BigInt(i));
    Atomics.store(h.lanes.out.counters, h.lanes.out.read, BigInt((i - 1) * 24));
    assert.ok(h.lanes.out.write(frame('pong', BigInt(i))));
    h.ring();
    await turns(2);
  }
  while (h.got.length < 300) await turns();
  assert.deepEqual(h.got.map(({ id }) => id), Array.from({ length: 300 }, (_, i) => BigInt(i + 1)));
  h.close();
});

test('frames on the socket wait for their announcement, and doorbells are none', async () => {
  const h = new Hands();
  h.socket.write(frame('doorbell'));
  h.lanes.out.write(frame('ping', 1n));
  h.lanes.out.write(frame('from-socket'));
  h.lanes.out.write(frame('ping', 3n));
  h.socket.write(frame('doorbell'));
  while (h.got.length < 1) await turns();
  await delay(5);
  assert.deepEqual(h.got.map(({ id }) => id), [1n]);
  const file = libc.memfdCreate('x');
  h.socket.write(encodeFrame({ id: 2n, message: { type: 'attach' }, files: 1 }), file);
  while (h.got.length < 3) await turns();
  assert.deepEqual(h.got.map(({ id }) => id), [1n, 2n, 3n]);
  assert.equal(fstatSync(h.got[1].file).ino, fstatSync(file).ino);
  for (const fd of [file, h.got[1].file]) libc.close(fd);
  h.close();
});

for (const type of ['ping', 'from-socket']) {
  test(`a ${type} on the socket that nothing announces ends the channel`, async () => {
    const h = new Hands();
    h.socket.write(frame(type, 1n));
    assert.match((await h.ended).message, /does not announce/);
    h.close();
  });
}

test('a frame on the socket that is announced twice over is no message of the ring', async () => {
  const h = new Hands();
  h.lanes.out.write(frame('from-socket'));
  h.socket.write(frame('from-socket'));
  assert.match((await h.ended).message, /out of place/);
  h.close();
});

test('on a hang-up the frames in the ring count', async () => {
  const h = new Hands();
  await turns();
  for (let i = 1n; i <= 20n; i++) h.lanes.out.write(frame('ping', i));
  h.socket.close();
  assert.equal((await h.ended).name, 'HangUpError');
  assert.equal(h.got.length, 20);
  h.channel.close();
  h.lanes.close();
});

test('a hang-up is noticed by whoever has left a doorbell unread, and behind one', async () => {
  const h = new Hands();
  await turns();
  h.ring();
  h.lanes.in.doze(Asleep.ON_SOCKET);
  h.channel.send({ message: { type: 'ping' } });
  h.socket.close();
  assert.equal((await h.ended).name, 'HangUpError');
  h.channel.close();
  h.lanes.close();
});

test('large frames and descriptors are announced, and who sleeps is woken', async () => {
  const h = new Hands();
  const next = () => parseFrame(h.lanes.in.take().bytes.slice(0, 24)).message.type;
  const onSocket = async () => {
    while (h.socket.read() === false) await turns(1);
    return parseFrame(h.socket.next().bytes).message.type;
  };
  h.lanes.in.doze(Asleep.ON_SOCKET);
  h.channel.send({ message: { type: 'log', message: 'm'.repeat(SIZE / 4) } });
  // The frame itself wakes who sleeps on the socket.
  assert.deepEqual([next(), await onSocket()], ['from-socket', 'log']);
  assert.equal(Atomics.load(h.lanes.in.words, h.lanes.in.asleep), Asleep.ON_SOCKET);
  h.channel.send({ message: { type: 'ping' } });
  assert.equal(Atomics.load(h.lanes.in.words, h.lanes.in.asleep), Asleep.NO);
  assert.deepEqual([next(), await onSocket()], ['ping', 'doorbell']);
  for (const how of [2, 3, 31, 77, -1]) {
    Atomics.store(h.lanes.in.words, h.lanes.in.asleep, how);
    h.channel.send({ message: { type: 'ping' } });
    assert.equal(Atomics.load(h.lanes.in.words, h.lanes.in.asleep), Asleep.NO);
    assert.equal(next(), 'ping');
  }
  await delay(1);
  assert.equal(h.socket.read(), false); // no doorbell for those
  h.close();
});

test('who sleeps on the word is woken ahead of a message', () => {
  const h = new Hands();
  const { words, asleep } = h.lanes.in;
  for (const [how, left] of [[Asleep.NO, 0], [Asleep.ON_SOCKET, 1], [Asleep.ON_WORD, 0], [31, 0]]) {
    Atomics.store(words, asleep, how);
    h.channel.alert();
    assert.equal(Atomics.load(words, asleep), left);
  }
  h.close();
  h.channel.alert();
});

test('a peer that makes no room is given up, and one that hangs up sooner', () => {
  const h = new Hands(SIZE, { sendTimeout: 100 });
  const fill = () => {
    for (let i = 0; i < 1000; i++) h.channel.send({ id: BigInt(i), message: { type: 'ping' } });
  };
  assert.throws(fill, /100 ms without room/);
  h.socket.close();
  assert.throws(fill, { name: 'HangUpError' });
  h.channel.close();
  h.lanes.close();
});

test('what comes while a send waits for room is taken in, and given out after it', async () => {
  const h = new Hands(SIZE, { sendTimeout: 50 });
  for (let i = 1n; i <= 10n; i++) h.lanes.out.write(frame('ping', i));
  assert.throws(() => {
    for (let i = 0; i < 1000; i++) h.channel.send({ message: { type: 'ping' } });
  }, /without room/);
  assert.equal(h.lanes.out.write(frameOf(1024, 11n)), true);
  assert.deepEqual(h.got, []);
  h.ring();
  while (h.got.length < 11) await turns();
  assert.deepEqual(h.got.map(({ id }) => id), Array.from({ length: 11 }, (_, i) => BigInt(i + 1)));
  h.close();
});

/** A process that sends everything back. */
class Echo {
  #waiting = [];
  constructor(ringSize, ...args) {
    const [mine, theirs] = libc.socketpair();
    this.ended = new Promise((resolve) => {
      this.channel = new Channel(mine, {
        onMessage: (envelope, file) => this.#waiting.shift()({ envelope, file }),
        onEnd: resolve,
      });
    });
    this.child = spawn(process.execPath, [fileURLToPath(new URL('./fixtures/echo.js', import.meta.url)), ...args], { stdio: ['ignore', 'inherit', 'inherit', theirs] });
    this.exited = new Promise((resolve) => this.child.on('exit', resolve));
    libc.close(theirs);
    offerRing(this.channel, { type: 'welcome', version: 1, capabilities: ['ring'], ringSize });
  }
  send(envelope, file) {
    const answer = new Promise((resolve) => this.#waiting.push(resolve));
    this.channel.send(envelope, file);
    return answer;
  }
  async stop() {
    this.channel.close();
    await this.exited;
  }
}

for (const ringSize of [SIZE, 64 << 10]) {
  test(`frames of all sizes and with descriptors keep their order, both ways at once: ${ringSize} bytes`, async () => {
    const echo = new Echo(ringSize);
    const answers = [];
    for (let i = 0; i < 3000; i++) {
      const file = Math.random() < 0.05 ? libc.memfdCreate('x') : -1;
      const size = Math.random() < 0.02 ? 200_000 * Math.random() : (ringSize / 3) * Math.random() ** 3;
      const message = file >= 0 ? { type: 'attach', segment: BigInt(i) } : { type: 'log', message: 'm'.repeat(size) };
      answers.push(echo.send({ id: BigInt(i), message }, file).then((got) => ({ ...got, sent: message, inode: file >= 0 && fstatSync(file).ino, mine: file })));
      if (Math.random() < 0.02) await delay(Math.random() * 6);
    }
    for (const [i, answer] of answers.entries()) {
      const { envelope, file, sent, inode, mine } = await answer;
      assert.equal(envelope.id, BigInt(i));
      assert.equal(envelope.message.message, sent.message);
      assert.equal(file >= 0 && fstatSync(file).ino, inode);
      if (file >= 0) for (const fd of [file, mine]) libc.close(fd);
    }
    await echo.stop();
  });
}

test('nobody sleeps through a message, whenever it comes', { timeout: 60_000 }, async () => {
  const echo = new Echo(SIZE, 'pause');
  for (let i = 0; i < 3000; i++) {
    await echo.send({ id: BigInt(i), message: { type: 'ping' } });
    const until = performance.now() + (Math.random() < 0.02 ? 6 : 0.1) * Math.random();
    if (Math.random() < 0.5) while (performance.now() < until);
    if (Math.random() < 0.3) echo.channel.alert();
  }
  await echo.stop();
});

async function withExecutor(options, fn) {
  const s = await Supervisor.start({ program: FUNCTIONS, ...options });
  try {
    await fn(s);
  } finally {
    await s.stop();
  }
}

for (const ringSize of [0, SIZE]) {
  test(`a flood of lines through ${ringSize === 0 ? 'the socket' : 'a small ring'} comes whole and in order`, () =>
    withExecutor({ ringSize }, async (s) => {
      const { logs } = await s.fn('flood', {});
      assert.deepEqual(logs.map((l) => JSON.parse(l.message)[0]), Array.from({ length: 5000 }, (_, i) => i));
      // The state's segment comes by the socket, behind lines that are held.
      const added = await s.fn('floodAndAdd', {});
      assert.equal(added.logs.length, 500);
      assert.deepEqual(added.state, { list: [1, 2, 3] });
    }));
}

test('a flood of pings is answered, though neither side reads while it waits for room', () =>
  withExecutor({ ringSize: SIZE }, async (s) => {
    const answers = Array.from({ length: 5000 }, () => s.request({ type: 'ping' }));
    for (const answer of answers) assert.equal((await answer).message.type, 'pong');
  }));

test('an executor that waits for its next step keeps what a step has left running', () =>
  withExecutor({}, async (s) => {
    await s.fn('tick', {});
    for (let i = 0; i < 300; i++) await s.fn('number', {});
    const { ticks } = (await s.fn('ticks', {})).state;
    for (let i = 0; i < 20; i++) await s.fn('number', {});
    await delay(50);
    const { ticks: later } = (await s.fn('ticks', {})).state;
    assert.ok(ticks > 0, 'no tick between 300 steps');
    assert.ok(later - ticks >= 8, `${later - ticks} ticks of 2 ms in 50 ms`);
  }));

test('a welcome that grants the ring and brings none ends the executor', async () => {
  const [mine, theirs] = libc.socketpair();
  let stderr = '';
  const child = spawn(process.execPath, [FUNCTIONS], { stdio: ['ignore', 'ignore', 'pipe', theirs], env: { ...process.env, MILLRACE_CONTROL_FD: '3' } });
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  libc.close(theirs);
  const channel = new Channel(mine, {
    onMessage: () => channel.send({ message: { type: 'welcome', version: 1, executor: 7, capabilities: ['ring'] } }),
    onEnd: () => {},
  });
  assert.equal(await new Promise((resolve) => child.on('close', resolve)), 1);
  assert.match(stderr, /brings no descriptor/);
});
