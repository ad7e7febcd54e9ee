/**
 * The ring of the control channel: memory that both processes map, with a lane
 * of frames in either direction. Each end keeps its own counters privately,
 * loads the other's once and checks it, and copies a frame out before it looks
 * at it.
 * @module
 */
import { fstatSync } from 'node:fs';
import { HEADER_SIZE, parseHeader, viewOf } from './frames.js';
import * as libc from './libc.js';
import { ProtocolError } from './wire.js';

const DATA = 4096;
const LANE = 192;
const MIN_SIZE = 4 << 10;
const MAX_SIZE = 16 << 20;
const SEALS = libc.SEAL_SHRINK | libc.SEAL_GROW | libc.SEAL_SEAL;

// Places in a lane's head, in bytes.
const WRITTEN = 0;
const READ = 64;
const ASLEEP = 128;

/** What a reader stores in `asleep`: how it is to be woken. */
export const Asleep = Object.freeze({
  NO: 0,
  /** By a doorbell on the socket. */
  ON_SOCKET: 1,
  /** By futex(2), with bit 2. */
  ON_WORD: 2,
});

export const laneMemorySize = (size) => DATA + 2 * size;

class Lane {
  /** The counters as 64 bits each. */
  counters;
  /** The lower halves of them, and `asleep`. */
  words;
  bytes;
  /** Address of `asleep`. */
  asleepAddress;
  // Where each is, in elements of its view.
  written;
  read;
  asleep;

  /**
   * @param {Buffer} memory all of it
   * @param {number} address its address
   * @param {number} index of the lane: 0 to the executor, 1 to the supervisor
   */
  constructor(memory, address, index, size) {
    const head = index * LANE;
    const { buffer, byteOffset } = memory;
    this.counters = new BigUint64Array(buffer, byteOffset, DATA / 8);
    this.words = new Int32Array(buffer, byteOffset, DATA / 4);
    this.bytes = memory.subarray(DATA + index * size, DATA + (index + 1) * size);
    this.size = size;
    this.asleepAddress = address + head + ASLEEP;
    this.written = (head + WRITTEN) / 8;
    this.read = (head + READ) / 8;
    this.asleep = (head + ASLEEP) / 4;
  }

  close() {
    this.counters = this.words = this.bytes = null;
  }
}

/** The lane that this side writes. */
export class LaneWriter extends Lane {
  #written = 0;

  /** A larger frame goes by the socket, so that a lane always holds several. */
  get maxFrame() {
    return this.size / 4;
  }

