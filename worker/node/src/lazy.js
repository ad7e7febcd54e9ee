/**
 * A state whose top-level keys decode when they are first touched.
 *
 * `state` itself is an ordinary object, so `in`, `delete`, spread,
 * `Object.keys`, destructuring and assignment are simply those of the
 * language. What stands in it depends on the row:
 *
 * - a row below LAZY_SIZE is decoded at once: that costs less than anything
 *   that would avoid it;
 * - an array or object is a stand-in: a Proxy over an empty array or object
 *   which fills itself from the mapping when it is first looked into, and has
 *   no traps from then on. Spreading a state copies the stand-ins, decoding
 *   nothing; the value of a key is one and the same object however it is
 *   reached;
 * - a long string, or bytes, cannot have a stand-in and is an accessor.
 *
 * Every value remembers the row it came from (its origin), so that a result
 * may carry it anywhere and still be passed on by reference.
 * @module
 */
import { inspect } from 'node:util';
import { Encoding, Kind, STREAM_FLAG, sizeOf } from './frames.js';
import { MAX_TEXT } from './segments.js';
import { StepError } from './errors.js';
import { STREAM_TEXT } from './values.js';

/** Rows of fewer bytes decode at once. Measured: see "Figures" in README.md. */
export const LAZY_SIZE = 1024;

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
const peeked = Buffer.from(new ArrayBuffer(LAZY_SIZE));

/**
 * Where a value came from.
 * @typedef {object} Origin
 * @property {Input} input
 * @property {import('./frames.js').Row} row
 * @property {number} size bytes of the row
 * @property {'small' | 'lazy' | 'text' | 'bytes' | 'stream'} form
 * @property {boolean} decoded
 * @property {boolean} [taken] of a tracked input: the program has asked for it
 * @property {import('./rope.js').Rope} [rope] what the value is put together from, in place of a row
 * @property {any} value what the row decoded to; a lazy one's target
 * @property {string} [text] a small row's JSON text
 * @property {LazyHandler} [handler]
 */

/** Stand-ins, from any input, to their origins; small containers and bytes too. */
const origins = new WeakMap();
/** Accessors of states to the origins that they show. */
const getters = new WeakMap();
/** Of the inputs that are open: stand-ins that are filled, long texts that were read. */
const filled = new Set();
const texts = new Set();

/**
 * The origin of an object or array, while its step runs: afterwards the bytes
 * may belong to somebody else, so what a program kept is a value like any other.
 * @returns {Origin | undefined}
 */
export function originOf(value) {
  if (value === null || typeof value !== 'object') return undefined;
  const origin = origins.get(value);
  return origin?.input.isOpen ? origin : undefined;
}

/**
 * The encoding of the row of bytes that a value came from, also when that row
 * cannot be read any more; undefined for any other value.
 */
export function encodingOf(value) {
  const origin = ArrayBuffer.isView(value) ? origins.get(value) : undefined;
  return origin?.form === 'bytes' ? origin.row.spans[0].encoding : undefined;
}

/** Keeps what a stand-in came with readable until the step ends. */
export function keep(value) {
  const origin = originOf(value);
  if (origin?.form === 'lazy') origin.input.isKept = true;
}

/** What a stand-in stands for, filled; undefined for any other value. */
export function standsFor(value) {
  const origin = origins.get(value);
  if (origin?.form !== 'lazy') return undefined;
  fill(origin);
  return origin.value;
}

export const isStandIn = (value) => origins.get(value)?.form === 'lazy';

/**
 * Set while a result is encoded: what `toJSON` of a stand-in is, when the
 * stand-in sits deep inside another value.
 * @type {((origin: Origin) => (() => unknown)) | null}
 */
let toJSONHook = null;

/** Runs fn with stand-ins answering `toJSON` by the hook. */
export function whileEncoding(hook, fn) {
  const before = toJSONHook;
  toJSONHook = hook;
  for (const { handler } of filled) handler.get = filledGet;
  try {
    return fn();
  } finally {
    toJSONHook = before;
    for (const { handler } of filled) handler.get = undefined;
  }
}

/** The row of a long text that was read, whichever state it stood in. */
export function originOfText(value) {
  for (const origin of texts) if (origin.value === value) return origin;
  return undefined;
}

/** The origin that a state's property shows, as long as nobody has decoded it. */
export function untouched(state, key) {
  const get = Object.getOwnPropertyDescriptor(state, key)?.get;
  const origin = get && getters.get(get);
  return origin && !origin.decoded && origin.input.isOpen ? origin : undefined;
}

