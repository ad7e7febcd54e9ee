/**
 * Writing a rope: references to what lies between its pieces' brackets, with
 * brackets and commas of its own around and between them.
 * @module
 */
import { BlockWriter } from './blockwriter.js';
import { Encoding, sizeOf } from './frames.js';
import { StepError } from './errors.js';

/** Pieces of fewer bytes are copied: a reference costs as much, and holds their block. */
export const COPIED_SIZE = 4096;

const OPEN = 0x5b;
const CLOSE = 0x5d;
const isSpace = (byte) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const peeked = Buffer.from(new ArrayBuffer(256));

export class RopeWriter {
  #arena;
  #segments;
  #spans = [];
  /** @type {BlockWriter | null} bytes that are not referred to yet */
  #writer = null;
  #shared = null;
  #isEmpty = true;
  /** Bytes written. */
  written = 0;

  /** @param {{arena: import('./arena.js').Arena, segments: import('./segments.js').Segments}} parts */
  constructor({ arena, segments }) {
    this.#arena = arena;
    this.#segments = segments;
  }

  /** Adds an array by its text, of no more than a writer takes at once. */
  text(text) {
    if (text === '[]') return;
    this.#writer ??= new BlockWriter(this.#arena);
    this.#writer.text((this.#isEmpty ? '[' : ',') + text.slice(1, -1));
    this.#isEmpty = false;
  }

  /**
   * Adds an array by its bytes.
   * @param {import('./frames.js').Ref[]} spans
   * @param {string} name of the piece, for errors
   */
  array(spans, name) {
    const open = this.#find(spans, 0, 1);
    const close = this.#find(spans, spans.length - 1, -1);
    if (open?.byte !== OPEN || close?.byte !== CLOSE) throw new StepError('exception', 'DataClipError', `${name} is no JSON array`);
    const inner = between(spans, open, close);
    const first = this.#find(inner, 0, 1);
    if (!first) return;
    const isSmall = sizeOf(inner) < COPIED_SIZE;
    if (isSmall) {
      this.#writer ??= new BlockWriter(this.#arena);
      this.#separate();
      for (const span of inner) this.#writer.bytes(this.#segments.view(span));
    } else {
      this.#separate();
      this.#endBlock();
      this.#spans.push(...inner);
    }
  }

  /** What comes before the next piece: in the open block, or from the shared one. */
  #separate() {
    this.#mark(this.#isEmpty ? 0 : 1);
    this.#isEmpty = false;
  }

  #mark(index) {
    if (this.#writer) return this.#writer.text('[,]'[index]);
    this.#shared ??= this.#block('[,]');
    this.#spans.push({ ...this.#shared, offset: this.#shared.offset + BigInt(index), length: 1n });
  }

  #block(text) {
    const writer = new BlockWriter(this.#arena);
    writer.text(text);
    this.written += writer.length;
    return { ...writer.commit()[0], encoding: Encoding.JSON, flags: 0 };
  }

  #endBlock() {
    if (!this.#writer) return;
    this.written += this.#writer.length;
    for (const block of this.#writer.commit()) this.#spans.push({ ...block, encoding: Encoding.JSON, flags: 0 });
    this.#writer = null;
  }

  /** @returns {import('./frames.js').Ref[]} */
  finish() {
    if (this.#isEmpty) return [this.#block('[]')];
    this.#mark(2);
    this.#endBlock();
    return this.#spans;
  }

  abort() {
    this.#writer?.abort();
    this.#writer = null;
  }

  /** The first byte that is no whitespace, from one end: in which span, and where in it. */
  #find(spans, from, step) {
    for (let index = from; index >= 0 && index < spans.length; index += step) {
      const span = spans[index];
      const length = Number(span.length);
      for (let seen = 0; seen < length; ) {
        const n = Math.min(peeked.length, length - seen);
        const start = step > 0 ? seen : length - seen - n;
        this.#segments.peek({ ...span, offset: span.offset + BigInt(start), length: BigInt(n) }, peeked);
        for (let i = 0; i < n; i++) {
          const at = step > 0 ? i : n - 1 - i;
          if (!isSpace(peeked[at])) return { index, at: start + at, byte: peeked[at] };
        }
        seen += n;
      }
    }
    return undefined;
  }
}

/** The bytes between two places, neither included. */
function between(spans, open, close) {
  const inner = [];
  for (let i = open.index; i <= close.index; i++) {
    const from = i === open.index ? open.at + 1 : 0;
    const to = i === close.index ? close.at : Number(spans[i].length);
    if (to > from) inner.push({ ...spans[i], offset: spans[i].offset + BigInt(from), length: BigInt(to - from) });
  }
  return inner;
}
