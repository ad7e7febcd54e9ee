/**
 * The executor: one control channel, one step at a time.
 * @module
 */
import { createRequire } from 'node:module';
import { Arena } from './arena.js';
import { Channel } from './channel.js';
import { evaluate } from './conditions.js';
import { argumentsText, makeConsole } from './console.js';
import { StepError, classify, describe, jsonSafe } from './errors.js';
import { Encoding, FrameSizeError, Kind, MAX_FRAME_SIZE, NO_TABLE, STREAM_FLAG, sizeOf } from './frames.js';
import { Execution } from './execution.js';
import { Feed, streamKey } from './feed.js';
import { flowOf } from './flow.js';
import { forwardOf } from './forward.js';
import { Lanes } from './lanes.js';
import { Latest, leftover } from './latest.js';
import { Input } from './lazy.js';
import { close, exitNow, hasFutex } from './libc.js';
import { Segments } from './segments.js';
import { installStructuredClone } from './clone.js';
import { collectWhenFull, countWork } from './tuning.js';
import { ProtocolError } from './wire.js';

const VERSION = 1;
const FD_VARIABLE = 'MILLRACE_CONTROL_FD';
const { version: RELEASE } = createRequire(import.meta.url)('../package.json');
const RING = 'ring';
// Without futex(2) a peer that sleeps on the ring could not be woken.
const CAPABILITIES = ['conditions', 'calls', 'streams', 'ahead', ...(hasFutex ? [RING] : [])];
/** A longer value is not looked at: no number that is 0 has so many digits, to the supervisor. */
const LONGEST_NONE = 8;
/** How long a cancelled function may take to end by itself, in ms. */
const CANCEL_GRACE = 200;

/** The descriptor that the supervisor left, or an error that says what is missing. */
function controlDescriptor() {
  const value = process.env[FD_VARIABLE];
  if (value === undefined) {
    throw new Error(`${FD_VARIABLE} is not set: an executor is started by a millrace supervisor, not by hand; name it in a workflow file and use \`millrace run\``);
  }
  if (!/^\d+$/.test(value) || Number(value) < 3) throw new Error(`${FD_VARIABLE}=${JSON.stringify(value)} is not a descriptor's number`);
  // The user's own children must not mistake it for theirs.
  delete process.env[FD_VARIABLE];
  return Number(value);
}

/**
 * Runs this process as an executor until the supervisor hangs up.
 * @param {Record<string, (state: any, ctx: Context) => any>} [functions] what steps of kind "function" may name
 */
export function main(functions = {}) {
  for (const [name, fn] of Object.entries(functions)) {
    if (typeof fn !== 'function') throw new TypeError(`${name} is not a function`);
  }
  const fd = controlDescriptor();
  collectWhenFull();
  new Executor(fd, functions);
}

/**
 * @typedef {object} Context what a function gets beside the state
 * @property {string} step the step's id
 * @property {string} run the run's id
 * @property {number} attempt counts from 1
 * @property {string} upstream the id of the step that the state comes from
 * @property {AbortSignal} signal aborted when the step is cancelled
 * @property {Console} console logs of this step
 * @property {import('./flow.js').Flow['call']} call
 * @property {import('./flow.js').Flow['each']} each
 * @property {import('./flow.js').Flow['forget']} forget
 * @property {import('./flow.js').Flow['forward']} forward
 * @property {import('./flow.js').Flow['append']} append
 * @property {import('./flow.js').Flow['concat']} concat
 */

class Executor {
  #channel;
  #functions;
  #welcome = null;
  #segments;
  #arena;
  /** @type {Map<bigint, Promise<(state: any, given: {ctx: Context, flow: import('./flow.js').Flow}, log: any) => any>>} */
  #codes = new Map();
  /** @type {Execution | null} */
  #current = null;
  #latest = new Latest((row) => this.#hasValue(row));
  /** @type {import('./execution.js').Host} */
  #host;
  #lastRequest = 0n;
  /** @type {Map<bigint, ((envelope: import('./frames.js').Envelope, file: number) => void) | null>} own requests that are not answered yet; null: nobody waits */
  #requests = new Map();
  /** @type {Map<bigint, (message: object) => void>} streams of which this process has an end */
  #streams = new Map();
  #jobConsole = makeConsole((level, message) => this.#log(level, 'job', message));
  #stopping = false;
  #exiting = false;