function filledGet(target, key, receiver) {
  const value = Reflect.get(target, key, receiver);
  return key === 'toJSON' && value === undefined && toJSONHook ? toJSONHook(this.origin) : value;
}

/** The traps of a stand-in: each fills it first. */
class LazyHandler {
  origin;
  filled = false;
  /** Of its own, so that whileEncoding may set it and unset it again. */
  get = lazyGet;
  constructor(origin) {
    this.origin = origin;
  }
}
for (const trap of Object.getOwnPropertyNames(Reflect)) {
  if (trap === 'get') continue;
  Object.defineProperty(LazyHandler.prototype, trap, {
    configurable: true,
    writable: true,
    value(target, ...args) {
      fill(this.origin);
      return Reflect[trap](target, ...args);
    },
  });
}

function lazyGet(target, key, receiver) {
  if (key === 'toJSON' && toJSONHook && this.origin.input.isOpen) return toJSONHook(this.origin);
  // Every await asks: an array of JSON's has none, and is not decoded for that.
  if (key === 'then' && Array.isArray(target)) return undefined;
  fill(this.origin);
  return Reflect.get(target, key, receiver);
}

function fill(origin) {
  const { handler, value: target, input, row } = origin;
  if (handler.filled) return;
  const parsed = origin.rope ? origin.rope.items() : input.parse(row, origin.size);
  delete target[inspect.custom];
  if (Array.isArray(target)) {
    for (let i = 0; i < parsed.length; i += 10_000) target.push(...parsed.slice(i, i + 10_000));
  } else {
    for (const key of Object.keys(parsed)) put(target, key, parsed[key]);
  }
  handler.filled = true;
  handler.get = undefined;
  origin.decoded = true;
  if (input.isOpen && !origin.rope) filled.add(origin);
  Object.setPrototypeOf(handler, null);
}

