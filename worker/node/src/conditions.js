/**
 * A step's outgoing conditions, evaluated where its result is live.
 *
 * A condition sees what the next step would: values of up to IN_PLACE bytes as
 * they read from their JSON, larger ones as the step left them (decoding 100 MB
 * to ask for a length would cost more than the step did).
 * @module
 */
import vm from 'node:vm';
import { Kind, sizeOf } from './frames.js';
import { Input } from './lazy.js';
import { describe } from './errors.js';

const IN_PLACE = 64 << 10;

const WORDS = {
  always: 'true',
  on_job_success: '!state?.errors?.[upstreamStepId]',
  on_job_failure: 'Boolean(state?.errors && state.errors[upstreamStepId])',
};
WORDS.on_upstream_success = WORDS.on_job_success;
WORDS.on_upstream_fail = WORDS.on_job_failure;

const context = vm.createContext({ console }, { codeGeneration: { strings: false, wasm: false } });
/** @type {Map<string, Function | Error>} */
const compiled = new Map();

function compile(condition) {
  let fn = compiled.get(condition);
  if (!fn) {
    try {
      fn = vm.compileFunction(`return (${WORDS[condition] ?? condition}\n)`, ['state', 'upstreamStepId'], { parsingContext: context, filename: 'condition' });
    } catch (error) {
      fn = new Error(describe(error));
    }
    compiled.set(condition, fn);
  }
  return fn;
}

/**
 * @param {string[]} conditions
 * @param {string} step the id of the step that has just run
 * @param {{table: import('./frames.js').Table, view: any}} result of toTable
 * @param {import('./segments.js').Segments} segments
 * @returns {{taken: boolean, error: string}[]}
 */
export function evaluate(conditions, step, { table, view }, segments) {
  if (conditions.length === 0) return [];
  const rows = table.kind === Kind.OBJECT ? table.rows : [];
  const isInPlace = (row) => sizeOf(row.spans) > IN_PLACE;
  const input = new Input({ kind: Kind.OBJECT, rows: rows.filter((row) => !isInPlace(row)) }, segments);
  for (const row of rows) {
    if (isInPlace(row)) Object.defineProperty(input.state, row.key, Object.getOwnPropertyDescriptor(view, row.key));
  }
  const state = table.kind === Kind.OBJECT ? input.state : table.kind === Kind.VALUE ? view : undefined;
  try {
    return conditions.map((condition) => verdict(condition, state, step));
  } finally {
    input.close();
  }
}

function verdict(condition, state, step) {
  const fn = compile(condition);
  if (fn instanceof Error) return { taken: false, error: fn.message };
  try {
    return { taken: Boolean(fn(state, step)), error: '' };
  } catch (error) {
    return { taken: false, error: describe(error) || 'the condition threw' };
  }
}
