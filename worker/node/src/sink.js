/**
 * Where the text of one value goes: compared with the row that the value came
 * from for as long as they are equal, written from there on.
 * @module
 */
import { BlockWriter } from './blockwriter.js';
import { Encoding, refTo } from './frames.js';

/** Characters that are put together before they are written or compared. */
export const PIECE = 96 << 10;
/** A row of more spans than this is written anew: each span holds its block in memory. */
export const MAX_SPANS = 64;
/** The same start is referred to, not written again, from this many bytes on. */
const SHARED_START = 64 << 10;
/** Texts of at least so many characters are written by themselves where nothing is compared: put together, they would be copied twice. */
const WHOLE = 1 << 10;

const encoder = new TextEncoder();
const compared = Buffer.from(new ArrayBuffer(3 * 2 * PIECE));

/** Walks the bytes of a row. */
class Original {
  #segments;
  #spans;
  #index = 0;
  #offset = 0;
  constructor(spans, segments) {
    this.#spans = spans;
    this.#segments = segments;
  }
  /** Whether the next bytes are these; if so, goes past them. */
  next(bytes) {
    let index = this.#index;
    let offset = this.#offset;
    for (let at = 0; at < bytes.length; ) {
      const span = this.#spans[index];
      if (!span) return false;
      const n = Math.min(bytes.length - at, Number(span.length) - offset);
      if (n > 0) {
        const there = this.#segments.view({ ...span, offset: span.offset + BigInt(offset), length: BigInt(n) });
        if (there.compare(bytes, at, at + n) !== 0) return false;
      }
      at += n;
      offset += n;
      if (offset === Number(span.length)) {
        index++;
        offset = 0;
      }
    }
    this.#index = index;
    this.#offset = offset;
    return true;
  }
  get atEnd() {
    let i = this.#index;
    while (i < this.#spans.length && this.#spans[i].length === 0n) i++;
    return i >= this.#spans.length;
  }
  /** References to everything passed so far. */
  passed() {
    const spans = this.#spans.slice(0, this.#index);
    if (this.#offset > 0) spans.push({ ...this.#spans[this.#index], length: BigInt(this.#offset) });
    return spans;
  }
}

/** Collects the text of one value into spans. */
export class Sink {
  #arena;
  #segments;
  #original;
  #originalSpans;
  #compareOnly;
  #pending = '';
  #spans = [];
  #writer = null;
  #equal = 0;
  written = 0;

  constructor({ arena, segments, original = null, compareOnly = false }) {
    this.#arena = arena;
    this.#segments = segments;
    this.#originalSpans = original;
    this.#original = original && new Original(original, segments);
    this.#compareOnly = compareOnly;
  }

  /** False once a comparison has failed that nothing is to be written for. */
  get wanted() {
    return !this.#compareOnly || this.#original !== null;
  }

  text(text) {
    if (text.length >= WHOLE && !this.#original) {
      this.#flush();
      return this.#pieces(text);
    }
    this.#pending += text;
    if (this.#pending.length >= PIECE) this.#flush();
  }

  #flush() {
    const text = this.#pending;
    this.#pending = '';
    this.#pieces(text);
  }

  #pieces(text) {
    for (let from = 0; from < text.length; ) {
      let to = Math.min(from + 2 * PIECE, text.length);
      // Not through the middle of a surrogate pair.
      if (to < text.length && (text.charCodeAt(to - 1) & 0xfc00) === 0xd800) to--;
      this.#piece(from === 0 && to === text.length ? text : text.slice(from, to));
      from = to;
    }
  }

  #piece(text) {
    if (this.#original) {
      const { written } = encoder.encodeInto(text, compared);
      const bytes = compared.subarray(0, written);
      if (this.#original.next(bytes)) {
        this.#equal += written;
        return;
      }
      this.#differs();
    }
    if (!this.wanted) return;
    this.#writer ??= new BlockWriter(this.#arena);
    this.#writer.text(text);
  }

  /** From here on the value is not the original's: keeps what was equal. */
  #differs() {
    const same = this.#original.passed();
    this.#original = null;
    if (this.#compareOnly || same.length === 0) return;
    if (this.#equal >= SHARED_START && same.length < MAX_SPANS) {
      this.#spans.push(...same);
      return;
    }
    this.#writer = new BlockWriter(this.#arena);
    for (const span of same) this.#writer.bytes(this.#segments.view(span));
  }

  /** Puts another row's bytes here. */
  refer(spans) {
    this.#flush();
    if (this.#original) this.#differs();
    if (!this.wanted) return;
    this.#endBlock();
    this.#spans.push(...spans);
  }

  #endBlock() {
    if (!this.#writer) return;
    this.written += this.#writer.length;
    for (const block of this.#writer.commit()) this.#spans.push(refTo(block, Encoding.JSON));
    this.#writer = null;
  }

  /** @returns {import('./frames.js').Ref[]} the value; the original's own array when it is unchanged */
  finish() {
    this.#flush();
    if (this.#original) {
      if (this.#original.atEnd) return this.#originalSpans;
      this.#differs();
    }
    if (!this.wanted) return [];
    this.#endBlock();
    return this.#spans;
  }

  abort() {
    this.#writer?.abort();
    this.#writer = null;
  }
}
