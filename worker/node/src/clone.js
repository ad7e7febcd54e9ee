/**
 * `structuredClone` refuses every Proxy, and so would refuse a state's
 * stand-ins. This one hands it what they stand for.
 * @module
 */
import { isStandIn, standsFor } from './lazy.js';
import { isPlain } from './values.js';

/** Replaces the global structuredClone. Values without stand-ins go straight to the original. */
export function installStructuredClone() {
  const native = globalThis.structuredClone;
  globalThis.structuredClone = function structuredClone(value, options) {
    try {
      return native(value, options);
    } catch (error) {
      if (error?.name !== 'DataCloneError') throw error;
      const plain = withoutStandIns(value);
      if (plain === value) throw error;
      return native(plain, options);
    }
  };
}

/** The value with its stand-ins replaced; only containers on the way to one are copied. */
export function withoutStandIns(root) {
  const seen = new Map();
  const has = new Map();
  const holds = (value) => {
    if (value === null || typeof value !== 'object') return false;
    if (isStandIn(value)) return true;
    if (has.has(value)) return has.get(value);
    has.set(value, false);
    if (!Array.isArray(value) && !isPlain(value)) return false;
    let found = false;
    for (const key of Object.keys(value)) if (holds(value[key])) found = true;
    has.set(value, found);
    return found;
  };
  const copy = (value) => {
    if (value === null || typeof value !== 'object' || seen.has(value)) return seen.get(value) ?? value;
    if (isStandIn(value)) {
      const target = standsFor(value);
      const result = copy(target);
      seen.set(value, result);
      return result;
    }
    if (!holds(value)) return value;
    const result = Array.isArray(value) ? new Array(value.length) : {};
    seen.set(value, result);
    for (const key of Object.keys(value)) {
      Object.defineProperty(result, key, { value: copy(value[key]), enumerable: true, configurable: true, writable: true });
    }
    return result;
  };
  return copy(root);
}
