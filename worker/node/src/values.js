/**
 * What kinds of value there are, across realms: a job's objects come from
 * another realm's `Object` and are no instances of this one's.
 * @module
 */

import { Encoding } from './frames.js';

/** What a stream is shown as outside. */
export const STREAM_TEXT = '[stream]';

/** An object literal, of whichever realm. */
export function isPlain(value) {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** A stream of Node.js or of the web. */
export function isStream(value) {
  if (Array.isArray(value) || isPlain(value)) return false;
  return typeof value.pipe === 'function' || typeof value.pipeTo === 'function' || typeof value.getWriter === 'function';
}

/**
 * An object that produces items: an async iterable, an iterator such as a
 * generator's, or a Node.js stream of objects. One of bytes is none, nor are
 * the language's own collections.
 */
export function isItemSource(value) {
  if (Array.isArray(value)) return false;
  if (typeof value[Symbol.asyncIterator] === 'function') return value.readableObjectMode === true || !isStream(value);
  return typeof value[Symbol.iterator] === 'function' && typeof value.next === 'function';
}

/** A value whose bytes in a row are there already. */
export class Encoded {
  /**
   * @param {Uint8Array} bytes
   * @param {number} [encoding] JSON text if it is not said
   */
  constructor(bytes, encoding = 1) {
    this.bytes = bytes;
    this.encoding = encoding;
  }
}

/**
 * Bytes as the value of a top-level key, of a state or of an argument: a row of
 * raw bytes, where a Buffer would be written as JSON.stringify writes it.
 * @param {Uint8Array} bytes
 */
export function raw(bytes) {
  if (!(bytes instanceof Uint8Array)) throw new TypeError('raw: the bytes must be a Uint8Array, such as a Buffer');
  return new Encoded(bytes, Encoding.RAW);
}

/**
 * JSON text as the value of a top-level key, or as a page of each: it is passed
 * on as it is, and not checked. Who reads it, or what leaves the host, fails if
 * it is none.
 * @param {string | Uint8Array} text not empty
 */
export function json(text) {
  const bytes = typeof text === 'string' ? utf8.encode(text) : text;
  if (!(bytes instanceof Uint8Array) || bytes.length === 0) throw new TypeError('json: the text must be a string or a Uint8Array that is not empty');
  return new Encoded(bytes);
}

const utf8 = new TextEncoder();

const BOXED = new Set(['[object Number]', '[object String]', '[object Boolean]', '[object BigInt]']);

/** A number, text or boolean in an object: JSON.stringify takes it for what it boxes. */
export const isBoxed = (value) => !isPlain(value) && BOXED.has(Object.prototype.toString.call(value));

/**
 * Whether an object has a JSON form worth passing on: not so a Map, a Set, a
 * Promise, an Error without members, or an instance with private state only.
 * JSON.stringify writes `{}` for them.
 */
export function hasJSONForm(value) {
  if (Array.isArray(value) || isPlain(value) || isBoxed(value) || ArrayBuffer.isView(value)) return true;
  for (const key in value) if (Object.hasOwn(value, key)) return true;
  return false;
}
