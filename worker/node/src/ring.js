/**
 * The memory of a stream: records of a producer that one consumer reads in
 * place. Each end keeps its own counters privately, loads the other's once and
 * checks it; what a hostile peer writes ends the stream, never this process.
 * @module
 */
import { fstatSync } from 'node:fs';
import { StepError } from './errors.js';
import * as libc from './libc.js';

const DATA = 4096;
const MIN_CAPACITY = 64 << 10;
const MAX_CAPACITY = 2 ** 30;
const SEALS = libc.SEAL_SHRINK | libc.SEAL_GROW | libc.SEAL_SEAL;

// Places of the counters, in elements of eight and of four bytes.
const WRITTEN = 0;
const READ = 8;
const DEMAND = 16;
const PRODUCER_ASLEEP = 48;
const CONSUMER_ASLEEP = 64;

const ITEM = 0;
const SKIP = 1;
const HEADER = 8;
const padded = (size) => HEADER + Math.ceil(size / 8) * 8;

/** A counter is stored at the latest after so many items or so many bytes. */
const BATCH_ITEMS = 64;
const BATCH_BYTES = 64 << 10;

const encoder = new TextEncoder();

const breach = (text) => new StepError('exception', 'StreamError', `the other end of the stream broke its rules: ${text}`);

class Ring {
  #address;
  #size;
  #wake;
  #mine;
  #theirs;
  /** @type {BigUint64Array} */
  counters;
  /** @type {Int32Array} */
  flags;
  /** @type {Buffer} */
  bytes;
  /** @type {DataView} */
  view;