  constructor(fd, functions) {
    this.#functions = functions;
    this.#channel = new Channel(fd, {
      onMessage: (envelope, file) => this.#receive(envelope, file),
      onEnd: (error) => this.#end(error),
    });
    this.#guardProcess();
    installStructuredClone();
    this.#channel.send({
      message: {
        type: 'hello',
        minVersion: VERSION,
        maxVersion: VERSION,
        pid: process.pid,
        language: 'node',
        release: RELEASE,
        capabilities: CAPABILITIES,
        functions: Object.keys(functions),
      },
    });
    // Not loaded by workers that have functions only, and not before the hello:
    // a pool waits for that one.
    if (Object.keys(functions).length === 0) setImmediate(() => this.#jobs().then(({ Job }) => Job.warmUp()));
  }

  #jobs() {
    return import('./job.js');
  }

  /** The channel is gone: nothing that this process does matters any more. */
  #end(error) {
    if (error.name !== 'HangUpError') process.stderr.write(`millrace-node-worker: ${error.message}\n`);
    exitNow(error.name === 'HangUpError' ? 0 : 1);
  }

  #guardProcess() {
    // A terminal's Ctrl-C goes to the whole group; the supervisor cancels.
    process.on('SIGINT', () => {});
    process.on('exit', (code) => {
      if (this.#exiting) return;
      this.#exiting = true;
      this.#fail(new StepError('crash', 'ExitError', `Process exited with code: ${code}`, { code }));
    });
    const uncaught = (error, origin) => {
      this.#exiting = true;
      const settled = classify(error);
      const name = error instanceof StepError ? error.name : 'ExecutionError';
      const stack = typeof error?.stack === 'string' ? error.stack : undefined;
      this.#fail(new StepError('crash', name, describe(error), { ...settled.details, uncaught: origin, stack }));
      if (!this.#current) process.stderr.write(`millrace-node-worker: ${origin}: ${stack ?? describe(error)}\n`);
      // Code of the user's may still be running in here: no other step can.
      exitNow(1);
    };
    process.on('uncaughtException', uncaught);
    process.on('unhandledRejection', (reason) => uncaught(reason, 'unhandledRejection'));
    globalThis.console = Object.assign(Object.create(globalThis.console), makeConsole((level, message) => this.#log(level, 'adaptor', message)));
  }

  #receive({ id, message, table }, file) {
    if (!this.#welcome) return this.#greeted(message, file);
    switch (message.type) {
      case 'attach':
        return this.#segments.attach(message.segment, message.size, file);
      case 'detach':
        return this.#segments.detach(message.segments);
      case 'release':
        return this.#arena.release(message.blocks);
      case 'prepare':
        return this.#prepare(message);
      case 'execute':
        if (message.after !== 0n) return this.#follow({ id, message, table });
        this.#latest.begin(id);
        return void this.#execute(id, message, table);
      case 'cancel':
        return this.#cancel(id, message.reason);
      case 'ping':
        return this.#channel.send({ id, message: { type: 'pong' } });
      case 'pong':
        return undefined;
      case 'wake':
      case 'stream-end':
        // One that has ended here may still be told of.
        return this.#streams.get(message.stream)?.(message);
      case 'stream-ring':
      case 'result':
      case 'fail':
        return this.#answer({ id, message, table }, file);
      case 'shutdown':
        this.#stopping = true;
        return this.#stopIfIdle();
      default:
        throw new Error(`${message.type} is not for an executor`);
    }
  }

  #answer(envelope, file) {
    const { id, message } = envelope;
    if (!this.#requests.has(id)) throw new Error(`${message.type} answers no request of this executor: ${id}`);
    const onAnswer = this.#requests.get(id);
    this.#requests.delete(id);
    this.#channel.busy();
    countWork();
    if (onAnswer) onAnswer(envelope, file);
    else if (file >= 0) close(file);
    if (this.#requests.size > 0 && this.#current) this.#channel.expect();
  }

  /** Sends a request of this side's, after another message if there is one; its answer goes to onAnswer. */
  #request(message, table, onAnswer, before) {
    const id = this.#lastRequest + 1n;
    this.#channel.send({ id, message, table }, -1, before);
    this.#lastRequest = id;
    this.#requests.set(id, onAnswer);
    this.#channel.expect();
    return id;
  }

  #greeted(message, file) {
    if (message.type === 'fail') throw new Error(`refused: ${message.name}: ${message.message}`);
    if (message.type !== 'welcome') throw new Error(`${message.type} came before the welcome`);
    if (message.version !== VERSION) throw new Error(`the supervisor speaks protocol version ${message.version}, this worker ${VERSION}: upgrade the older of the two`);
    this.#useRing(message, file);
    this.#welcome = { ...message, dropKeys: new Set(message.dropKeys) };
    this.#arena = new Arena({
      executor: message.executor,
      retainBytes: Number(message.retainBytes),
      announce: (s) => this.#channel.send({ message: { type: 'attach', segment: s.id, size: BigInt(s.size) } }, s.fd),
      drop: (segments) => this.#channel.send({ message: { type: 'detach', segments } }),
    });
    this.#segments = new Segments(this.#arena);
    this.#host = {
      arena: this.#arena,
      segments: this.#segments,
      dropKeys: this.#welcome.dropKeys,
      capabilities: new Set(message.capabilities),
      alert: () => this.#channel.alert(),
      send: (id, message) => this.#channel.send({ id, message }),
      request: (message, table, onAnswer, before) => this.#request(message, table, onAnswer, before),
      listen: (stream, hear) => this.#streams.set(stream, hear),
      unlisten: (stream) => this.#streams.delete(stream),
      abandon: (id) => this.#requests.set(id, null),
    };
    setImmediate(() => this.#rehearse());
    if (message.prefaultBytes > 0n) setImmediate(() => this.#arena.prefault(Number(message.prefaultBytes)));
  }

  #useRing({ capabilities, ringSize }, file) {
    const granted = capabilities.includes(RING);
    if (granted && !CAPABILITIES.includes(RING)) throw new ProtocolError('the welcome grants the ring, which was not announced');
    if (granted !== file >= 0) throw new ProtocolError(granted ? 'the welcome grants the ring and brings no descriptor' : 'the welcome brings a descriptor and does not grant the ring');
    if (granted) this.#channel.useRing(new Lanes(file, ringSize));
  }

  /**
   * Makes a result, throws it away and is idle, so that the first real one finds
   * the arena's memory made and announced, the code compiled and Node.js' clock
   * loaded: some milliseconds.
   */
  #rehearse() {
    if (this.#current) return;
    const rehearsal = new Execution(0n, { step: '' }, this.#host);
    try {
      const result = { ...rehearsal.open({ kind: Kind.OBJECT, rows: [] }), number: 1, text: 'text', list: [{ a: null }] };
      evaluate(['state.number > 0'], '', rehearsal.encode(result, true), this.#segments);
    } finally {
      this.#arena.abort();
      rehearsal.close();
      this.#arena.offer();
      this.#channel.idle();
    }
  }

  /** Compiling starts at once; what goes wrong is the answer to the first execute. */
  #prepare({ code, kind, spec }) {
    const prepared = this.#load(kind, spec);
    prepared.catch(() => {});
    this.#codes.set(code, prepared);
  }

  async #load(kind, specText) {
    const spec = JSON.parse(specText);
    switch (kind) {
      case 'function': {
        const fn = Object.hasOwn(this.#functions, spec.function) ? this.#functions[spec.function] : undefined;
        if (!fn) throw new StepError('crash', 'ValidationError', `this worker has no function ${JSON.stringify(spec.function)}; it has: ${Object.keys(this.#functions).join(', ') || 'none'}`);
        return (state, { ctx }) => fn(state, ctx);
      }
      case 'javascript': {
        const { Job } = await this.#jobs();
        const job = await Job.prepare(spec, { console: this.#jobConsole });
        return (state, { flow }, log) => job.run(state, log, flow);
      }
      default:
        throw new StepError('exception', 'ValidationError', `this worker does not run steps of kind ${JSON.stringify(kind)}`);
    }
  }

  /** Executes what was sent ahead, unless the step before it is still at work. */
  #follow(execute) {
    const { now, why } = this.#latest.follow(execute);
    if (why) this.#leave(execute, why);
    else if (now) this.#execute(now.id, now.message, now.table);
  }

  /** Whether there is a row, and none that counts as no value: null, false, 0 or "". */
  #hasValue(row) {
    if (!row) return false;
    if (row.spans[0].encoding !== Encoding.JSON || sizeOf(row.spans) > LONGEST_NONE) return true;
    try {
      return Boolean(new Input({ kind: Kind.OBJECT, rows: [row] }, this.#segments).state[row.key]);
    } catch {
      return true; // the step that reads it will say so
    }
  }

  /** Answers an execute that was sent ahead and is not begun. */
  #leave(execute, why) {
    const message = { type: 'fail', started: 0n, finished: 0n, severity: 'cancel', name: 'NotBegunError', message: `not begun: ${why}`, details: '' };
    this.#channel.send({ id: execute.id, message });
  }

  async #execute(id, message, table) {
    if (this.#current) throw new Error('execute while another is under way');
    this.#channel.busy();
    const current = new Execution(id, message, this.#host);
    this.#current = current;
    this.#arena.limit = Number(message.budget);
    try {
      const code = this.#codes.get(message.code);
      if (!code) throw new StepError('exception', 'ExecutionError', `code ${message.code} was never prepared`);
      const run = await code;
      const state = current.open(table);
      const flow = flowOf(current);
      const ctx = {
        step: message.step,
        run: message.run,
        attempt: message.attempt,
        upstream: message.upstream,
        get signal() {
          return current.signal;
        },
        console: this.#jobConsole,
        // One by one: a spread costs more than all the rest.
        call: flow.call,
        each: flow.each,
        forget: flow.forget,
        forward: flow.forward,
        append: flow.append,
        concat: flow.concat,
      };
      const log = { warn: (text) => this.#log('warn', 'runtime', argumentsText([text])) };
      if (current.isCancelled) throw current.cancelled();
      current.started = process.hrtime.bigint();
      const result = await run(state, { ctx, flow }, log);
      const key = this.#host.capabilities.has('streams') ? streamKey(result, this.#host.dropKeys) : undefined;
      if (current.answered) return;
      if (key !== undefined) await this.#feed(current, key, result);
      else this.#done(current, result, process.hrtime.bigint());
    } catch (error) {
      this.#fail(this.#classified(error, current), current);
    } finally {
      current.close();
      this.#current = null;
      countWork();
      this.#stopIfIdle();
      this.#goOn(current);
    }
  }

  /** After a step: what was sent ahead, if there is something, or a rest. */
  #goOn({ id, left }) {
    if (this.#requests.size > 0) left = { open: 'the step before it has calls under way' };
    this.#channel.receive(); // the next one, or that it was cancelled
    const { now, never = [], why } = this.#latest.end(id, left);
    if (now) return void this.#execute(now.id, now.message, now.table);
    for (const execute of never) this.#leave(execute, why);
    if (!this.#current) this.#channel.idle(); // it may have been sent another one since
  }

  /** Hands a state with a stream over, and feeds it. */
  async #feed(current, key, result) {
    const { message } = current;
    const { [key]: source, ...others } = Object.getOwnPropertyDescriptors(result);
    const feed = new Feed(this.#host, key, source.value);
    current.onCancel((error) => feed.fail(error));
    const state = current.publish(Object.defineProperties({}, others), true);
    const shown = { key, spans: [{ segment: 0n, offset: 0n, length: 0n, encoding: Encoding.JSON, flags: STREAM_FLAG }] };
    const verdicts = evaluate(message.conditions, message.step, { view: state.view, table: { kind: Kind.OBJECT, rows: [...state.table.rows, shown] } }, this.#segments);
    await feed.run(state);
    if (!current.answered) this.#answerDone(current, { table: NO_TABLE, blocks: [], verdicts }, process.hrtime.bigint(), 'the step before it has handed its state over');
  }

  #classified(error, current) {
    if (current.isCancelled && !(error instanceof StepError)) return current.cancelled();
    if (error instanceof StepError) return error;
    return classify(error, { stack: typeof error?.stack === 'string' ? error.stack : undefined });
  }

  #done(current, result, finished) {
    this.#channel.alert();
    const { message } = current;
    const order = forwardOf(result);
    if (order) current.assertCan('calls', `forward to ${order.step}`);
    const { table, blocks, view } = order ? current.publishInput(order.head) : current.publish(result, message.conditions.length > 0);
    try {
      // A step that chooses where its state goes does not ask its edges.
      const verdicts = order ? message.conditions.map(() => ({ taken: false, error: '' })) : evaluate(message.conditions, message.step, { table, view }, this.#segments);
      if (order) this.#channel.send({ id: current.id, message: { type: 'forward', step: order.step } });
      this.#answerDone(current, { table, blocks, verdicts }, finished, order && 'the step before it has chosen where to go on');
    } catch (error) {
      current.unpublish(blocks);
      if (error instanceof FrameSizeError) throw new StepError('kill', 'StateTooLargeError', error.message, { size: error.size, limit: error.limit });
      throw error;
    }
  }

  /** @param {string} [open] what keeps a step from following unasked */
  #answerDone(current, { table, blocks, verdicts }, finished, open) {
    const { started, id, encoded, scope } = current;
    current.endStreams();
    this.#channel.send({ id, table, message: { type: 'done', started, finished, blocks, decoded: BigInt(scope.decoded), encoded: BigInt(encoded), verdicts } });
    current.answered = true;
    current.left = leftover({ table, blocks, verdicts }, open);
  }

  /** Answers the request under way, once. */
  #fail(error, current = this.#current) {
    if (!current || current.answered) return;
    current.answered = true;
    const message = { type: 'fail', started: current.started, finished: process.hrtime.bigint(), severity: error.severity, name: error.name, message: cut(error.message, 64 << 10), details: detailsText(error.details) };
    try {
      this.#channel.send({ id: current.id, message });
    } catch (failure) {
      process.stderr.write(`millrace-node-worker: ${failure.message}\n`);
    }
  }

  #cancel(id, reason) {
    for (const execute of this.#latest.cancel(id)) this.#leave(execute, 'it was cancelled');
    const current = this.#current;
    if (current?.id !== id || current.isCancelled) return;
    current.cancel(reason);
    setTimeout(() => {
      if (this.#current !== current) return;
      // Its code cannot be stopped from here, and may do anything yet.
      this.#fail(current.cancelled(), current);
      exitNow(0);
    }, CANCEL_GRACE);
  }

  #log(level, source, message) {
    if (!this.#current || this.#current.answered) return;
    const now = performance.now();
    const time = BigInt(Math.round((performance.timeOrigin + now) * 1000));
    this.#channel.sendSoon({ id: this.#current.id, message: { type: 'log', time, level, source, message, structured: true } }, now);
  }

  #stopIfIdle() {
    if (!this.#stopping || this.#current) return;
    exitNow(0);
  }
}

const cut = (text, limit) => (text.length > limit ? `${text.slice(0, limit)}…` : text);

function detailsText(details) {
  if (!details || Object.values(details).every((v) => v === undefined)) return '';
  const text = JSON.stringify(jsonSafe(details));
  return text.length <= MAX_FRAME_SIZE / 16 ? text : JSON.stringify({ note: `${text.length} characters of details were left out`, pos: jsonSafe(details.pos) });
}