/** Like target[key] = value, but for "__proto__" too. */
export function put(target, key, value) {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

/**
 * A stand-in for an array or object that fills itself from its origin.
 * @param {Origin} origin gets its form, value and handler
 */
export function standIn(origin, target) {
  origin.form = 'lazy';
  origin.value = target;
  origin.handler = new LazyHandler(origin);
  // Node.js looks at the target of a proxy without asking it.
  Object.defineProperty(target, inspect.custom, {
    configurable: true,
    value(depth, options, show) {
      fill(origin);
      return show(target, options);
    },
  });
  const proxy = new Proxy(target, origin.handler);
  origins.set(proxy, origin);
  origin.input.lazies.push(origin);
  return proxy;
}

/** A state that an execution may read: its input, or the result of a call. */
export class Input {
  #segments;
  #holder = {};
  #isBare;
  #isTracked;
  #why = 'belongs to a step that has ended: what is to be kept must be read while the step runs';
  /** Whether the bytes may be read: the step runs, and has not forgotten them. */
  isOpen = true;
  /** Whether the program said that it goes on to use this. */
  isKept = false;
  /** Bytes of the values decoded so far. */
  decoded = 0;
  /** @type {Origin[]} every stand-in */
  lazies = [];
  /** @type {Map<string, Origin>} every row, by key */
  byKey = new Map();

  /**
   * @param {import('./frames.js').Table} table
   * @param {import('./segments.js').Segments} segments
   * @param {object} [options]
   * @param {boolean} [options.tracked] note which stand-ins the program asks for
   * @param {(origin: Origin) => object} [options.stream] makes what stands for a stream; without it, a text does
   */
  constructor(table, segments, { tracked = false, stream } = {}) {
    this.#segments = segments;
    this.#isBare = table.kind !== Kind.OBJECT;
    this.#isTracked = tracked;
    this.table = table;
    this.makeStream = stream;
    for (const row of table.rows) this.#enter(this.#holder, row);
  }

  /** What the step's code gets: an object, or whatever a bare value was. */
  get state() {
    return this.#isBare ? this.#holder[''] : this.#holder;
  }

  /** Whether values of it may stand somewhere unread: asked for, never looked into. */
  get isHeld() {
    return this.isKept || this.lazies.some((origin) => origin.taken && !origin.decoded);
  }

  #enter(state, row) {
    const origin = { input: this, row, size: sizeOf(row.spans), form: 'small', decoded: false, value: undefined };
    this.byKey.set(row.key, origin);
    if (row.spans[0].flags & STREAM_FLAG) return put(state, row.key, this.#stream(origin));
    if (row.spans[0].encoding !== Encoding.JSON) return this.#accessor(state, origin, 'bytes');
    if (origin.size < LAZY_SIZE) return put(state, row.key, this.#small(origin));
    switch (this.#firstByte(row)) {
      case 0x5b: // [
        return this.#standIn(state, origin, []);
      case 0x7b: // {
        return this.#standIn(state, origin, {});
      default:
        return this.#accessor(state, origin, 'text');
    }
  }

  #firstByte(row) {
    for (const span of row.spans) {
      const n = this.#segments.peek(span, peeked);
      for (let i = 0; i < n; i++) if (peeked[i] > 0x20) return peeked[i];
      if (n > 0) return 0;
    }
    return 0;
  }

  #small(origin) {
    let text = '';
    if (origin.row.spans.length === 1) {
      text = peeked.utf8Slice(0, this.#segments.peek(origin.row.spans[0], peeked));
      this.decoded += origin.size;
    } else {
      text = this.text(origin.row, origin.size);
    }
    origin.text = text;
    origin.value = parse(text, origin.row.key);
    origin.decoded = true;
    if (origin.value !== null && typeof origin.value === 'object') origins.set(origin.value, origin);
    return origin.value;
  }

  #standIn(state, origin, target) {
    const value = standIn(origin, target);
    if (!this.#isTracked) return put(state, origin.row.key, value);
    this.#define(state, origin, () => {
      origin.taken = true;
      return value;
    });
  }

  #stream(origin) {
    if (!this.makeStream) return STREAM_TEXT;
    origin.form = 'stream';
    origin.value = this.makeStream(origin);
    origins.set(origin.value, origin);
    return origin.value;
  }

  #accessor(state, origin, form) {
    origin.form = form;
    const { row, size } = origin;
    const get = () => {
      if (!origin.decoded) {
        origin.value = form === 'bytes' ? this.#bytes(row, size) : this.parse(row, size);
        origin.decoded = true;
        if (form === 'bytes') origins.set(origin.value, origin);
        else if (typeof origin.value === 'string') texts.add(origin);
      }
      return origin.value;
    };
    this.#define(state, origin, get);
  }

  #define(state, origin, get) {
    const { row } = origin;
    // A method's `this` is the state, or what inherits from it.
    const set = function set(value) {
      if (Object.isFrozen(this)) throw new TypeError(`Cannot assign to read only property '${row.key}' of object`);
      Object.defineProperty(this, row.key, { value, enumerable: true, configurable: true, writable: true });
    };
    getters.set(get, origin);
    Object.defineProperty(state, row.key, { enumerable: true, configurable: true, get, set });
  }

  #bytes(row, size) {
    this.#assertOpen(row);
    this.decoded += size;
    const bytes = Buffer.from(new ArrayBuffer(size));
    let at = 0;
    for (const span of row.spans) {
      bytes.set(this.#segments.view(span), at);
      at += Number(span.length);
    }
    return bytes;
  }

  /** Whether the bytes that a row decoded to are as they were. */
  sameBytes({ row, value }) {
    let at = 0;
    return row.spans.every((span) => {
      const n = Number(span.length);
      const same = this.#segments.view(span).compare(value, at, at + n) === 0;
      at += n;
      return same;
    });
  }

  /** A row's JSON text. */
  text(row, size) {
    this.#assertOpen(row);
    if (size > MAX_TEXT) throw tooLong(row, size);
    this.decoded += size;
    if (row.spans.length === 1) return utf8.decode(this.#segments.view(row.spans[0]));
    const pieces = row.spans.map((span) => utf8.decode(this.#segments.view(span), { stream: true }));
    pieces.push(utf8.decode());
    return pieces.join('');
  }

  #assertOpen(row) {
    if (this.isOpen) return;
    throw new StepError('fail', 'RuntimeError', `state.${row.key} ${this.#why}`, { key: row.key });
  }

  /** A row's value, decoded afresh. */
  parse(row, size) {
    return parse(this.text(row, size), row.key);
  }

  /**
   * What was not decoded by now never will be.
   * @param {string} [why] follows the key's name in the error of what tries
   */
  close(why = this.#why) {
    this.isOpen = false;
    this.#why = why;
    for (const origin of this.lazies) filled.delete(origin);
    for (const origin of this.byKey.values()) if (origin.form === 'text') texts.delete(origin);
  }
}

function tooLong(row, size) {
  const message = `state.${row.key} has ${size} bytes; JavaScript's engine cannot hold a text longer than ${MAX_TEXT}: pass it on untouched, or split it over several keys`;
  return new StepError('kill', 'StateTooLargeError', message, { key: row.key, size, limit: MAX_TEXT });
}

function parse(text, key) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StepError('exception', 'DataClipError', `state.${key} is not valid JSON: ${error.message}`, { key });
  }
}
