/**
 * Segments of other processes, mapped read-only. The registry owns each
 * descriptor and mapping from attach to detach; nothing else may keep a view
 * across a detach, and a reference into a detached segment is an error, never
 * a fault.
 * @module
 */
import { fstatSync } from 'node:fs';
import { ARENA_SIZE } from './arena.js';
import * as libc from './libc.js';
import { ProtocolError } from './wire.js';

const SEALED_FOR_GOOD = libc.SEAL_SHRINK | libc.SEAL_GROW | libc.SEAL_WRITE | libc.SEAL_SEAL;
const SEALED_BUT_FOR_WRITER = libc.SEAL_SHRINK | libc.SEAL_GROW | libc.SEAL_FUTURE_WRITE | libc.SEAL_SEAL;

/** Longest text that fits one V8 string. */
export const MAX_TEXT = 2 ** 29 - 24;

/** A small segment that was looked at so often is mapped: by pread a look takes 5 to 9 µs where caches are cold. */
const MANY_PEEKS = 64;

/** A reference that does not lie inside a segment this process was handed. */
export class RefError extends Error {
  name = 'RefError';
}

export class Segments {
  /** @type {Map<bigint, {fd: number, size: number, address: bigint, bytes: Buffer | null, peeks: number}>} bytes: all of a small one, once it is mapped */
  #segments = new Map();
  #own;

  /** @param {{has(id: bigint): boolean, view(id: bigint, offset: number, length: number): Buffer} | null} own segments written here */
  constructor(own = null) {
    this.#own = own;
  }

  /** Takes over a descriptor that the supervisor sent. Closes it when it is refused. */
  attach(id, size, fd) {
    try {
      if (fd < 0) throw new ProtocolError(`attach of segment ${id} brings no descriptor`);
      if (this.#segments.has(id) || this.#own?.has(id)) throw new ProtocolError(`segment ${id} attached twice`);
      const seals = libc.getSeals(fd);
      const want = seals & libc.SEAL_WRITE ? SEALED_FOR_GOOD : SEALED_BUT_FOR_WRITER;
      if ((seals & want) !== want) throw new ProtocolError(`segment ${id} lacks seals: has ${seals}, needs ${want}`);
      const actual = fstatSync(fd).size;
      if (BigInt(actual) !== size || actual <= 0) throw new ProtocolError(`segment ${id} has ${actual} bytes, ${size} were announced`);
      this.#segments.set(id, { fd, size: actual, address: 0n, bytes: null, peeks: 0 });
    } catch (error) {
      if (fd >= 0) libc.close(fd);
      throw error;
    }
  }

  /** Unmaps and closes. Ids that are not attached are ignored. */
  detach(ids) {
    for (const id of ids) {
      const s = this.#segments.get(id);
      if (!s) continue;
      this.#segments.delete(id);
      if (s.address !== 0n) libc.munmap(s.address, s.size);
      libc.close(s.fd);
    }
  }

  #check(ref) {
    const s = this.#segments.get(ref.segment);
    if (!s && !this.#own?.has(ref.segment)) throw new RefError(`segment ${ref.segment} is not attached: the state that refers to it is no longer in use`);
    if (s && Number(ref.offset) + Number(ref.length) > s.size) {
      throw new RefError(`bytes ${ref.offset}+${ref.length} lie outside segment ${ref.segment} of ${s.size} bytes`);
    }
    return s;
  }

  /**
   * The bytes of a reference, without a copy: mapped at the first touch.
   * Writing a foreign segment's kills the process. Not to be kept.
   * @param {import('./frames.js').Ref} ref
   */
  view(ref) {
    const s = this.#check(ref);
    const offset = Number(ref.offset);
    const length = Number(ref.length);
    if (length === 0) return Buffer.alloc(0);
    if (!s) return this.#own.view(ref.segment, offset, length);
    if (s.address === 0n) this.#map(s);
    return s.bytes ? s.bytes.subarray(offset, offset + length) : libc.view(s.address + ref.offset, length);
  }

  #map(s) {
    s.address = libc.mmap(s.fd, s.size, false);
    // What is viewed counts as memory of V8's, which collects the sooner for it: not so a large one.
    if (s.size <= ARENA_SIZE) s.bytes = libc.view(s.address, s.size);
  }

  /**
   * Copies the first bytes of a reference into target. A few looks at a segment
   * do not map it: one that is not mapped is read by pread.
   * @returns {number} bytes copied
   */
  peek(ref, target) {
    const s = this.#check(ref);
    const n = Math.min(Number(ref.length), target.length);
    if (n === 0) return 0;
    const offset = Number(ref.offset);
    if (s && !s.bytes && ++s.peeks >= MANY_PEEKS && s.size <= ARENA_SIZE) this.#map(s);
    if (!s) target.set(this.#own.view(ref.segment, offset, n));
    else if (s.bytes) target.set(s.bytes.subarray(offset, offset + n));
    else libc.pread(s.fd, target, n, offset);
    return n;
  }

  /** How many segments are attached, and how many of them are mapped. */
  get counts() {
    let mapped = 0;
    for (const s of this.#segments.values()) if (s.address !== 0n) mapped++;
    return { attached: this.#segments.size, mapped };
  }
}
