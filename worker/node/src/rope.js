/**
 * Arrays put together from other arrays without reading them: aggregating a
 * thousand pages costs their references.
 *
 * A rope is a stand-in like any other, and decodes when somebody looks into it.
 * Until then its row is the rows of its pieces, without their brackets, and
 * commas between them from a block that all share. What lies between the
 * brackets is passed on as it is.
 * @module
 */
import { keep, originOf, standIn } from './lazy.js';

/** The pieces of one array, in order. */
export class Rope {
  /** @type {unknown[][]} arrays, and stand-ins for arrays */
  pieces = [];

  /** @param {unknown[]} piece */
  push(piece) {
    keep(piece);
    this.pieces.push(piece);
  }

  /** Every item, decoded. */
  items() {
    const items = [];
    for (const piece of this.pieces) for (const item of piece) items.push(item);
    return items;
  }
}

/**
 * An array of the pieces' items, in order.
 * @param {...unknown[]} pieces arrays: of a state, of a call's result, or any other
 * @returns {unknown[]}
 */
export function concat(...pieces) {
  const rope = new Rope();
  pieces.forEach((piece, i) => {
    if (!Array.isArray(piece)) throw new TypeError(`concat: piece ${i} is no array`);
    rope.push(piece);
  });
  // It has no row of its own that could be closed; its pieces have.
  return standIn({ input: { isOpen: true, lazies: [] }, row: { key: '', spans: [] }, size: 0, decoded: false, rope }, []);
}

/**
 * Adds an array's items to the array target[key], without reading either.
 * @param {object} target
 * @param {string} key of the array; it is made if it is not there
 * @param {unknown[]} piece
 * @returns {unknown[]} target[key]
 */
export function append(target, key, piece) {
  if (target === null || typeof target !== 'object') throw new TypeError('append: the target is no object');
  if (!Array.isArray(piece)) throw new TypeError(`append to ${key}: the piece is no array`);
  const before = target[key];
  if (before !== undefined && before !== null && !Array.isArray(before)) throw new TypeError(`append: ${key} is there and is no array`);
  const origin = before ? originOf(before) : undefined;
  if (origin?.rope && !origin.decoded) origin.rope.push(piece);
  else target[key] = before ? concat(before, piece) : concat(piece);
  return target[key];
}
