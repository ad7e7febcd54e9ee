/**
 * Where in a result a value is that cannot be encoded. Looked for only after
 * JSON.stringify has refused, so the common case pays nothing.
 * @module
 */
import { StepError, classOf, describe } from './errors.js';

const member = (path, key) => (/^[A-Za-z_$][\w$]*$/.test(key) ? `${path}.${key}` : `${path}[${/^\d+$/.test(key) ? key : JSON.stringify(key)}]`);

/**
 * Turns an error from encoding state[key] into one that names the path.
 * @returns {StepError}
 */
export function explain(error, value, key) {
  const root = key === '' ? 'state' : member('state', key);
  const found = find(value, root);
  if (found) return new StepError('fail', 'RuntimeError', `TypeError: ${found.message}`, { subtype: 'TypeError', path: found.path });
  if (classOf(error) === 'RangeError' && /string length|call stack/i.test(describe(error))) {
    const why = /stack/i.test(describe(error)) ? 'is nested too deep' : "has a text longer than JavaScript's engine can hold (536870888 characters)";
    return new StepError('fail', 'RuntimeError', `RangeError: ${root} ${why}`, { subtype: 'RangeError', path: root });
  }
  const subtype = classOf(error) || 'Error';
  return new StepError('fail', 'RuntimeError', `${subtype}: ${root} cannot be encoded: ${describe(error)}`, { subtype, path: root });
}

/** The first cycle or BigInt, depth first as JSON.stringify goes. */
function find(root, rootPath) {
  /** @type {Map<object, string>} */
  const above = new Map();
  const done = new Set();
  const visit = (value, path, key) => {
    if (value !== null && typeof value === 'object') {
      if (above.has(value)) return { path, message: `${path} is circular: it refers back to ${above.get(value)}` };
      if (typeof value.toJSON === 'function') {
        try {
          value = value.toJSON(key);
        } catch (error) {
          return { path, message: `${path}: its toJSON failed: ${describe(error)}` };
        }
      }
    }
    if (typeof value === 'bigint') return { path, message: `${path} is a BigInt, which JSON has no form for: convert it to a string or a number` };
    if (value === null || typeof value !== 'object' || done.has(value)) return null;
    if (above.size > 2000) return null;
    above.set(value, path);
    for (const name of Object.keys(value)) {
      let item;
      try {
        item = value[name];
      } catch (error) {
        return { path: member(path, name), message: `${member(path, name)} cannot be read: ${describe(error)}` };
      }
      const found = visit(item, member(path, name), name);
      if (found) return found;
    }
    above.delete(value);
    done.add(value);
    return null;
  };
  return visit(root, rootPath, '');
}
