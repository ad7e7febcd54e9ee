/**
 * The segments that this process writes. Rules, as everywhere in millrace:
 *
 * - a segment is a memfd of a size that never changes (sealed so from birth),
 *   and nobody else can ever write it once its descriptor has left (sealed so
 *   before it is sent);
 * - blocks below LARGE_BLOCK share segments of ARENA_SIZE, larger ones get a
 *   segment of their own, whose size is address space, not memory;
 * - all bookkeeping is in private memory;
 * - memory that was released is used again last freed first, because its
 *   pages are there and warm.
 *
 * A block is pending from its commit to `publish`, live from there until
 * `release`.
 * @module
 */
import * as libc from './libc.js';

/** Blocks that are not large share segments of this size. */
export const ARENA_SIZE = 16 << 20;
/** Blocks of at least so many bytes have a segment of their own. */
export const LARGE_BLOCK = 256 << 10;
const LARGE_SEGMENT = 2 ** 30;
const BLOCK_ALIGN = 64;
/** Large segments are written through views of this size. */
export const WINDOW = 4 << 20;
const PAGE = 4096;

/** The run's payload budget is used up. */
export class BudgetError extends Error {
  name = 'BudgetError';
  constructor(size, used, limit) {
    super(`a block of ${size} bytes beside ${used} bytes in use is over the budget of ${limit}`);
    Object.assign(this, { size, used, limit });
  }
}

/**
 * @typedef {{id: bigint, fd: number, address: bigint, size: number, large: boolean, sent: boolean,
 *   next: number, blocks: Map<number, Place>, touched: number, bytes: Buffer | null}} Segment blocks: live and pending ones by their offset
 * @typedef {{segment: Segment, offset: number, length: number, size: number}} Place size is its length, aligned
 * @typedef {{segment: bigint, offset: bigint, length: bigint}} Block
 */

export class Arena {
  #prefix;
  #lastId = 0n;
  #retain;
  #announce;
  #drop;
  /** @type {Map<bigint, Segment>} */
  #segments = new Map();
  /** @type {Segment | null} the arena that is filled now */
  #current = null;
  /** @type {Map<number, Place[]>} free room in arenas: aligned size → stack, last freed on top */
  #free = new Map();
  /** @type {Segment[]} large segments without a block, last freed at the end */
  #kept = [];
  #keptBytes = 0;
  /** @type {Block[]} committed, not yet published */
  #pending = [];
  #scratch = Buffer.from(new ArrayBuffer(1 << 20));
  #scratchUsed = false;

  /** Bytes of all blocks, pending ones included. */
  used = 0;
  /** What `used` may reach; 0 is no limit. */
  limit = 0;

  /**
   * @param {object} options
   * @param {number} options.executor the prefix of this process's segment ids
   * @param {number} [options.retainBytes] resident memory of free large segments to keep
   * @param {(segment: Segment) => void} options.announce sends the descriptor, before the first block in it is published
   * @param {(ids: bigint[]) => void} options.drop tells that announced segments are given up
   */
  constructor({ executor, retainBytes = 256 << 20, announce, drop }) {
    this.#prefix = BigInt(executor) << 32n;
    this.#retain = retainBytes;
    this.#announce = announce;
    this.#drop = drop;
  }

  has(id) {
    return this.#segments.has(id);
  }

  /** Bytes of an own segment, for reading back what was written. */
  view(id, offset, length) {
    const s = this.#segments.get(id);
    if (offset + length > s.size) throw new RangeError(`bytes ${offset}+${length} lie outside own segment ${id}`);
    return s.bytes ? s.bytes.subarray(offset, offset + length) : libc.view(s.address + BigInt(offset), length);
  }

