/**
 * From what a step returned to a table. Cleaning happens here, at the top
 * level, without stringifying: what was never touched is passed on by
 * reference. README.md has the table of what happens to which value.
 * @module
 */
import { Kind, NO_TABLE } from './frames.js';
import { Encoder } from './encode.js';
import { originOf } from './lazy.js';
import { hasJSONForm, isBoxed, isStream, STREAM_TEXT } from './values.js';

/**
 * @param {unknown} result
 * @param {object} parts
 * @param {import('./lazy.js').Input} parts.input
 * @param {import('./arena.js').Arena} parts.arena
 * @param {import('./segments.js').Segments} parts.segments
 * @param {Set<string>} parts.dropKeys
 * @returns {{table: import('./frames.js').Table, encoded: number, view: unknown}}
 *   view is the cleaned result, for conditions
 */
export function toTable(result, { input, arena, segments, dropKeys }) {
  const encoder = new Encoder({ input, arena, segments });
  const value = unwrap(result);
  if (value === undefined || value === null) return { table: NO_TABLE, encoded: 0, view: undefined };
  if (typeof value !== 'object' || Array.isArray(value) || isBoxed(value)) {
    const origin = input.byKey.get('');
    const spans = origin?.decoded && origin.value === value && typeof value !== 'object' ? origin.row.spans : encoder.encode('', value);
    return { table: { kind: Kind.VALUE, rows: [{ key: '', spans }] }, encoded: encoder.encoded, view: value };
  }
  const rows = [];
  const view = {};
  for (const key of Object.keys(value)) {
    if (key.startsWith('_') || dropKeys.has(key)) continue;
    const spans = rowOf(encoder, input, value, key, view);
    if (spans) rows.push({ key, spans });
  }
  return { table: { kind: Kind.OBJECT, rows }, encoded: encoder.encoded, view };
}

function unwrap(result) {
  if (typeof result === 'function' || typeof result === 'symbol') return undefined;
  if (result !== null && typeof result === 'object') {
    const origin = originOf(result);
    if (typeof result.toJSON === 'function') return result.toJSON('');
    // A stand-in returned as the state itself has its own keys for rows.
    if (origin?.form === 'lazy' && !Array.isArray(result)) {
      Object.keys(result);
      return origin.value;
    }
  }
  return result;
}

/** One row's spans, or null when the key is dropped. Enters the value in view. */
function rowOf(encoder, input, state, key, view) {
  const untouched = input.untouchedAccessor(state, key);
  if (untouched) {
    Object.defineProperty(view, key, Object.getOwnPropertyDescriptor(state, key));
    return untouched.row.spans;
  }
  let value = state[key];
  const enter = (v) => Object.defineProperty(view, key, { value: v, enumerable: true, configurable: true, writable: true });
  switch (typeof value) {
    case 'undefined':
    case 'function':
    case 'symbol':
      return null;
    case 'object':
      if (value === null || originOf(value)) break;
      if (typeof value.toJSON === 'function') break;
      if (isStream(value)) value = STREAM_TEXT;
      else if (!hasJSONForm(value)) return null;
  }
  enter(value);
  return sameAsInput(input, key, value) ?? encoder.encode(key, value);
}

/** The spans of an input row that has exactly this primitive or these bytes. */
function sameAsInput(input, key, value) {
  const origin = input.byKey.get(key);
  if (!origin?.decoded) return longText(input, value);
  if (origin.form === 'bytes') {
    return ArrayBuffer.isView(value) && value === origin.value && input.sameBytes(origin) ? origin.row.spans : null;
  }
  if (value === null || typeof value !== 'object') {
    return Object.is(origin.value, value) ? origin.row.spans : longText(input, value);
  }
  return null;
}

/** A long text of the input, under whichever key it is now. */
function longText(input, value) {
  if (typeof value !== 'string' || value.length < 1024) return null;
  for (const origin of input.byKey.values()) {
    if (origin.form === 'text' && origin.decoded && origin.value === value) return origin.row.spans;
  }
  return null;
}
