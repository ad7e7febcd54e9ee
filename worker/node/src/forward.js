/**
 * Handing a step's input on unread: what `return forward('archive', head)`
 * returns.
 * @module
 */
import { isStandIn } from './lazy.js';

const FORWARD = Symbol('millrace.forward');

/**
 * The step's input goes on to another step as it came, with new values for
 * some of its top-level keys; `undefined` leaves one out. To be returned from a
 * step. In a job it is an operation, and may be returned from one; operations
 * after it do not run.
 * @param {string} step the id of the step that goes on
 * @param {object} [head] keys to set
 */
export function forward(step, head = {}) {
  if (typeof step !== 'string' || step === '') throw new TypeError(`forward: the step's id must be a text, not ${typeof step}`);
  if (head === null || typeof head !== 'object' || Array.isArray(head)) throw new TypeError(`forward to ${step}: the head must be an object of keys to set`);
  const order = { step, head };
  const operation = () => ({ [FORWARD]: order });
  operation[FORWARD] = order;
  return Object.freeze(operation);
}

/**
 * What a step that returns this wants forwarded.
 * @returns {{step: string, head: object} | undefined}
 */
export function forwardOf(value) {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return undefined;
  return isStandIn(value) ? undefined : value[FORWARD];
}
