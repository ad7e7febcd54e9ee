/**
 * From what a step returned to a table. Cleaning happens here, at the top
 * level, without stringifying: what was never touched is passed on by
 * reference. README.md has the table of what happens to which value.
 * @module
 */
import { Kind, NO_TABLE } from './frames.js';
import { Encoder } from './encode.js';
import { StepError } from './errors.js';
import { encodingOf, originOf, originOfText, put, untouched } from './lazy.js';
import { Encoded, hasJSONForm, isBoxed, isItemSource, isStream, STREAM_TEXT } from './values.js';

/**
 * @param {unknown} result
 * @param {object} parts
 * @param {import('./lazy.js').Input} parts.input
 * @param {import('./arena.js').Arena} parts.arena
 * @param {import('./segments.js').Segments} parts.segments
 * @param {Set<string>} parts.dropKeys
 * @param {boolean} [parts.withView] give the cleaned result too, for conditions
 * @returns {{table: import('./frames.js').Table, encoded: number, view: unknown}}
 */
export function toTable(result, { input, arena, segments, dropKeys, withView = false }) {
  const encoder = new Encoder({ arena, segments });
  const value = unwrap(result);
  if (value === undefined || value === null) return { table: NO_TABLE, encoded: 0, view: undefined };
  if (typeof value !== 'object' || Array.isArray(value) || isBoxed(value)) {
    const origin = input.byKey.get('');
    const spans = origin?.decoded && origin.value === value && typeof value !== 'object' ? origin.row.spans : encoder.encode('', value);
    return { table: { kind: Kind.VALUE, rows: [{ key: '', spans }] }, encoded: encoder.encoded, view: value };
  }
  const rows = [];
  const view = withView ? {} : undefined;
  for (const key of Object.keys(value)) {
    if (key.startsWith('_') || dropKeys.has(key)) continue;
    const spans = rowOf(encoder, input, value, key, view);
    if (spans) rows.push({ key, spans });
  }
  return { table: { kind: Kind.OBJECT, rows }, encoded: encoder.encoded, view };
}

/**
 * The table of an input that goes on unread, with new values for some keys.
 * @param {import('./frames.js').Table} input
 * @param {object} head undefined leaves a key out
 * @param {object} parts see toTable
 */
export function forwardTable(input, head, parts) {
  for (const { key, value, form } of parts.input.byKey.values()) {
    if (form !== 'stream' || Object.hasOwn(head, key)) continue;
    // What has been read of it cannot go on.
    if (value.isRead) head = { ...head, [key]: undefined };
    else value.pass();
  }
  const set = toTable(head, parts);
  if (input.kind !== Kind.OBJECT) {
    if (input.kind === Kind.VALUE && Object.keys(head).length === 0) return { ...set, table: input };
    if (input.kind === Kind.VALUE) throw new StepError('fail', 'RuntimeError', 'forward: the input is no object, so no keys can be set in it');
    return set;
  }
  const rows = input.rows.filter(({ key }) => !key.startsWith('_') && !parts.dropKeys.has(key) && !Object.hasOwn(head, key));
  return { ...set, table: { kind: Kind.OBJECT, rows: [...rows, ...set.table.rows] } };
}

function unwrap(result) {
  if (typeof result === 'function' || typeof result === 'symbol') return undefined;
  if (result !== null && typeof result === 'object') {
    const origin = originOf(result);
    if (origin?.form === 'lazy' && !origin.decoded && Array.isArray(result)) return result;
    if (typeof result.toJSON === 'function') return result.toJSON('');
    // A stand-in returned as the state itself has its own keys for rows.
    if (origin?.form === 'lazy' && !Array.isArray(result)) {
      Object.keys(result);
      return origin.value;
    }
  }
  return result;
}

/** One row's spans, or null when the key is dropped. Enters the value in view, if there is one. */
function rowOf(encoder, input, state, key, view) {
  const origin = untouched(state, key);
  if (origin) {
    if (view) Object.defineProperty(view, key, Object.getOwnPropertyDescriptor(state, key));
    return origin.row.spans;
  }
  let value = state[key];
  const from = originOf(value);
  // Asking a stand-in what it is an instance of would decode it.
  if (!from && value instanceof Encoded) return encoder.raw(value);
  // Bytes of a result that was forgotten stay what they are.
  const encoding = from ? undefined : encodingOf(value);
  if (encoding) return encoder.raw(new Encoded(value, encoding));
  if (from?.form === 'stream') {
    if (value.isRead) return null;
    if (view) put(view, key, STREAM_TEXT);
    if (value.isPassedOn) return encoder.encode(key, STREAM_TEXT); // under another key
    value.pass();
    return from.row.spans;
  }
  switch (typeof value) {
    case 'undefined':
    case 'function':
    case 'symbol':
      return null;
    case 'object':
      if (value === null || from) break;
      if (typeof value.toJSON === 'function') break;
      if (isStream(value) || isItemSource(value)) value = STREAM_TEXT;
      else if (!hasJSONForm(value)) return null;
  }
  if (view) put(view, key, value);
  return sameAsInput(input, key, value) ?? encoder.encode(key, value);
}

/** The spans of a row that has exactly this primitive. */
function sameAsInput(input, key, value) {
  if (value !== null && typeof value === 'object') return null;
  const origin = input.byKey.get(key);
  if (origin?.decoded && Object.is(origin.value, value)) return origin.row.spans;
  return typeof value === 'string' && value.length >= 1024 ? (originOfText(value)?.row.spans ?? null) : null;
}
