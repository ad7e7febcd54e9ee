/**
 * From values to rows: JSON text, written in pieces straight into shared
 * memory, without a text of the whole value in between.
 *
 * A value that came from a row is encoded against it: as long as the pieces
 * equal the row's bytes nothing is written. Equal to the end, the row is passed
 * on; otherwise the equal part at the start is referred to and only the rest
 * is written (an append to a long array costs the new records).
 * @module
 */
import { randomBytes } from 'node:crypto';
import { BudgetError, LARGE_BLOCK } from './arena.js';
import { BlockWriter } from './blockwriter.js';
import { RopeWriter } from './ropewriter.js';
import { refTo } from './frames.js';
import { MAX_SPANS, PIECE, Sink } from './sink.js';
import { originOf, whileEncoding, put } from './lazy.js';
import { StepError } from './errors.js';
import { explain } from './paths.js';
import { isPlain, isStream, STREAM_TEXT } from './values.js';

/** Values of at most this many nodes are stringified at once. */
const SMALL_VALUE = 64;
/** Levels that are taken apart when a value is large. */
const MAX_DEPTH = 4;

// A stand-in deep inside a value is encoded as this text and replaced by its
// bytes afterwards. Nobody can guess it.
const MARK = `@@millrace:${randomBytes(16).toString('hex')}:`;
const MARK_PATTERN = new RegExp(`"${MARK}(\\d+)"`, 'g');

/** Encodes the values of one result. */
export class Encoder {
  #arena;
  #segments;
  /** @type {import('./lazy.js').Origin[]} stand-ins by the number in their mark */
  #marked = [];
  /** Bytes of the values that were written. */
  encoded = 0;

  /**
   * @param {{arena: import('./arena.js').Arena, segments: import('./segments.js').Segments}} parts
   */
  constructor({ arena, segments }) {
    this.#arena = arena;
    this.#segments = segments;
  }

