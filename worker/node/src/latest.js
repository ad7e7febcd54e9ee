/**
 * The last execute that was or is to be begun, which another one may have been sent ahead to follow: that one
 * is begun without a word from the supervisor, when nothing is left to be decided.
 * @module
 */
import { Kind, STREAM_FLAG } from './frames.js';

/**
 * @typedef {object} Leftover what a step leaves to the one that follows it
 * @property {string} [open] what keeps a step from following unasked
 * @property {import('./frames.js').Table} [table] its result
 * @property {bigint} [published] bytes, by its answer
 */

/** What a step leaves that was answered with a done. */
export function leftover({ table, blocks, verdicts }, open) {
  if (open) return { open };
  if (!verdicts.every(({ taken, error }) => taken && error === '')) return { open: 'its condition does not hold' };
  if (table.rows.some(({ spans }) => spans[0].flags & STREAM_FLAG)) return { open: 'there is a live stream in the state' };
  let published = 0n;
  for (const { length } of blocks) published += length;
  return { table, published };
}

export class Latest {
  #id = 0n;
  #isOver = false;
  #isCancelled = false;
  /** @type {Leftover} */
  #left = {};
  /** What was sent ahead: the one that follows, the one that follows that, … */
  #waiting = [];
  #hasValue;

  /** @param {(row: import('./frames.js').Row | undefined) => boolean} hasValue whether there is a row that needs no default */
  constructor(hasValue) {
    this.#hasValue = hasValue;
  }

  /** An execute is at work, or will be at once. */
  begin(id) {
    this.#id = id;
    this.#isOver = this.#isCancelled = false;
  }

  /**
   * An execute was sent ahead.
   * @returns {{now?: object, why?: string}} it, when it is to be executed now; why it never is; neither while the step before it is at work
   */
  follow(execute) {
    if (execute.message.after !== (this.#waiting.at(-1)?.id ?? this.#id)) return { why: 'it follows another than the last execute' };
    if (this.#isOver) return this.#ready(execute);
    this.#waiting.push(execute);
    return {};
  }

  /**
   * An execute is answered. The supervisor may have sent another one since, which
   * is the last one then.
   * @param {bigint} id
   * @param {Leftover} left
   * @returns {{now?: object, never?: object[], why?: string}} what was sent ahead: what is to be executed now, or what is never begun
   */
  end(id, left) {
    if (id !== this.#id) return {};
    this.#isOver = true;
    this.#left = left;
    const next = this.#waiting.shift();
    if (!next) return {};
    const { now, why } = this.#ready(next);
    return now ? { now } : { never: [next, ...this.#waiting.splice(0)], why };
  }

  /** An execute is cancelled: returns what was sent ahead and is not begun for that. */
  cancel(id) {
    if (id === this.#id) this.#isCancelled = true;
    const at = id === this.#id ? 0 : this.#waiting.findIndex((execute) => execute.id === id);
    return at < 0 ? [] : this.#waiting.splice(at);
  }

  /** Completes what an execute was sent without and begins it, if nothing keeps it from following. */
  #ready({ id, message, table: set }) {
    const { open, table, published } = this.#left;
    if (this.#isCancelled) return { why: 'the step before it was cancelled' };
    if (open) return { why: open };
    if (message.budget > 0n && message.budget <= published) return { why: 'the step before it has used its budget up' };
    const lacking = message.needs.find((key) => !this.#hasValue(table.rows.find((row) => row.key === key)));
    if (lacking !== undefined) return { why: `the state has no ${lacking}` };
    if (set.rows.length > 0 && table.kind === Kind.VALUE) return { why: 'the state has no keys' };
    this.begin(id);
    if (set.rows.length === 0) return { now: { id, message, table } };
    const rows = [...table.rows];
    for (const row of set.rows) {
      const at = rows.findIndex(({ key }) => key === row.key);
      if (at < 0) rows.push(row);
      else rows[at] = row;
    }
    return { now: { id, message, table: { kind: Kind.OBJECT, rows } } };
  }
}
