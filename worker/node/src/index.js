/**
 * `@millrace/worker`: JavaScript steps for millrace. A worker program
 * registers functions and calls main:
 *
 *     import { main } from '@millrace/worker';
 *     main({ double: async (state) => ({ ...state, n: state.n * 2 }) });
 *
 * @module
 */
export { main } from './executor.js';
export { CallError, StepError } from './errors.js';
export { forward } from './forward.js';
export { append, concat } from './rope.js';
export { json, raw } from './values.js';
