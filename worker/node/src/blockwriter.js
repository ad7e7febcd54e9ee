/**
 * Writing one block into an arena.
 * @module
 */
import { LARGE_BLOCK, WINDOW } from './arena.js';
import * as libc from './libc.js';

/**
 * @typedef {import('./arena.js').Arena} Arena
 * @typedef {import('./arena.js').Block} Block
 * @typedef {import('./arena.js').Segment} Segment
 */

const { utf8Write } = Buffer.prototype;

/**
 * Writes one value of a length unknown before. It stays in a scratch buffer
 * while it is small and moves to a large segment when it is not; past that
 * segment's end it goes on in another, and the value has several spans.
 */
export class BlockWriter {
  #arena;
  #scratch;
  #used = 0; // bytes in scratch
  /** @type {Segment | null} */
  #segment = null;
  #at = 0; // in the segment
  #window = null;
  #windowStart = 0;
  /** @type {Block[]} */
  #blocks = [];
  #charged = 0;

  /** @param {Arena} arena */
  constructor(arena) {
    this.#arena = arena;
    this.#scratch = arena.takeScratch();
  }

  /** Bytes written so far. */
  length = 0;

  /** Appends text of at most 1 MiB / 3 characters. */
  text(text) {
    if (!this.#segment) {
      if (this.#used + 3 * text.length <= this.#scratch.length && this.#used + text.length < LARGE_BLOCK) {
        const written = utf8Write.call(this.#scratch, text, this.#used, 3 * text.length);
        this.#used += written;
        this.#count(written);
        return;
      }
      this.#promote();
    }
    this.#need(3 * text.length);
    const written = utf8Write.call(this.#window, text, this.#at - this.#windowStart, 3 * text.length);
    this.#at += written;
    this.#count(written);
  }

  /** Appends bytes of any number. */
  bytes(bytes) {
    if (!this.#segment) {
      if (this.#used + bytes.length < LARGE_BLOCK) {
        this.#scratch.set(bytes, this.#used);
        this.#used += bytes.length;
        this.#count(bytes.length);
        return;
      }
      this.#promote();
    }
    this.#copy(bytes);
    this.#count(bytes.length);
  }

  #count(n) {
    this.#arena.charge(n);
    this.#charged += n;
    this.length += n;
  }

  #promote() {
    this.#segment = this.#arena.takeLarge();
    this.#at = 0;
    this.#copy(this.#scratch.subarray(0, this.#used));
    this.#used = 0;
  }

  #copy(bytes) {
    for (let from = 0; from < bytes.length; ) {
      this.#need(Math.min(bytes.length - from, WINDOW));
      const room = this.#window.length - (this.#at - this.#windowStart);
      const n = Math.min(room, bytes.length - from);
      this.#window.set(bytes.subarray(from, from + n), this.#at - this.#windowStart);
      this.#at += n;
      from += n;
    }
  }

  /** Makes the window have room for n bytes, n at most WINDOW. */
  #need(n) {
    if (this.#window && this.#at + n <= this.#windowStart + this.#window.length) return;
    if (this.#at + n > this.#segment.size) {
      this.#blocks.push(this.#arena.commitLarge(this.#segment, this.#at));
      this.#segment = this.#arena.takeLarge();
      this.#at = 0;
    }
    this.#windowStart = this.#at;
    const length = Math.min(WINDOW, this.#segment.size - this.#at);
    this.#window = libc.view(this.#segment.address + BigInt(this.#at), length);
  }

  /**
   * Ends the value.
   * @returns {Block[]} its pieces in order; none when nothing was written
   */
  commit() {
    if (this.#segment) this.#blocks.push(this.#arena.commitLarge(this.#segment, this.#at));
    else if (this.#used > 0) this.#blocks.push(this.#arena.commitSmall(this.#scratch.subarray(0, this.#used)));
    this.#end();
    return this.#blocks;
  }

  /** Gives everything back. */
  abort() {
    if (!this.#scratch) return;
    if (this.#segment) this.#arena.returnLarge(this.#segment, this.#at);
    this.#arena.used -= this.#charged;
    // Full segments that were committed free themselves with the arena's abort,
    // which takes their length off once more.
    for (const block of this.#blocks) this.#arena.used += Number(block.length);
    this.#end();
  }

  #end() {
    this.#arena.returnScratch(this.#scratch);
    this.#scratch = null;
    this.#segment = null;
    this.#window = null;
  }
}