  /**
   * One top-level value's spans, or null when it has no JSON form.
   * @param {string} key names the value in errors
   */
  encode(key, value) {
    const origin = value !== null && typeof value === 'object' ? originOf(value) : undefined;
    if (origin?.form === 'lazy' && !origin.decoded) return this.#spansOf(origin, key);
    if (origin?.form === 'small' && !isChanged(origin)) return origin.row.spans;
    if (origin?.form === 'bytes') return origin.input.sameBytes(origin) ? origin.row.spans : this.raw({ bytes: value, encoding: origin.row.spans[0].encoding });
    const sink = this.#sink(origin);
    try {
      const resolved = origin?.form === 'lazy' ? resolve(origin.value, key) : resolve(value, key);
      if (resolved === undefined) {
        sink.abort();
        return null;
      }
      whileEncoding((inner) => () => this.#mark(inner), () => this.#emit(sink, resolved, 0));
      const spans = sink.finish();
      this.encoded += sink.written;
      return spans;
    } catch (error) {
      sink.abort();
      throw this.#explained(error, key, value);
    }
  }

  #sink(origin) {
    const original = origin?.form === 'lazy' && !origin.rope && origin.row.spans.length <= MAX_SPANS ? origin.row.spans : null;
    return new Sink({ arena: this.#arena, segments: this.#segments, original });
  }

  /** The spans of a value that is encoded already: its bytes are copied. */
  raw({ bytes, encoding }) {
    const size = bytes.length;
    if (size === 0) return [{ segment: 0n, offset: 0n, length: 0n, encoding, flags: 0 }];
    // A writer would copy them twice.
    if (size < LARGE_BLOCK) {
      const block = this.#arena.copy(bytes);
      this.encoded += size;
      return [refTo(block, encoding)];
    }
    const writer = new BlockWriter(this.#arena);
    try {
      writer.bytes(bytes);
      this.encoded += size;
      return writer.commit().map((block) => refTo(block, encoding));
    } catch (error) {
      writer.abort();
      throw error;
    }
  }

  /** Where the bytes of a value that was not changed are. */
  #spansOf(origin, key) {
    return origin.rope ? this.#rope(origin.rope, key) : origin.row.spans;
  }

  /** Puts a rope together. Marks of its pieces are not those of what it lies in: they have an encoder of their own. */
  #rope(rope, key = 'array') {
    const parts = { arena: this.#arena, segments: this.#segments };
    const pieces = new Encoder(parts);
    const writer = new RopeWriter(parts);
    try {
      rope.pieces.forEach((piece, i) => {
        if (isSmall(piece)) return writer.text(JSON.stringify(piece));
        const name = `${key}[piece ${i}]`;
        writer.array(pieces.encode(name, piece), name);
      });
      const spans = writer.finish();
      this.encoded += pieces.encoded + writer.written;
      return spans;
    } catch (error) {
      writer.abort();
      throw this.#explained(error, key, rope.pieces);
    }
  }

  #explained(error, key, value) {
    if (error instanceof StepError) return error;
    if (error instanceof BudgetError) {
      return new StepError('kill', 'StateTooLargeError', `State exceeds the limit of ${Math.round(error.limit / (1 << 20))}mb: state.${key} needs ${error.size} bytes beside ${error.used} in use, the limit is ${error.limit}`, {
        key,
        size: error.size,
        used: error.used,
        limit: error.limit,
      });
    }
    return explain(error, value, key);
  }

  /** What JSON.stringify is given for a stand-in inside a larger value. */
  #mark(origin) {
    if (origin.decoded && !this.#isUnchanged(origin)) return origin.value;
    this.#marked.push(origin);
    return `${MARK}${this.#marked.length - 1}`;
  }

  #isUnchanged(origin) {
    if (origin.rope) return false;
    const sink = new Sink({ segments: this.#segments, original: origin.row.spans, compareOnly: true });
    this.#emit(sink, origin.value, 0);
    return sink.finish() === origin.row.spans;
  }

  /** Writes text that may hold marks. */
  #text(sink, text) {
    if (this.#marked.length === 0) return sink.text(text);
    let from = 0;
    for (const match of text.matchAll(MARK_PATTERN)) {
      sink.text(text.slice(from, match.index));
      sink.refer(this.#spansOf(this.#marked[Number(match[1])]));
      from = match.index + match[0].length;
    }
    sink.text(from === 0 ? text : text.slice(from));
    this.#marked.length = 0;
  }

  /** Writes a value that resolve has returned. */
  #emit(sink, value, depth) {
    if (!sink.wanted) return;
    if (value !== null && typeof value === 'object') {
      const origin = originOf(value);
      if (origin?.form === 'lazy') {
        if (!origin.decoded || this.#isUnchanged(origin)) return sink.refer(this.#spansOf(origin));
        value = origin.value;
      }
      if (depth < MAX_DEPTH && !isSmall(value)) {
        if (Array.isArray(value)) return this.#array(sink, value, depth);
        if (isPlain(value)) return this.#object(sink, value, depth);
      }
    }
    this.#text(sink, JSON.stringify(value));
  }

  #array(sink, list, depth) {
    sink.text('[');
    if (list.length <= 16) {
      for (let i = 0; i < list.length; i++) {
        if (i > 0) sink.text(',');
        const item = resolve(list[i], String(i));
        if (item === undefined) sink.text('null');
        else this.#emit(sink, item, depth + 1);
      }
    } else {
      let count = 16;
      for (let i = 0; i < list.length && sink.wanted; ) {
        const text = JSON.stringify(list.slice(i, i + count));
        if (i > 0) sink.text(',');
        this.#text(sink, text.slice(1, -1));
        i += count;
        count = next(count, text.length);
      }
    }
    sink.text(']');
  }

  #object(sink, object, depth) {
    const keys = Object.keys(object);
    let comma = '';
    sink.text('{');
    if (keys.length <= 64) {
      for (const key of keys) {
        const value = resolve(object[key], key);
        if (value === undefined) continue;
        sink.text(`${comma}${JSON.stringify(key)}:`);
        comma = ',';
        this.#emit(sink, value, depth + 1);
      }
    } else {
      let count = 16;
      for (let i = 0; i < keys.length && sink.wanted; ) {
        const part = {};
        for (const key of keys.slice(i, i + count)) put(part, key, object[key]);
        const text = JSON.stringify(part);
        if (text.length > 2) {
          sink.text(comma);
          comma = ',';
          this.#text(sink, text.slice(1, -1));
        }
        i += count;
        count = next(count, text.length);
      }
    }
    sink.text('}');
  }
}

/** How many members to take next, so that their text comes near a piece. */
const next = (count, length) => Math.max(1, Math.min(8 * count, Math.round((count * PIECE) / Math.max(length, 1))));

/** What JSON.stringify would stringify for a member; undefined for nothing. */
function resolve(value, key) {
  if (value !== null && typeof value === 'object') {
    const origin = originOf(value);
    if (origin?.form === 'lazy') {
      if (!origin.decoded || typeof origin.value.toJSON !== 'function') return value;
    }
    if (typeof value.toJSON === 'function') value = value.toJSON(key);
    else if (isStream(value)) return STREAM_TEXT;
  } else if (typeof value === 'bigint' && typeof BigInt.prototype.toJSON === 'function') {
    value = value.toJSON(key);
  }
  return typeof value === 'function' || typeof value === 'symbol' ? undefined : value;
}

function isChanged(origin) {
  try {
    return JSON.stringify(origin.value) !== origin.text;
  } catch {
    return true;
  }
}

/** Whether a value has few nodes and short texts. */
const isSmall = (value) => withoutNodes(SMALL_VALUE, value) >= 0;

/** What a number of nodes leaves once a value's are taken off; negative if it has more, or a stand-in or stream in it. */
function withoutNodes(left, value) {
  left -= typeof value === 'string' ? 1 + (value.length >> 8) : 1;
  if (left < 0 || value === null || typeof value !== 'object') return left;
  if (originOf(value)?.form === 'lazy') return -1;
  if (Array.isArray(value)) {
    if (value.length > left) return -1;
    for (let i = 0; i < value.length && left >= 0; i++) left = withoutNodes(left, value[i]);
    return left;
  }
  if (!isPlain(value)) return isStream(value) ? -1 : left;
  const keys = Object.keys(value);
  for (let i = 0; i < keys.length && left >= 0; i++) left = withoutNodes(left, value[keys[i]]);
  return left;
}
