/**
 * A step for each of many pages, so many at a time, with the results in the
 * order in which they come. A page is asked for only when there is room for it,
 * and a result that waits to be taken counts: whoever is slow holds the others
 * back.
 * @module
 */
import { put } from './lazy.js';

/**
 * @typedef {object} EachOptions
 * @property {number} [concurrency] calls under way and results not taken yet, together; 8 by default
 * @property {'step' | 'leaf'} [until] see CallOptions
 * @property {number} [timeout] of each call, in milliseconds
 * @property {string} [key] under which a page stands in the called step's state; "data" by default
 * @property {object} [state] its other keys
 * @property {'first' | 'collect'} [errors] throw the first error to arrive (default), or give each in place of its page's result
 */

/** What came of one page. */
export class EachResult {
  #result;

  /**
   * @param {number} index of the page, from 0
   * @param {import('./calls.js').Result | null} result
   * @param {Error} [error] what its step failed with, with `errors: 'collect'`
   */
  constructor(index, result, error) {
    this.index = index;
    this.error = error;
    this.#result = result;
  }
  /** The id of the step that ended the call. */
  get step() {
    return this.#result?.step ?? this.error?.step;
  }
  /** The state, readable until the next result is asked for. Throws the error in place of which there is none. */
  get state() {
    if (this.error) throw this.error;
    return this.#result.state;
  }
  /** Keeps the state readable until the step ends. */
  keep() {
    if (this.#result) this.#result.input.isKept = true;
    return this;
  }
  /** Lets go of the state, unless some of it may stand somewhere unread. */
  release() {
    if (this.#result && !this.#result.input.isHeld) this.#result.forget();
  }
}

/**
 * @param {import('./calls.js').Calls} calls
 * @param {Iterable<unknown> | AsyncIterable<unknown>} pages
 * @param {string} step
 * @param {EachOptions} [options]
 * @returns {AsyncGenerator<EachResult, void, void>}
 */
export async function* each(calls, pages, step, options = {}) {
  const { concurrency = 8, until, timeout, errors = 'first' } = checked(step, options);
  const argument = argumentMaker(options);
  const source = iteratorOf(pages, step);
  const ready = [];
  const underWay = new Set();
  let count = 0;
  let isPulling = false;
  let isExhausted = false;
  let isEnding = false; // nothing more is begun
  let failure = null; // of the source
  let wake = () => {};
  const asleep = () => new Promise((resolve) => (wake = resolve));

  const launch = (page) => {
    const index = count++;
    const call = calls.start(step, argument(page), { until, timeout }, true);
    underWay.add(call);
    const settle = (result, error) => {
      underWay.delete(call);
      ready.push(new EachResult(index, result, error));
      isEnding ||= Boolean(error) && errors === 'first';
      wake();
    };
    call.promise.then((result) => settle(result), (error) => settle(null, error));
  };
  const hasRoom = () => !isExhausted && !isEnding && underWay.size + ready.length < concurrency;
  const pull = async () => {
    if (isPulling) return;
    isPulling = true;
    try {
      while (hasRoom()) {
        const { done, value } = await source.next();
        if (done) isExhausted = true;
        else if (!isEnding) launch(value);
      }
    } catch (error) {
      isExhausted = isEnding = true;
      failure = { error };
    } finally {
      isPulling = false;
      wake();
    }
  };

  let last = null;
  try {
    for (;;) {
      last?.release();
      last = null;
      if (hasRoom()) void pull();
      while (ready.length === 0 && !failure) {
        if (isExhausted && !isPulling && underWay.size === 0) return;
        await asleep();
      }
      if (failure) throw failure.error;
      last = ready.shift();
      if (last.error && errors === 'first') throw last.error;
      yield last;
    }
  } finally {
    last?.release();
    isEnding = true;
    const reason = new Error('no more results are asked for');
    for (const call of underWay) call.cancel(reason);
    for (const result of ready) result.release();
    if (!isExhausted) await source.return?.();
  }
}

function checked(step, options) {
  const { concurrency = 8, key = 'data', state = {}, errors = 'first' } = options;
  if (!Number.isInteger(concurrency) || concurrency < 1) throw new TypeError(`each of ${step}: concurrency must be a whole number from 1, not ${concurrency}`);
  if (typeof key !== 'string') throw new TypeError(`each of ${step}: key must be a text, not ${typeof key}`);
  if (state === null || typeof state !== 'object') throw new TypeError(`each of ${step}: state must be an object`);
  if (errors !== 'first' && errors !== 'collect') throw new TypeError(`each of ${step}: errors must be 'first' or 'collect', not ${JSON.stringify(errors)}`);
  return options;
}

/** Puts a page beside the other keys, which are copied without being read. */
function argumentMaker({ key = 'data', state = {} }) {
  const others = Object.getOwnPropertyDescriptors(state);
  delete others[key];
  return (page) => {
    const argument = Object.defineProperties({}, others);
    put(argument, key, page);
    return argument;
  };
}

function iteratorOf(pages, step) {
  const iterator = pages?.[PAGES]?.() ?? pages?.[Symbol.asyncIterator]?.() ?? pages?.[Symbol.iterator]?.();
  if (typeof iterator?.next !== 'function') throw new TypeError(`each of ${step}: the pages must be an iterable, an async iterable or a stream`);
  return iterator;
}

/** A method of what has its pages encoded already: iterates over them. */
export const PAGES = Symbol('millrace.pages');
