/**
 * The producer's side of a stream: a step whose state has an async generator
 * for a key hands the state over and goes on to feed the items to whoever
 * reads them.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CallError, StepError, classify } from './errors.js';
import { Encoding } from './frames.js';
import { isStandIn, originOf } from './lazy.js';
import { explain } from './paths.js';
import { ItemSizeError, RingWriter, Turns } from './ring.js';
import { isItemSource } from './values.js';

/** How long a generator may take to end when no more items are wanted, in ms. */
const RETURN_GRACE = 1000;

/**
 * The key of a result whose value produces items.
 * @param {unknown} result
 * @param {Set<string>} dropKeys
 * @returns {string | undefined}
 */
export function streamKey(result, dropKeys) {
  if (result === null || typeof result !== 'object' || Array.isArray(result) || isStandIn(result)) return undefined;
  const keys = Object.keys(result).filter((key) => {
    const { value } = Object.getOwnPropertyDescriptor(result, key) ?? {};
    if (value === null || typeof value !== 'object' || originOf(value) || key.startsWith('_') || dropKeys.has(key)) return false;
    return isItemSource(value);
  });
  if (keys.length > 1) {
    throw new StepError('fail', 'RuntimeError', `state.${keys[0]} and state.${keys[1]} are both streams: a step can feed one, so put the items of both into it`, { keys });
  }
  return keys[0];
}

/** Feeds the items of one source. */
export class Feed {
  #host;
  #key;
  #source;
  #iterator = null;
  /** @type {RingWriter | null} */
  #ring = null;
  #id = 0n;
  #end = null;
  #stop;
  #stopped = new Promise((resolve) => (this.#stop = resolve));
  #wake = () => {};
  #turns = new Turns();
  #willFlush = false;

  /**
   * @param {import('./execution.js').Host} host
   * @param {string} key
   * @param {object} source an iterable or async iterable object
   */
  constructor(host, key, source) {
    this.#host = host;
    this.#key = key;
    this.#source = source;
  }

  /**
   * Hands the state over and feeds the stream to its end.
   * @param {{table: import('./frames.js').Table, blocks: object[]}} state without the stream's key
   * @throws {StepError} what the source threw, or what the consumer failed with
   */
  async run({ table, blocks }) {
    try {
      await this.#open(table, blocks);
      await Promise.race([this.#pump(), this.#stopped]);
      if (this.#end?.error) throw this.#end.error;
      if (this.#end) await this.#return();
      else this.#host.send(0n, { type: 'stream-end', stream: this.#id });
    } catch (error) {
      const thrown = classify(error, { stack: typeof error?.stack === 'string' ? error.stack : undefined });
      if (this.#ring && !this.#end) this.#host.send(0n, { type: 'stream-end', stream: this.#id, severity: thrown.severity, name: thrown.name, message: thrown.message });
      this.#end ??= { error: thrown };
      void this.#return();
      throw thrown;
    } finally {
      this.#ring?.close();
      this.#host.unlisten(this.#id);
    }
  }

  /** Stops with an error. */
  fail(error) {
    this.#finish(error);
  }

  #finish(error) {
    this.#end ??= { error };
    this.#stop();
    this.#wake();
  }

  #open(table, blocks) {
    return new Promise((resolve, reject) => {
      this.#host.request({ type: 'stream', key: this.#key, encoding: Encoding.JSON, capacity: 0n, blocks }, table, ({ message }, file) => {
        if (message.type !== 'stream-ring') return reject(new CallError('', message));
        try {
          this.#id = message.stream;
          this.#ring = new RingWriter(file, message.capacity, () => this.#host.send(0n, { type: 'wake', stream: this.#id }));
          this.#host.listen(this.#id, (heard) => {
            if (heard.type === 'wake') this.#wake();
            else this.#finish(heard.name ? new CallError('', { ...heard, details: '' }) : null);
          });
          resolve();
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  async #pump() {
    const source = this.#source;
    const iterator = (this.#iterator = source[Symbol.asyncIterator]?.() ?? source[Symbol.iterator]());
    for (let n = 0; ; n++) {
      while (!this.#end && !this.#ring.isWanted()) await this.#sleep();
      if (this.#end) return;
      // The generator may take its time: what is written is shown before.
      this.#flushSoon();
      const { done, value } = await iterator.next();
      if (this.#end) return;
      if (done) break;
      const text = this.#text(value, n);
      while (!this.#write(text, n)) {
        await this.#sleep();
        if (this.#end) return;
      }
      await this.#turns.next();
    }
    this.#ring.flush();
  }

  #text(value, n) {
    try {
      return JSON.stringify(value) ?? 'null';
    } catch (error) {
      throw explain(error, value, `${this.#key}[item ${n}]`);
    }
  }

  #write(text, n) {
    try {
      return this.#ring.write(text);
    } catch (error) {
      if (!(error instanceof ItemSizeError)) throw error;
      throw new StepError('fail', 'StreamItemTooLargeError', `state.${this.#key}, item ${n}: ${error.message}`, { key: this.#key, item: n, size: error.size, limit: error.limit });
    }
  }

  #flushSoon() {
    if (this.#willFlush || this.#ring.isFlushed) return;
    this.#willFlush = true;
    setImmediate(() => {
      this.#willFlush = false;
      this.#ring.flush();
    });
  }

  /** Until the consumer has read or asked for more, or there is an end. */
  async #sleep() {
    const ring = this.#ring;
    ring.flush();
    const woken = new Promise((resolve) => (this.#wake = resolve));
    ring.doze();
    if (this.#end || ring.hasNews()) {
      if (ring.stayAwake()) return;
    }
    await woken;
  }

  /** Tells the source that no more is wanted. */
  async #return() {
    const ended = async () => this.#iterator?.return?.();
    await Promise.race([ended().catch(() => {}), sleep(RETURN_GRACE, undefined, { ref: false })]);
  }
}
