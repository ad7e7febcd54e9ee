/**
 * A supervisor for tests: spawns a real executor on a socketpair, hands it
 * states and reads its results back from shared memory.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Arena } from '../src/arena.js';
import { BlockWriter } from '../src/blockwriter.js';
import { Channel } from '../src/channel.js';
import { Encoding, Kind } from '../src/frames.js';
import { Lanes, laneMemorySize } from '../src/lanes.js';
import * as libc from '../src/libc.js';
import { Segments } from '../src/segments.js';

export const GENERIC = fileURLToPath(new URL('../bin/millrace-node-worker.js', import.meta.url));
export const FUNCTIONS = fileURLToPath(new URL('./fixtures/functions.js', import.meta.url));

const EXECUTOR = 7;

export class Supervisor {
  hello = null;
  logs = [];
  exit = null;
  stderr = '';
  /** Every attach, detach and done received, in order. */
  events = [];
  /** Answers calls: gets {id, step, until, timeout, table}, returns a state or a table; throws a fail's fields. */
  onCall = () => ({});
  /** Calls received, cancelled and forgotten: the ids. */
  calls = [];
  cancelled = [];
  forgotten = [];
  forwards = [];
  /** Gets stream, consume, wake and stream-end: (message, id, table). */
  onStream = () => {};
  #waiting = new Map();
  #nextId = 0n;
  #nextCode = 0n;
  #codes = new Map();
  #blocks = [];

  /**
   * @param {{program?: string, nodeFlags?: string[], welcome?: object, ringSize?: number}} [options] ringSize 0: without
   */
  static async start({ program = GENERIC, nodeFlags = [], welcome = {}, ringSize = 64 << 10 } = {}) {
    const s = new Supervisor();
    const [mine, theirs] = libc.socketpair();
    s.arena = new Arena({
      executor: 1,
      announce: (segment) => s.channel.send({ message: { type: 'attach', segment: segment.id, size: BigInt(segment.size) } }, segment.fd),
      drop: () => {},
    });
    s.segments = new Segments(s.arena);
    const greeted = new Promise((resolve, reject) => {
      s.ended = new Promise((end) => {
        s.channel = new Channel(mine, {
          onMessage: (envelope, file) => (s.hello ? s.#receive(envelope, file) : ((s.hello = envelope.message), resolve())),
          onEnd: (error) => {
            s.endError = error;
            for (const { reject: fail } of s.#waiting.values()) fail(error);
            reject(error);
            end(error);
          },
        });
      });
    });
    s.child = spawn(process.execPath, [...nodeFlags, program], {
      stdio: ['ignore', 'pipe', 'pipe', theirs],
      env: { ...process.env, MILLRACE_CONTROL_FD: '3' },
    });
    s.child.stderr.setEncoding('utf8').on('data', (text) => (s.stderr += text));
    s.child.stdout.resume();
    s.exited = new Promise((resolve) => s.child.on('exit', (code, signal) => resolve((s.exit = { code, signal }))));
    libc.close(theirs);
    await greeted.catch(async (error) => {
      await s.exited;
      throw new Error(`the executor did not greet: ${s.stderr}`, { cause: error });
    });
    const capabilities = ['conditions', 'calls', 'streams', ...(ringSize > 0 ? ['ring'] : [])];
    const message = { type: 'welcome', version: 1, executor: EXECUTOR, capabilities, ringSize, retainBytes: 64n << 20n, prefaultBytes: 0n, dropKeys: ['configuration', 'response'], ...welcome };
    s.lanes = offerRing(s.channel, message);
    return s;
  }

  #receive({ id, message, table }, file) {
    switch (message.type) {
      case 'attach':
        this.events.push(message);
        return this.segments.attach(message.segment, message.size, file);
      case 'detach':
        this.events.push(message);
        return this.segments.detach(message.segments);
      case 'call':
        this.calls.push(id);
        this.events.push(message);
        return void this.#answerCall({ id, ...message, table });
      case 'stream':
      case 'consume':
      case 'wake':
      case 'stream-end':
        return void this.onStream(message, id, table);
      case 'cancel':
        return void this.cancelled.push(id);
      case 'forget':
        return void this.forgotten.push(...message.calls);
      case 'forward':
        return void this.forwards.push({ id, step: message.step });
      case 'log':
        return this.logs.push({ id, ...message });
      default: {
        this.events.push(message);
        const waiting = this.#waiting.get(id);
        if (!waiting) throw new Error(`${message.type} answers nothing`);
        this.#waiting.delete(id);
        waiting.resolve({ message, table });
      }
    }
  }

  async #answerCall(call) {
    try {
      const result = await this.onCall(call);
      const table = result?.rows ? result : this.table(result);
      this.arena.publish();
      this.channel.send({ id: call.id, message: { type: 'result', step: call.step }, table });
    } catch (error) {
      if (this.channel.isClosed) return;
      const { severity = 'exception', name, message, details = '' } = error;
      this.channel.send({ id: call.id, message: { type: 'fail', severity, name, message, details } });
    }
  }

  request(message, table) {
    const id = ++this.#nextId;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.channel.send({ id, message, table });
    return Object.assign(answer, { id });
  }

  /** Writes JSON text as a row of one or more spans. */
  row(key, ...pieces) {
    const spans = [];
    for (const text of pieces) {
      const writer = new BlockWriter(this.arena);
      if (Buffer.isBuffer(text)) writer.bytes(text);
      else for (let i = 0; i < text.length; i += 100_000) writer.text(text.slice(i, i + 100_000));
      const encoding = Buffer.isBuffer(text) ? Encoding.RAW : Encoding.JSON;
      for (const block of writer.commit()) spans.push({ ...block, encoding, flags: 0 });
    }
    return { key, spans };
  }

  /** A state as a table. */
  table(state) {
    if (state === undefined) return { kind: Kind.ABSENT, rows: [] };
    if (state === null || typeof state !== 'object' || Array.isArray(state)) return { kind: Kind.VALUE, rows: [this.row('', JSON.stringify(state))] };
    return { kind: Kind.OBJECT, rows: Object.entries(state).map(([key, value]) => this.row(key, JSON.stringify(value))) };
  }

  text(row) {
    return Buffer.concat(row.spans.map((span) => Buffer.from(this.segments.view(span)))).toString();
  }

  /** A table as a state. */
  read(table) {
    if (table.kind === Kind.ABSENT) return undefined;
    if (table.kind === Kind.VALUE) return JSON.parse(this.text(table.rows[0]));
    const rows = table.rows.filter((row) => row.spans[0].encoding === Encoding.JSON && row.spans[0].flags === 0);
    return JSON.parse(`{${rows.map((row) => `${JSON.stringify(row.key)}:${this.text(row)}`).join(',')}}`);
  }

  prepare(kind, spec) {
    const key = JSON.stringify([kind, spec]);
    if (!this.#codes.has(key)) {
      const code = ++this.#nextCode;
      this.#codes.set(key, code);
      this.channel.send({ message: { type: 'prepare', code, kind, spec: JSON.stringify(spec) } });
    }
    return this.#codes.get(key);
  }

  /** Runs a step; state is a value or a table. */
  async run(kind, spec, state, options = {}) {
    const code = this.prepare(kind, spec);
    const input = state?.rows ? state : this.table(state);
    this.arena.publish();
    const from = this.logs.length;
    const request = this.request({ type: 'execute', code, run: 'run', step: 'step', attempt: 1, timeout: 0n, memoryLimit: 0n, budget: 0n, upstream: 'before', conditions: [], after: 0n, ...options }, input);
    const { message, table } = await request;
    if (message.type === 'done') this.#blocks.push(...message.blocks);
    return { ...message, input, table, logs: this.logs.slice(from), state: message.type === 'done' ? this.read(table) : undefined };
  }

  fn(name, state, options) {
    return this.run('function', { function: name }, state, options);
  }

  job(source, state, { adaptors = [], repo_dir = '', path = 'job.js', globals = '', ...options } = {}) {
    return this.run('javascript', { source, path, adaptors, repo_dir, globals }, state, options);
  }

  /** Tells the executor that its blocks are free again. */
  release(blocks) {
    this.channel.send({ message: { type: 'release', blocks } });
  }

  async stop() {
    this.channel.close();
    await this.exited;
  }
}

/** The memory of a ring, as a supervisor makes it. */
export function ringMemory(size, seals = libc.SEAL_SHRINK | libc.SEAL_GROW | libc.SEAL_SEAL) {
  const fd = libc.memfdCreate('test-ring');
  libc.ftruncate(fd, laneMemorySize(size));
  libc.addSeals(fd, seals);
  return fd;
}

/** Sends a welcome, with a ring if it grants one, whose lanes it returns. */
export function offerRing(channel, message) {
  if (!message.capabilities.includes('ring')) return void channel.send({ message });
  const fd = ringMemory(message.ringSize);
  channel.send({ message }, fd);
  const lanes = new Lanes(fd, message.ringSize, 1);
  channel.useRing(lanes);
  return lanes;
}

/** Whether a key of the result is the very row of the input. */
export function isPassedOn(result, key, inputKey = key) {
  const out = result.table.rows.find((row) => row.key === key);
  const into = result.input.rows.find((row) => row.key === inputKey);
  const same = (a, b) => a.segment === b.segment && a.offset === b.offset && a.length === b.length;
  return out !== undefined && out.spans.length === into.spans.length && out.spans.every((span, i) => same(span, into.spans[i]));
}
