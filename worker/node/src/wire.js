/**
 * The primitives of the control channel's protocol: little-endian integers and
 * length-prefixed text. All 64-bit values are BigInts, so that none loses bits.
 * @module
 */

/** A peer's breach of the protocol: the channel it came on is of no further use. */
export class ProtocolError extends Error {
  name = 'ProtocolError';
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
// What Buffer's methods call once they have looked at their arguments: a frame
// is read and written by a process that just woke, and pays for all code it runs.
const { latin1Slice, utf8Write } = Buffer.prototype;

/** Appends primitives to a buffer that grows. */
export class Writer {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #used = 0;

  /** Bytes written so far. */
  get length() {
    return this.#used;
  }

  /** What was written; valid until the next write or reset. */
  get bytes() {
    return this.#bytes.subarray(0, this.#used);
  }

  /** The view to patch earlier bytes with; valid until the next write. */
  get view() {
    return this.#view;
  }

  /** Leaves room for n bytes that are written later, by the view. */
  reserve(n) {
    this.#room(n);
  }

  /** Forgets everything. A buffer that one large frame grew is not kept. */
  reset() {
    this.#used = 0;
    if (this.#bytes.length > 64 << 10) this.#resize(512);
  }

  #resize(size) {
    const bytes = new Uint8Array(size);
    bytes.set(this.#bytes.subarray(0, Math.min(this.#used, size)));
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  #room(n) {
    const at = this.#used;
    if (at + n > this.#bytes.length) this.#resize(Math.max(2 * this.#bytes.length, at + n));
    this.#used = at + n;
    return at;
  }

  u8(v) {
    const at = this.#room(1);
    this.#view.setUint8(at, v);
  }
  u16(v) {
    const at = this.#room(2);
    this.#view.setUint16(at, v, true);
  }
  u32(v) {
    const at = this.#room(4);
    this.#view.setUint32(at, v, true);
  }
  /** @param {bigint | number} v */
  u64(v) {
    const at = this.#room(8);
    this.#view.setBigUint64(at, BigInt(v), true);
  }
  str(text) {
    const at = this.#room(4);
    const size = this.text(text);
    this.#view.setUint32(at, size, true);
  }
  /** Appends text alone, and returns its size. */
  text(text) {
    const at = this.#room(3 * text.length);
    const written = utf8Write.call(this.#bytes, text, at, 3 * text.length);
    this.#used = at + written;
    return written;
  }
  /** Zeros up to the next multiple of eight. */
  pad() {
    const n = -this.#used & 7;
    const at = this.#room(n);
    for (let i = at; i < at + n; i++) this.#bytes[i] = 0;
  }
}

/**
 * Reads primitives from what a peer sent. Every length is compared with the
 * bytes really there before it is used.
 */
export class Reader {
  #bytes;
  #view;
  #at;
  #end;
  #what;

  /**
   * @param {Uint8Array} bytes
   * @param {DataView} view of the same
   * @param {number} from
   * @param {number} to
   * @param {string} what for errors
   */
  constructor(bytes, view, from, to, what) {
    this.#bytes = bytes;
    this.#view = view;
    this.#at = from;
    this.#end = to;
    this.#what = what;
  }

  /** Goes on with the bytes that follow, up to another end. */
  extend(to, what) {
    this.#at = this.#end;
    this.#end = to;
    this.#what = what;
  }

  get left() {
    return this.#end - this.#at;
  }

  fail(message) {
    return new ProtocolError(`${this.#what}: ${message}`);
  }

  #take(n) {
    if (n > this.left) throw this.fail('cut short');
    const at = this.#at;
    this.#at += n;
    return at;
  }

  skip(n) {
    this.#take(n);
  }
  /** Skips to the next multiple of eight, counted from the buffer's start. */
  align() {
    this.#take(-this.#at & 7);
  }
  u8() {
    return this.#view.getUint8(this.#take(1));
  }
  u16() {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32() {
    return this.#view.getUint32(this.#take(4), true);
  }
  u64() {
    return this.#view.getBigUint64(this.#take(8), true);
  }
  /** Text of n bytes, which must be UTF-8. */
  text(n) {
    if (n > this.left) throw this.fail(`text of ${n} bytes, ${this.left} are there`);
    const at = this.#take(n);
    if (this.#isAscii(at, at + n)) return latin1Slice.call(this.#bytes, at, at + n);
    try {
      return utf8.decode(this.#bytes.subarray(at, at + n));
    } catch {
      throw this.fail('text is not UTF-8');
    }
  }
  #isAscii(from, to) {
    for (let i = from; i < to; i++) if (this.#bytes[i] > 0x7f) return false;
    return true;
  }
  str() {
    return this.text(this.u32());
  }
  /** A list's length, checked against the bytes its items need at least. */
  count(itemSize) {
    const n = this.u32();
    if (n * itemSize > this.left) throw this.fail(`list of ${n} items in ${this.left} bytes`);
    return n;
  }
}