  /** Writes a whole frame; false when there is no room for it now. */
  write(frame) {
    const read = Number(Atomics.load(this.counters, this.read));
    const used = this.#written - read;
    if (used < 0 || used > this.size) throw new ProtocolError(`ring: the reader's counter is ${used} away from the writer's in a ring of ${this.size}`);
    if (frame.length > this.size - used) return false;
    const at = this.#written % this.size;
    const left = this.size - at;
    if (frame.length <= left) {
      this.bytes.set(frame, at);
    } else {
      this.bytes.set(frame.subarray(0, left), at);
      this.bytes.set(frame.subarray(left), 0);
    }
    this.#written += frame.length;
    Atomics.store(this.counters, this.written, BigInt(this.#written));
    return true;
  }

  /** How the reader sleeps. */
  get sleeper() {
    return Atomics.load(this.words, this.asleep);
  }

  /** The same, to wake it: it counts as awake from then on. */
  takeSleeper() {
    const how = this.sleeper;
    if (how === Asleep.NO || Atomics.compareExchange(this.words, this.asleep, how, Asleep.NO) !== how) return Asleep.NO;
    return how;
  }

  /** Wakes a reader that sleeps on the word. */
  wake(how) {
    libc.futexWake(this.asleepAddress, 1 << (how & 31));
  }
}

/** The lane that this side reads. */
export class LaneReader extends Lane {
  #read = 0;
  #frame = new Uint8Array(new ArrayBuffer(this.size));
  #view = viewOf(this.#frame);

  /** Whether there is something to read, if only a breach of the protocol. */
  get hasNews() {
    return Atomics.load(this.words, 2 * this.written) !== (this.#read | 0);
  }

  /**
   * Copies the next frame out, if there is one.
   * @returns {{header: import('./frames.js').Header, bytes: Uint8Array, view: DataView} | undefined} the bytes, which
   *   begin with the frame, are valid until the next call
   */
  take() {
    const written = Number(Atomics.load(this.counters, this.written));
    const used = written - this.#read;
    if (used === 0) return undefined;
    if (used < 0 || used > this.size) throw new ProtocolError(`ring: the writer's counter is ${used} away from the reader's in a ring of ${this.size}`);
    if (used < HEADER_SIZE) throw new ProtocolError(`ring: ${used} bytes pending, less than a header`);
    this.#copyOut(0, HEADER_SIZE);
    const header = parseHeader(this.#view);
    if (header.size > used) throw new ProtocolError(`ring: frame of ${header.size} bytes, ${used} pending`);
    if (header.files > 0) throw new ProtocolError('ring: a frame declares a descriptor; those go by the socket');
    this.#copyOut(HEADER_SIZE, header.size);
    this.#read += header.size;
    Atomics.store(this.counters, this.read, BigInt(this.#read));
    return { header, bytes: this.#frame, view: this.#view };
  }

  /** Copies bytes from to to, counted from the next frame's first. */
  #copyOut(from, to) {
    const at = (this.#read + from) % this.size;
    const end = at + to - from;
    this.#frame.set(this.bytes.subarray(at, Math.min(end, this.size)), from);
    if (end > this.size) this.#frame.set(this.bytes.subarray(0, end - this.size), from + this.size - at);
  }

  /**
   * Says how this side is to be woken from now on.
   * @returns {boolean} false when there is something to read, and it is awake
   */
  doze(how) {
    Atomics.store(this.words, this.asleep, how);
    if (!this.hasNews) return true;
    this.stayAwake();
    return false;
  }

  /** Says that this side looks by itself. */
  stayAwake() {
    Atomics.store(this.words, this.asleep, Asleep.NO);
  }

  /**
   * Blocks until the writer wakes this side, or a time of process.hrtime.bigint().
   * @returns {boolean} whether it was woken, for something to read or ahead of it
   */
  sleep(until) {
    if (!this.doze(Asleep.ON_WORD)) return true;
    libc.futexWait(this.asleepAddress, Asleep.ON_WORD, 1 << Asleep.ON_WORD, until);
    return Atomics.exchange(this.words, this.asleep, Asleep.NO) === Asleep.NO;
  }
}

/** Both lanes, as one side sees them. */
export class Lanes {
  #address;
  /** @type {LaneReader} */
  in;
  /** @type {LaneWriter} */
  out;

  /**
   * @param {number} fd taken over
   * @param {number} size of either lane
   * @param {0 | 1} inward the lane that this side reads: an executor the first
   */
  constructor(fd, size, inward = 0) {
    try {
      if (size < MIN_SIZE || size > MAX_SIZE || (size & (size - 1)) !== 0) throw new ProtocolError(`ring size ${size} is not a power of two from ${MIN_SIZE} to ${MAX_SIZE}`);
      if ((libc.getSeals(fd) & SEALS) !== SEALS) throw new ProtocolError('the memory of the ring is not sealed');
      const { size: bytes } = fstatSync(fd);
      if (bytes !== laneMemorySize(size)) throw new ProtocolError(`the memory of the ring has ${bytes} bytes, not ${laneMemorySize(size)}`);
      this.#address = libc.mmap(fd, bytes, true);
    } finally {
      libc.close(fd);
    }
    const memory = libc.view(this.#address, laneMemorySize(size));
    this.in = new LaneReader(memory, Number(this.#address), inward, size);
    this.out = new LaneWriter(memory, Number(this.#address), 1 - inward, size);
  }

  close() {
    if (this.in.bytes === null) return;
    const size = laneMemorySize(this.in.size);
    this.in.close();
    this.out.close();
    libc.munmap(this.#address, size);
  }
}
