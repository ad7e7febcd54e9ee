/**
 * What a step's code gets to use other steps with.
 * @module
 */
import { each } from './each.js';
import { forward } from './forward.js';
import { append, concat } from './rope.js';

/**
 * @typedef {object} Flow
 * @property {(step: string, state?: unknown, options?: import('./calls.js').CallOptions) => Promise<any>} call runs another step and returns its state
 * @property {(pages: Iterable<unknown> | AsyncIterable<unknown>, step: string, options?: import('./each.js').EachOptions) => AsyncGenerator<import('./each.js').EachResult>} each runs another step for each page
 * @property {(state: object) => void} forget lets go of what call returned, before the step ends
 * @property {typeof forward} forward
 * @property {typeof append} append
 * @property {typeof concat} concat
 */

/**
 * @param {import('./execution.js').Execution} execution
 * @returns {Flow}
 */
export const flowOf = ({ calls }) =>
  Object.freeze({
    call: Object.freeze((step, state, options) => calls.call(step, state, options)),
    each: Object.freeze((pages, step, options) => each(calls, pages, step, options)),
    forget: Object.freeze((state) => calls.forget(state)),
    forward,
    append,
    concat,
  });

for (const fn of [forward, append, concat]) Object.freeze(fn);
