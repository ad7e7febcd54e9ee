/**
 * One execute under way: what it may read, what it has asked the supervisor
 * for, and what it publishes.
 * @module
 */
import { Calls } from './calls.js';
import { StepError } from './errors.js';
import { forwardTable, toTable } from './result.js';
import { Scope } from './scope.js';
import { Stream } from './stream.js';

/**
 * @typedef {import('./calls.js').Host & {arena: import('./arena.js').Arena, segments: import('./segments.js').Segments,
 *   dropKeys: Set<string>, capabilities: Set<string>,
 *   listen: (stream: bigint, hear: (message: object) => void) => void, unlisten: (stream: bigint) => void}} Host
 */

export class Execution {
  #host;
  #isEncoding = false;
  #enders = [];
  /** @type {Error | null} why it is to stop */
  #reason = null;
  /** @type {AbortController | null} made when somebody asks for the signal: few do */
  #abort = null;
  started = process.hrtime.bigint();
  /** Whether the supervisor has got its done or fail. */
  answered = false;
  /** Bytes of the values encoded so far. */
  encoded = 0;
  /** @type {import('./latest.js').Leftover} what it leaves to a step that follows */
  left = { open: 'the step before it has failed' };

  /**
   * @param {bigint} id
   * @param {object} message the execute
   * @param {Host} host
   */
  constructor(id, message, host) {
    this.id = id;
    this.message = message;
    this.#host = host;
    /** @type {Set<Stream>} streams that are being read */
    this.reading = new Set();
    this.scope = new Scope(host.segments, (origin) => new Stream(origin, this, host));
    this.calls = new Calls(this, host);
  }

  /** @param {import('./frames.js').Table} table */
  open(table) {
    this.input = this.scope.open(table);
    return this.input.state;
  }

  /** Throws unless the step still runs and the supervisor takes such messages. */
  assertCan(capability, what) {
    if (this.answered) throw new Error(`${what}: the step ${this.message.step} has ended`);
    if (!this.#host.capabilities.has(capability)) throw new StepError('fail', 'RuntimeError', `${what}: the supervisor of this step does not offer ${capability}`);
    if (this.#isEncoding) throw new Error(`${what}: not from inside toJSON or a getter of a value that is being encoded`);
  }

  /**
   * Encodes a value and lists the blocks that the message with its table must
   * publish. On failure nothing is left of it.
   * @param {boolean} [withView] see toTable
   * @returns {{table: import('./frames.js').Table, blocks: import('./arena.js').Block[], view: unknown}}
   */
  publish(value, withView) {
    return this.#publish((parts) => toTable(value, parts), withView);
  }

  /** The same for the input as it came, with new values for the keys of head. */
  publishInput(head) {
    return this.#publish((parts) => forwardTable(this.input.table, head, parts));
  }

  /** The table of a value, whose blocks are not published. */
  encode(value, withView) {
    return this.#encode((parts) => toTable(value, parts), withView);
  }

  #publish(make, withView) {
    const { table, view, encoded } = this.#encode(make, withView);
    this.encoded += encoded;
    return { table, view, blocks: this.#host.arena.publish() };
  }

  #encode(make, withView) {
    const { arena, segments, dropKeys } = this.#host;
    this.#isEncoding = true;
    try {
      return make({ input: this.input, arena, segments, dropKeys, withView });
    } catch (error) {
      arena.abort();
      throw error;
    } finally {
      this.#isEncoding = false;
    }
  }

  /** Frees blocks of a message that could not be sent. */
  unpublish(blocks) {
    this.#host.arena.release(blocks);
  }

  /** Aborted when somebody wants it to stop. */
  get signal() {
    if (!this.#abort) {
      this.#abort = new AbortController();
      if (this.#reason) this.#abort.abort(this.#reason);
    }
    return this.#abort.signal;
  }

  get isCancelled() {
    return this.#reason !== null;
  }

  /** Somebody wants it to stop. */
  cancel(reason) {
    this.#reason = new Error(reason || 'cancelled');
    this.#abort?.abort(this.#reason);
    const error = this.cancelled();
    this.calls.cancelAll(error);
    for (const end of this.#enders) end(error);
  }

  /** Calls end with the error when the step is cancelled. */
  onCancel(end) {
    this.#enders.push(end);
  }

  /** No more is wanted of the streams that are still being read. */
  endStreams() {
    for (const stream of [...this.reading]) stream.finish();
  }

  cancelled() {
    return new StepError('cancel', 'CancelError', this.#reason?.message ?? 'cancelled');
  }

  close() {
    this.calls.close();
    for (const stream of [...this.reading]) stream.drop();
    this.scope.closeAll();
  }
}
