/**
 * The consumer's side of a stream: what stands in a state for items that
 * another step still produces.
 * @module
 */
import { PAGES } from './each.js';
import { CallError, StepError, describe } from './errors.js';
import { Encoding } from './frames.js';
import { RingReader, Turns } from './ring.js';
import { Encoded, STREAM_TEXT } from './values.js';

/** @typedef {import('./execution.js').Host} Host */

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * Items of another step: an async iterable, once. Anything else that looks at
 * it sees the text "[stream]"; not read, it is passed on with its state.
 */
export class Stream {
  #host;
  #execution;
  #key;
  #id;
  #encoding;
  /** @type {'' | 'read' | 'passed on'} */
  #use = '';
  /** @type {RingReader | null} */
  #ring = null;
  #isEnded = false;
  #isFinished = false;
  #error = null;
  #asked = 0;
  #wake = () => {};
  #turns = new Turns();

  /**
   * @param {import('./lazy.js').Origin} origin
   * @param {import('./execution.js').Execution} execution
   * @param {Host} host
   */
  constructor({ row }, execution, host) {
    this.#key = row.key;
    this.#id = row.spans[0].segment;
    this.#encoding = row.spans[0].encoding;
    this.#execution = execution;
    this.#host = host;
  }

  /** Each item, decoded; its bytes when they are no JSON. */
  [Symbol.asyncIterator]() {
    if (this.#encoding !== Encoding.JSON) return this.raw[Symbol.asyncIterator]();
    let n = 0;
    return this.#iterate((bytes) => {
      const text = utf8.decode(bytes);
      try {
        n++;
        return JSON.parse(text);
      } catch (error) {
        throw new StepError('exception', 'DataClipError', `item ${n} of state.${this.#key} is not valid JSON: ${describe(error)}`, { key: this.#key });
      }
    });
  }

  /** An iterable of each item's bytes, copied. */
  get raw() {
    return { [Symbol.asyncIterator]: () => this.#iterate((bytes) => Uint8Array.prototype.slice.call(bytes)) };
  }

  /** Each item as a value that is encoded already; not to be kept past the next one. */
  [PAGES]() {
    return this.#iterate((bytes) => new Encoded(bytes, this.#encoding));
  }

  /** With manual demand: asks for n items more. */
  ask(n) {
    if (!Number.isInteger(n) || n < 1) throw new TypeError(`ask: the number of items must be a whole number from 1, not ${n}`);
    if (this.#ring) this.#ring.ask(n);
    else this.#asked += n;
  }

  toJSON() {
    return STREAM_TEXT;
  }
  toString() {
    return STREAM_TEXT;
  }
  [Symbol.for('nodejs.util.inspect.custom')]() {
    return STREAM_TEXT;
  }

  /** Whether its items are this step's. */
  get isRead() {
    return this.#use === 'read';
  }
  get isPassedOn() {
    return this.#use === 'passed on';
  }
  /** The state's row has gone on to somebody else. */
  pass() {
    this.#use = 'passed on';
  }

  #iterate(decode) {
    if (this.#use) throw new StepError('fail', 'RuntimeError', `state.${this.#key} was ${this.#use} already: a stream can be read once, by one step`, { key: this.#key });
    this.#use = 'read';
    let before = Promise.resolve();
    const next = () => this.#next(decode);
    return {
      next: () => (before = before.then(next, next)),
      return: async (value) => {
        this.finish();
        return { done: true, value };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  async #next(decode) {
    await this.#turns.next();
    if (!this.#ring && !this.#isFinished) await this.#open();
    for (;;) {
      if (this.#error) {
        const error = this.#error;
        this.#close();
        throw error;
      }
      if (this.#isFinished) return { done: true, value: undefined };
      const isEnded = this.#isEnded;
      const item = this.#take(decode);
      if (item) return { done: false, value: item.value };
      if (isEnded) {
        this.#close();
        continue;
      }
      await this.#sleep();
    }
  }

  #take(decode) {
    try {
      return this.#ring.take(decode);
    } catch (error) {
      const { severity = 'fail', name = 'Error', message } = error;
      this.#host.send(0n, { type: 'stream-end', stream: this.#id, severity, name, message });
      this.#close();
      throw error;
    }
  }

  /** Until the producer has written more, or there is an end. */
  async #sleep() {
    const ring = this.#ring;
    ring.askIfNone();
    ring.flush();
    const woken = new Promise((resolve) => (this.#wake = resolve));
    ring.doze();
    if (this.#isEnded || this.#error || ring.hasNews()) {
      if (ring.stayAwake()) return;
    }
    await woken;
  }

  #open() {
    this.#execution.assertCan('streams', `reading state.${this.#key}`);
    this.#host.listen(this.#id, (message) => this.#hear(message));
    this.#execution.onCancel((error) => this.#fail(error));
    this.#execution.reading.add(this);
    return new Promise((resolve, reject) => {
      this.#host.request({ type: 'consume', stream: this.#id }, undefined, ({ message }, file) => {
        if (message.type !== 'stream-ring') {
          this.#close();
          return reject(new CallError('', message));
        }
        try {
          this.#ring = new RingReader(file, message, () => this.#host.send(0n, { type: 'wake', stream: this.#id }));
          if (this.#asked > 0) this.#ring.ask(this.#asked);
          if (this.#isFinished) this.#ring.close();
          resolve();
        } catch (error) {
          this.#close();
          reject(error);
        }
      });
    });
  }

  #hear(message) {
    if (message.type === 'stream-end') {
      if (message.name) return this.#fail(new CallError('', { ...message, details: '' }));
      this.#isEnded = true;
    }
    this.#wake();
  }

  #fail(error) {
    this.#error ??= error;
    this.#wake();
  }

  /** No more is wanted of it. */
  finish() {
    if (this.#isFinished) return;
    if (this.#execution.reading.has(this) && !this.#execution.answered) this.#host.send(0n, { type: 'stream-end', stream: this.#id });
    this.#close();
    this.#wake();
  }

  #close() {
    this.#isFinished = true;
    this.#error = null;
    this.#ring?.close();
    this.#host.unlisten(this.#id);
    this.#execution.reading.delete(this);
  }

  /** The step is answered. */
  drop() {
    this.#close();
  }
}