  #create(size, large) {
    const id = this.#prefix | ++this.#lastId;
    const fd = libc.memfdCreate('millrace');
    try {
      libc.ftruncate(fd, size);
      libc.addSeals(fd, libc.SEAL_SHRINK | libc.SEAL_GROW);
      const address = libc.mmap(fd, size, true);
      const bytes = large ? null : libc.view(address, size);
      const s = { id, fd, address, size, large, sent: false, next: 0, blocks: new Map(), touched: 0, bytes };
      this.#segments.set(id, s);
      return s;
    } catch (error) {
      libc.close(fd);
      throw error;
    }
  }

  #close(s) {
    this.#segments.delete(s.id);
    libc.munmap(s.address, s.size);
    libc.close(s.fd);
    if (s.sent) this.#drop([s.id]);
  }

  /** Makes pages ready before the first step needs them. */
  prefault(bytes) {
    if (bytes <= 0) return;
    const s = this.#create(Math.max(LARGE_SEGMENT, bytes), true);
    for (let at = 0; at < bytes; at += WINDOW) {
      libc.view(s.address + BigInt(at), Math.min(WINDOW, bytes - at)).fill(0);
    }
    s.touched = bytes;
    this.#keep(s);
  }

  /** Room for length bytes in an arena. */
  #place(length) {
    const size = (length + BLOCK_ALIGN - 1) & -BLOCK_ALIGN;
    const place = this.#free.get(size)?.pop();
    if (place) {
      place.length = length;
      return place;
    }
    if (!this.#current || this.#current.next + size > this.#current.size) this.#current = this.#create(ARENA_SIZE, false);
    const s = this.#current;
    const offset = s.next;
    s.next += size;
    return { segment: s, offset, length, size };
  }

  /** @returns {Segment} a large segment without a block */
  takeLarge() {
    const s = this.#kept.pop();
    if (!s) return this.#create(LARGE_SEGMENT, true);
    this.#keptBytes -= s.touched;
    return s;
  }

  #keep(s) {
    s.next = 0;
    this.#kept.push(s);
    this.#keptBytes += s.touched;
    while (this.#keptBytes > this.#retain) {
      const coldest = this.#kept.shift();
      this.#keptBytes -= coldest.touched;
      this.#close(coldest);
    }
  }

  charge(bytes) {
    if (this.limit > 0 && this.used + bytes > this.limit) throw new BudgetError(bytes, this.used, this.limit);
    this.used += bytes;
  }

  #commit(place) {
    const { segment, offset, length } = place;
    const block = { segment: segment.id, offset: BigInt(offset), length: BigInt(length) };
    segment.blocks.set(offset, place);
    this.#pending.push(block);
    return block;
  }

  /** Copies bytes, fewer than LARGE_BLOCK, into a block of their own. */
  copy(bytes) {
    this.charge(bytes.length);
    return this.commitSmall(bytes);
  }

  /** Copies bytes into a new small block, whose length was charged. */
  commitSmall(bytes) {
    const place = this.#place(bytes.length);
    place.segment.bytes.set(bytes, place.offset);
    return this.#commit(place);
  }

  /** Makes the first length bytes of a segment of takeLarge a block; they were charged. */
  commitLarge(s, length) {
    s.touched = Math.max(s.touched, (length + PAGE - 1) & -PAGE);
    return this.#commit({ segment: s, offset: 0, length, size: length });
  }

  /** Gives an unused segment of takeLarge back. */
  returnLarge(s, written) {
    s.touched = Math.max(s.touched, written);
    this.#keep(s);
  }

  /**
   * The blocks committed since the last publish or abort, to be listed in the
   * message that publishes them. Announces their segments first.
   * @returns {Block[]}
   */
  publish() {
    const blocks = this.#pending;
    for (const { segment } of blocks) this.#send(this.#segments.get(segment));
    this.#pending = [];
    return blocks;
  }

  /** Announces the segment that is filled now, if there is one, so that the first message which publishes need not. */
  offer() {
    if (this.#current) this.#send(this.#current);
  }

  #send(s) {
    if (s.sent) return;
    libc.addSeals(s.fd, libc.SEAL_FUTURE_WRITE | libc.SEAL_SEAL);
    this.#announce(s);
    s.sent = true;
  }

  /** Frees what was committed and not published. */
  abort() {
    const blocks = this.#pending;
    this.#pending = [];
    this.release(blocks);
  }

  /** Frees blocks that nobody refers to any more. Unknown ones are ignored. */
  release(blocks) {
    for (const { segment, offset, length } of blocks) {
      const s = this.#segments.get(segment);
      const place = s?.blocks.get(Number(offset));
      if (place?.length !== Number(length)) continue;
      s.blocks.delete(place.offset);
      this.used -= place.length;
      if (s.large) this.#keep(s);
      else if (s.blocks.size === 0) this.#empty(s);
      else this.#freeList(place.size).push(place);
    }
  }

  #freeList(size) {
    let list = this.#free.get(size);
    if (!list) this.#free.set(size, (list = []));
    return list;
  }

  /** An arena without blocks starts over; a second empty one is given up. */
  #empty(s) {
    for (const [size, list] of this.#free) {
      const rest = list.filter((place) => place.segment !== s);
      if (rest.length > 0) this.#free.set(size, rest);
      else this.#free.delete(size);
    }
    s.next = 0;
    if (this.#current === s) return;
    if (this.#current.blocks.size > 0 && this.#current.next > this.#current.size / 2) this.#current = s;
    else this.#close(s);
  }

  /** The buffer in which small blocks are put together; one writer at a time has it. */
  takeScratch() {
    if (this.#scratchUsed) return Buffer.from(new ArrayBuffer(1 << 20));
    this.#scratchUsed = true;
    return this.#scratch;
  }
  returnScratch(scratch) {
    if (scratch === this.#scratch) this.#scratchUsed = false;
  }
}
