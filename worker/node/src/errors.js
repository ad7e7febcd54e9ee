/**
 * How a step fails: OpenFn's error names and severities.
 *
 * - fail: the step; recorded under `state.errors`, the run goes on
 * - crash: the run; the user's code is at fault
 * - kill: the run; a limit was passed
 * - exception: the run; the platform is at fault
 * - cancel: the run; somebody asked for it
 * @module
 */

/** A failure whose name and severity are settled. */
export class StepError extends Error {
  /**
   * @param {'fail'|'crash'|'kill'|'exception'|'cancel'} severity
   * @param {string} name
   * @param {string} message
   * @param {Record<string, unknown>} [details] JSON-safe
   */
  constructor(severity, name, message, details = {}) {
    super(message);
    this.severity = severity;
    this.name = name;
    this.details = details;
  }
}

export const importError = (message, details) => new StepError('crash', 'ImportError', message, details);
export const validationError = (message, details) => new StepError('crash', 'ValidationError', message, details);

/** What anything thrown says about itself, without trusting it. */
export function describe(thrown) {
  try {
    if (typeof thrown === 'string') return thrown;
    if (thrown !== null && typeof thrown === 'object' && 'message' in thrown && thrown.message) return String(thrown.message);
    return String(thrown);
  } catch {
    return 'an error that cannot be shown';
  }
}

/** The class's name of anything thrown: errors of other realms are no instances of ours. */
export function classOf(thrown) {
  try {
    return (thrown !== null && typeof thrown === 'object' && thrown.constructor?.name) || '';
  } catch {
    return '';
  }
}

/**
 * Gives what a step's code threw its name and severity.
 * @param {unknown} thrown
 * @param {Record<string, unknown>} details what is known besides: position, stack, operation
 * @returns {StepError}
 */
export function classify(thrown, details = {}) {
  if (thrown instanceof StepError) {
    Object.assign(thrown.details, { ...details, ...thrown.details });
    return thrown;
  }
  const message = describe(thrown);
  const subtype = classOf(thrown);
  const more = { ...details, subtype: subtype || undefined, code: safeCode(thrown) };
  if (thrown?.name === 'AdaptorError') return new StepError('fail', 'AdaptorError', message, { ...more, details: jsonSafe(thrown) });
  if (/^(TypeError|RangeError)$/.test(subtype)) return new StepError('fail', 'RuntimeError', `${subtype}: ${message}`, more);
  if (/^(ReferenceError|SyntaxError)$/.test(subtype)) return new StepError('crash', subtype, `${subtype}: ${message}`, more);
  if (subtype === 'EvalError') return new StepError('kill', 'SecurityError', 'Illegal eval statement detected', more);
  return new StepError('fail', 'JobError', message, more);
}

function safeCode(thrown) {
  try {
    const code = thrown?.code;
    return typeof code === 'string' || typeof code === 'number' ? code : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A copy of any value that JSON.stringify takes: cycles become "[Circular]",
 * BigInts their digits, functions and symbols their description; a member that
 * throws is told so. Deep or wide values are cut.
 */
export function jsonSafe(value, { depth = 12, width = 10_000 } = {}) {
  const above = [];
  const copy = (v, level) => {
    switch (typeof v) {
      case 'bigint':
        return v.toString();
      case 'function':
        return `[Function${v.name ? `: ${v.name}` : ''}]`;
      case 'symbol':
        return v.toString();
      case 'object':
        break;
      default:
        return v;
    }
    if (v === null) return null;
    if (above.includes(v)) return '[Circular]';
    if (level >= depth) return Array.isArray(v) ? '[Array]' : '[Object]';
    if (typeof v.toJSON === 'function') {
      const json = v.toJSON();
      if (json === null || typeof json !== 'object') return copy(json, level);
      v = json;
    }
    above.push(v);
    try {
      if (Array.isArray(v)) return v.slice(0, width).map((item) => copy(item, level + 1));
      const result = {};
      if (isError(v)) {
        result.name = v.name;
        result.message = v.message;
      }
      for (const key of Object.keys(v).slice(0, width)) {
        const item = copy(v[key], level + 1);
        Object.defineProperty(result, key, { value: item, enumerable: true, configurable: true, writable: true });
      }
      return result;
    } catch (error) {
      return `[${describe(error)}]`;
    } finally {
      above.pop();
    }
  };
  return copy(value, 0);
}

export const isError = (v) => v instanceof Error || Object.prototype.toString.call(v) === '[object Error]';

/**
 * What a step that was called failed with. A caller that does not catch it
 * fails in the same way.
 */
export class CallError extends StepError {
  /**
   * @param {string} step the step that was called
   * @param {{severity: string, name: string, message: string, details: string}} fail
   */
  constructor(step, { severity, name, message, details }) {
    super(severity || 'fail', name, message, parsed(details));
    /** The id of the step that was called. */
    this.step = step;
  }
}

function parsed(text) {
  try {
    const details = JSON.parse(text || '{}');
    return details !== null && typeof details === 'object' && !Array.isArray(details) ? details : {};
  } catch {
    return {};
  }
}