  /**
   * @param {number} fd taken over
   * @param {bigint} capacity
   * @param {() => void} wake tells the other end to look again
   */
  constructor(fd, capacity, wake, mine, theirs) {
    try {
      const size = Number(capacity);
      if (size < MIN_CAPACITY || size > MAX_CAPACITY || (size & (size - 1)) !== 0) throw breach(`a ring of ${capacity} bytes`);
      if ((libc.getSeals(fd) & SEALS) !== SEALS || fstatSync(fd).size !== DATA + size) throw breach('its memory is not sealed, or not of the size that was announced');
      this.capacity = size;
      this.#size = DATA + size;
      this.#address = libc.mmap(fd, this.#size, true);
    } finally {
      libc.close(fd);
    }
    this.#wake = wake;
    this.#mine = mine;
    this.#theirs = theirs;
    this.bytes = libc.view(this.#address, this.#size);
    const { buffer, byteOffset } = this.bytes;
    this.counters = new BigUint64Array(buffer, byteOffset, DATA / 8);
    this.flags = new Int32Array(buffer, byteOffset, DATA / 4);
    this.view = new DataView(buffer, byteOffset, this.#size);
  }

  /** The largest item, in bytes. */
  get maxItem() {
    return this.capacity / 2 - HEADER;
  }

  /** Wakes the other end if it sleeps; call it after storing a counter. */
  rouse() {
    if (Atomics.load(this.flags, this.#theirs) === 1 && Atomics.compareExchange(this.flags, this.#theirs, 1, 0) === 1) this.#wake();
  }

  /** Says that this end sleeps. Whoever calls it must look again. */
  doze() {
    Atomics.store(this.flags, this.#mine, 1);
  }

  /** Takes that back; false when a wake is on its way. */
  stayAwake() {
    return Atomics.compareExchange(this.flags, this.#mine, 1, 0) === 1;
  }

  get isClosed() {
    return this.bytes === null;
  }

  close() {
    if (this.isClosed) return;
    this.bytes = this.view = this.counters = this.flags = null;
    libc.munmap(this.#address, this.#size);
  }
}

/** The producer's end. */
export class RingWriter extends Ring {
  #written = 0;
  #stored = 0;
  #storedItems = 0;
  #read = 0;
  #demand = 0;
  /** Items written. */
  items = 0;

  constructor(fd, capacity, wake) {
    super(fd, capacity, wake, PRODUCER_ASLEEP, CONSUMER_ASLEEP);
  }

  #look() {
    const read = Number(Atomics.load(this.counters, READ));
    const demand = Number(Atomics.load(this.counters, DEMAND));
    if (read < this.#read || read > this.#written) throw breach(`${read} bytes read of ${this.#written}, after ${this.#read}`);
    if (demand < this.#demand) throw breach(`a demand of ${demand} after ${this.#demand}`);
    const isNew = read !== this.#read || demand !== this.#demand;
    this.#read = read;
    this.#demand = demand;
    return isNew;
  }

  /** Whether the consumer has stored something that was not known. */
  hasNews() {
    return this.#look();
  }

  /** Whether the consumer wants an item more. */
  isWanted() {
    return this.items < this.#demand || (this.#look() && this.items < this.#demand);
  }

  #hasRoom(bytes) {
    const room = () => this.capacity - (this.#written - this.#read);
    return room() >= bytes || (this.#look() && room() >= bytes);
  }

  /**
   * Writes an item, unless there is no demand or no room for it.
   * @param {string} text
   * @returns {boolean}
   */
  write(text) {
    if (!this.isWanted()) return false;
    const at = this.#written % this.capacity;
    const left = this.capacity - at;
    const most = 3 * text.length;
    if (most <= this.maxItem && padded(most) <= left && this.#hasRoom(padded(most))) return this.#put(at, text);
    const size = Buffer.byteLength(text);
    if (size > this.maxItem) throw new ItemSizeError(size, this.maxItem);
    if (padded(size) <= left) return this.#hasRoom(padded(size)) && this.#put(at, text);
    if (!this.#hasRoom(left + padded(size))) return false;
    this.#header(at, left - HEADER, SKIP);
    this.#written += left;
    return this.#put(0, text);
  }

  #header(at, size, kind) {
    this.view.setUint32(DATA + at, size, true);
    this.view.setUint32(DATA + at + 4, kind, true);
  }

  #put(at, text) {
    const start = DATA + at + HEADER;
    const { written } = encoder.encodeInto(text, this.bytes.subarray(start, Math.min(start + 3 * text.length, DATA + this.capacity)));
    this.#header(at, written, ITEM);
    this.#written += padded(written);
    this.items++;
    if (this.items - this.#storedItems >= BATCH_ITEMS || this.#written - this.#stored >= BATCH_BYTES) this.flush();
    return true;
  }

  get isFlushed() {
    return this.#stored === this.#written;
  }

  /** Shows the consumer what was written. */
  flush() {
    if (this.isClosed || this.isFlushed) return;
    this.#stored = this.#written;
    this.#storedItems = this.items;
    Atomics.store(this.counters, WRITTEN, BigInt(this.#written));
    this.rouse();
  }
}

/** The consumer's end. */
export class RingReader extends Ring {
  #read = 0;
  #stored = 0;
  #storedItems = 0;
  #written = 0;
  #demand = 0;
  #maxDemand;
  #minDemand;
  #isManual;
  /** Items read. */
  items = 0;

  /** @param {{capacity: bigint, maxDemand: number, minDemand: number, manual: boolean}} ring as the supervisor announced it */
  constructor(fd, { capacity, maxDemand, minDemand, manual }, wake) {
    super(fd, capacity, wake, CONSUMER_ASLEEP, PRODUCER_ASLEEP);
    this.#maxDemand = Math.max(1, maxDemand);
    this.#minDemand = Math.min(minDemand, this.#maxDemand - 1);
    this.#isManual = manual;
    this.flush();
  }

  #look() {
    const written = Number(Atomics.load(this.counters, WRITTEN));
    if (written < this.#written || written - this.#read > this.capacity) throw breach(`${written} bytes written, after ${this.#written} and with ${this.#read} read`);
    const isNew = written !== this.#written;
    this.#written = written;
    return isNew;
  }

  /** Whether there is something to read. */
  hasNews() {
    return this.#written > this.#read || this.#look();
  }

  /**
   * Reads one item, if there is one.
   * @template T
   * @param {(bytes: Buffer) => T} decode gets a view that is not to be kept
   * @returns {{value: T} | undefined}
   */
  take(decode) {
    while (this.hasNews()) {
      const at = this.#read % this.capacity;
      const left = Math.min(this.capacity - at, this.#written - this.#read);
      if (left < HEADER) throw breach('a record without room for its header');
      const size = this.view.getUint32(DATA + at, true);
      const kind = this.view.getUint32(DATA + at + 4, true);
      const length = padded(size);
      if (length > left) throw breach(`a record of ${size} bytes where ${left - HEADER} are`);
      if (kind === SKIP) {
        if (at + length !== this.capacity) throw breach('a skip that is not at the end of the ring');
        this.#read += length;
        continue;
      }
      if (kind !== ITEM || size > this.maxItem) throw breach(`a record of kind ${kind} with ${size} bytes`);
      const start = DATA + at + HEADER;
      const value = decode(this.bytes.subarray(start, start + size));
      this.#read += length;
      this.items++;
      if (this.items - this.#storedItems >= BATCH_ITEMS || this.#read - this.#stored >= this.capacity / 8 || this.#isDemandDue) this.flush();
      return { value };
    }
    return undefined;
  }

  get #isDemandDue() {
    return !this.#isManual && this.#demand - this.items <= this.#minDemand;
  }

  /** Asks for n items more, where that is left to the program. */
  ask(n) {
    if (!this.#isManual) return;
    this.#demand += n;
    Atomics.store(this.counters, DEMAND, BigInt(this.#demand));
    this.rouse();
  }

  /** Asks for one item where none is on its way, or a reader that waits would wait for ever. */
  askIfNone() {
    if (this.#isManual && this.#demand <= this.items) this.ask(1);
  }

  /** Gives back what was read, and asks for more when it is time. */
  flush() {
    if (this.isClosed) return;
    let isNew = this.#stored !== this.#read;
    if (isNew) Atomics.store(this.counters, READ, BigInt(this.#read));
    this.#stored = this.#read;
    this.#storedItems = this.items;
    if (this.#isDemandDue) {
      this.#demand = this.items + this.#maxDemand;
      Atomics.store(this.counters, DEMAND, BigInt(this.#demand));
      isNew = true;
    }
    if (isNew) this.rouse();
  }
}

/** An item that can never be in the ring. */
export class ItemSizeError extends Error {
  name = 'ItemSizeError';
  constructor(size, limit) {
    super(`an item of ${size} bytes is over the stream's limit of ${limit}: yield smaller items, or give the state itself the value`);
    Object.assign(this, { size, limit });
  }
}

const TURN = 5;

/**
 * Waits for the event loop every few milliseconds, so that items that are
 * always there do not keep everything else from happening.
 */
export class Turns {
  #last = performance.now();
  #count = 0;
  /** @returns {Promise<void> | undefined} */
  next() {
    if (++this.#count % 16 !== 0 || performance.now() - this.#last < TURN) return undefined;
    return new Promise((resolve) =>
      setImmediate(() => {
        this.#last = performance.now();
        resolve();
      }),
    );
  }
}
