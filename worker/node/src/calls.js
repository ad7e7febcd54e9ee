/**
 * Calls of other steps by the step that runs. The argument is published with
 * the call and is the supervisor's from then on; the result is a state whose
 * values decode when they are touched, and which may be passed on by reference
 * until the step ends or forgets it.
 * @module
 */
import { CallError, StepError } from './errors.js';
import { FrameSizeError } from './frames.js';

/** How many calls a step may have under way; the protocol's limit. */
export const MAX_CALLS = 4096;

const FORGOTTEN = 'belongs to the result of a call that was forgotten: keep() it, or read it before the next result is asked for';

/**
 * @typedef {object} CallOptions
 * @property {'step' | 'leaf'} [until] return when that step has ended (default), or when its branch has reached its leaves
 * @property {number} [timeout] in milliseconds; 0 is none
 * @property {AbortSignal} [signal] cancels the call
 *
 * @typedef {object} Host what a call needs of the executor
 * @property {(message: object, table: object | undefined, onAnswer: (envelope: import('./frames.js').Envelope, file: number) => void, before?: object) => bigint} request
 * @property {() => void} alert says that a message is being made
 * @property {(id: bigint) => void} abandon ignores the answer to a request
 * @property {(id: bigint, message: object) => void} send
 */

export class Calls {
  #execution;
  #host;
  /** @type {Map<bigint, (error: Error) => void>} calls under way → what cancels them */
  #pending = new Map();
  /** @type {WeakMap<object, Result>} states → the results they belong to */
  #results = new WeakMap();
  #forgotten = [];

  /**
   * @param {import('./execution.js').Execution} execution
   * @param {Host} host
   */
  constructor(execution, host) {
    this.#execution = execution;
    this.#host = host;
  }

  /**
   * @param {string} step
   * @param {unknown} [state]
   * @param {CallOptions} [options]
   * @returns {Promise<any>} the result's state
   * @throws {CallError} what the called step failed with
   */
  call(step, state, options = {}) {
    const { promise, cancel } = this.start(step, state, options);
    const { signal } = options;
    const onAbort = () => cancel(signal.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const stop = () => signal?.removeEventListener('abort', onAbort);
    const returned = promise.then(
      (result) => (stop(), this.#remember(result)),
      (error) => {
        stop();
        throw error;
      },
    );
    // One that nobody waits for is cancelled with its step; it is no rejection
    // that anybody overlooked.
    returned.catch(() => {});
    return returned;
  }

  #remember(result) {
    const { state } = result;
    if (state !== null && typeof state === 'object') this.#results.set(state, result);
    return state;
  }

  /**
   * Starts a call.
   * @param {boolean} [tracked] of the result, see Input
   * @returns {{promise: Promise<Result>, cancel: (reason: Error) => void}} the promise also fails with what is wrong with the argument
   */
  start(step, state, options = {}, tracked = false) {
    let cancel = () => {};
    const promise = new Promise((resolve, reject) => {
      const message = this.#checked(step, options);
      this.#host.alert();
      const { table, blocks } = this.#execution.publish(state);
      const id = this.#send({ ...message, blocks }, table, ({ message: answer, table: state }) => {
        const isWaitedFor = this.#pending.delete(id);
        if (answer.type !== 'result') return reject(new CallError(step, answer));
        if (!isWaitedFor) return this.#forgetCall(id);
        resolve(new Result(this, id, answer.step, this.#execution.scope.open(state, tracked)));
      });
      cancel = (reason) => {
        if (!this.#pending.delete(id)) return;
        this.#host.send(id, { type: 'cancel', reason: String(reason?.message ?? reason ?? '') });
        reject(reason);
      };
      this.#pending.set(id, cancel);
    });
    promise.catch(() => {});
    return { promise, cancel };
  }

  #send(message, table, onAnswer) {
    try {
      return this.#host.request(message, table, onAnswer, this.#takeForgotten());
    } catch (error) {
      this.#execution.unpublish(message.blocks);
      if (!(error instanceof FrameSizeError)) throw error;
      throw new StepError('kill', 'StateTooLargeError', error.message, { size: error.size, limit: error.limit });
    }
  }

  #checked(step, { until = 'step', timeout = 0, signal }) {
    if (typeof step !== 'string' || step === '') throw new TypeError(`call: the step's id must be a text, not ${typeof step}`);
    if (until !== 'step' && until !== 'leaf') throw new TypeError(`call of ${step}: until must be 'step' or 'leaf', not ${JSON.stringify(until)}`);
    if (typeof timeout !== 'number' || !(timeout >= 0) || timeout > 2 ** 40) throw new TypeError(`call of ${step}: timeout must be a number of milliseconds, not ${timeout}`);
    this.#execution.assertCan('calls', `call of ${step}`);
    if (this.#pending.size >= MAX_CALLS) throw new RangeError(`call of ${step}: ${this.#pending.size} calls are under way, which is the limit: wait for some, or use each()`);
    signal?.throwIfAborted();
    return { type: 'call', step, until, timeout: BigInt(Math.round(timeout * 1e6)) };
  }

  /** Ends every call here: each fails with the error. */
  cancelAll(error) {
    for (const cancel of [...this.#pending.values()]) cancel(error);
  }

  /** The step is answered: what is under way is the supervisor's to cancel. */
  close() {
    for (const id of this.#pending.keys()) this.#host.abandon(id);
    this.#pending.clear();
    this.#forgotten.length = 0;
  }

  /**
   * Lets the bytes of a call's result go before the step ends. What was not
   * decoded of it cannot be any more.
   * @param {object} state what call returned
   */
  forget(state) {
    this.#results.get(state)?.forget();
  }

  /** @param {Result} result */
  forgetResult({ id, input }) {
    this.#execution.scope.close(input, FORGOTTEN);
    this.#forgetCall(id);
  }

  #forgetCall(id) {
    if (this.#forgotten.push(id) === 1) setImmediate(() => this.#flushForgotten());
  }

  #flushForgotten() {
    const envelope = this.#takeForgotten();
    if (envelope) this.#host.send(envelope.id, envelope.message);
  }

  #takeForgotten() {
    if (this.#forgotten.length === 0 || this.#execution.answered) return undefined;
    const calls = this.#forgotten;
    this.#forgotten = [];
    return { id: 0n, message: { type: 'forget', calls } };
  }
}

/** What came of a call. */
export class Result {
  #calls;
  #isForgotten = false;

  constructor(calls, id, step, input) {
    this.#calls = calls;
    this.id = id;
    /** The id of the step that ended the call. */
    this.step = step;
    this.input = input;
  }

  get state() {
    return this.input.state;
  }

  forget() {
    if (this.#isForgotten) return;
    this.#isForgotten = true;
    this.#calls.forgetResult(this);
  }
}
