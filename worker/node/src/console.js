/**
 * `console` for jobs and adaptors: each call is one log message with a level
 * and its arguments as JSON.
 * @module
 */
import { inspect } from 'node:util';
import { isError, jsonSafe } from './errors.js';

/** A longer message is replaced by a note of its size. */
const MAX_MESSAGE = 1 << 20;

const LEVELS = { log: 'info', info: 'info', debug: 'debug', trace: 'debug', warn: 'warn', error: 'error', success: 'success', always: 'info' };

/** The JSON text of a call's arguments: an array. */
export function argumentsText(args) {
  let text;
  try {
    text = JSON.stringify(args.map(readable));
  } catch {
    text = JSON.stringify(args.map((arg) => jsonSafe(arg)));
  }
  if (text.length > MAX_MESSAGE) {
    text = JSON.stringify([`(a log message of ${text.length} characters is over the limit of ${MAX_MESSAGE} and was left out)`]);
  }
  return text;
}

function readable(arg) {
  switch (typeof arg) {
    case 'undefined':
      return 'undefined';
    case 'bigint':
    case 'symbol':
      return String(arg);
    case 'function':
      return `[Function${arg.name ? `: ${arg.name}` : ''}]`;
  }
  if (arg !== null && typeof arg === 'object') {
    if (isError(arg)) return jsonSafe(arg);
    if (arg instanceof Map || arg instanceof Set) return inspect(arg);
  }
  return arg;
}

/**
 * @param {(level: string, message: string) => void} write gets the arguments' JSON text
 * @returns {Console}
 */
export function makeConsole(write) {
  const result = {};
  for (const [method, level] of Object.entries(LEVELS)) result[method] = (...args) => write(level, argumentsText(args));
  result.assert = (ok, ...args) => ok || result.error('Assertion failed', ...args);
  result.dir = (value) => result.log(value);
  result.table = (value) => result.log(value);
  const timers = new Map();
  result.time = (label = 'default') => void timers.set(label, performance.now());
  result.timeEnd = (label = 'default') => {
    if (timers.has(label)) result.log(`${label}: ${(performance.now() - timers.get(label)).toFixed(3)}ms`);
    timers.delete(label);
  };
  result.timeLog = (label = 'default', ...args) => {
    if (timers.has(label)) result.log(`${label}: ${(performance.now() - timers.get(label)).toFixed(3)}ms`, ...args);
  };
  const counts = new Map();
  result.count = (label = 'default') => {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    result.log(`${label}: ${counts.get(label)}`);
  };
  result.countReset = (label = 'default') => void counts.delete(label);
  result.group = result.groupCollapsed = (...args) => args.length && result.log(...args);
  result.groupEnd = result.break = () => {};
  return result;
}
