/**
 * OpenFn job expressions: prepared once, run many times.
 * @module
 */
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import vm from 'node:vm';
import { TraceMap, originalPositionFor } from '@jridgewell/trace-mapping';
import { load } from './adaptors.js';
import { CompileError, compileScript } from './compile.js';
import { Globals } from './globals.js';
import { forwardOf } from './forward.js';
import { StepError, classify, describe, jsonSafe, validationError } from './errors.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
/** Starts the file name of every job in a stack. */
const SCHEME = 'job:';
const NO_STATE = Symbol('no state');

/**
 * A step's code: compiled, linked, in a context of its own.
 */
export class Job {
  #name;
  #source;
  #map;
  #operations;
  #factory;
  #modules = new Map();
  #timers;
  #context;
  /** @type {Globals | null} */
  #globals = null;

  /**
   * Compiles a job and loads what it imports.
   * @param {{source: string, path?: string, adaptors?: {name: string, version?: string, path?: string}[], repo_dir?: string, globals?: string}} spec
   * @param {{console: Console}} host
   */
  static async prepare(spec, { console }) {
    const job = new Job();
    job.#name = spec.path || 'expression.js';
    job.#source = spec.source;
    const where = { adaptors: spec.adaptors ?? [], repoDir: spec.repo_dir ?? '' };
    const adaptors = [];
    for (const { name } of where.adaptors) {
      const exports = await load(name, where);
      job.#modules.set(name, exports);
      adaptors.push({ name, exports: Object.keys(exports) });
    }
    if (spec.globals?.trim()) job.#globals = await Globals.prepare(spec.globals, where);
    const script = job.#compile(adaptors);
    for (const specifier of script.imports) {
      if (!job.#modules.has(specifier)) job.#modules.set(specifier, await load(specifier, where));
    }
    const { context, timers } = takeContext(console);
    job.#timers = timers;
    job.#context = context;
    job.#globals?.link(context);
    job.#factory = new vm.Script(script.code, { filename: SCHEME + job.#name }).runInContext(context);
    return job;
  }

  /** Runs a job once, so that the first real one finds everything loaded. */
  static async warmUp() {
    const job = await Job.prepare({ source: 'const op = (x) => (state) => state;\nop($.data).then((state) => state);\nop(1);', path: 'warm-up.js' }, { console });
    await job.run({}, { warn() {} });
  }

  #compile(adaptors) {
    try {
      const script = compileScript(this.#source, { name: this.#name, adaptors, ignore: this.#globals?.names });
      this.#map = new TraceMap(script.map);
      this.#operations = script.operations;
      return script;
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      const { line, column } = error.position;
      throw new StepError('crash', 'SyntaxError', `${this.#name}: ${error.message}`, {
        subtype: 'SyntaxError',
        pos: { line, column, src: this.#line(line) },
        fix: error.fix,
      });
    }
  }

  #line(number) {
    return this.#source.split('\n')[number - 1];
  }

  /**
   * Runs the operations one after another on the state.
   * @param {any} state
   * @param {{warn: (message: string) => void}} log
   * @param {import('./flow.js').Flow} [flow] what the job may use other steps with
   * @returns {Promise<any>} the last operation's state; undefined when it returned none
   * @throws {StepError}
   */
  async run(state, log, flow) {
    try {
      // Globals of the realm: an adaptor's exports, and what the job or its
      // workflow's globals define, go before them.
      if (flow) Object.assign(this.#context, flow, { millrace: flow });
      await this.#globals?.define(this.#context);
      const exports = await this.#factory((specifier) => this.#modules.get(specifier), state);
      const { default: operations, execute = inOrder } = exports;
      if (!Array.isArray(operations)) throw validationError('Invalid exports in job expression: exports must be an array');
      operations.forEach((operation, i) => {
        if (typeof operation !== 'function') {
          throw validationError(`Invalid operation at statement ${i}`, {
            pos: this.#operations[i] && { line: this.#operations[i].line },
            fix: 'Ensure all top-level function or method calls are wrapped in an operation, like fn()',
          });
        }
      });
      const result = await execute(...operations.map((operation, i) => this.#wrap(operation, i, log)))(state);
      return isNoState(result) ? undefined : result;
    } catch (error) {
      throw classify(error, this.#locate(error));
    } finally {
      const left = this.#timers.clear();
      if (left > 0) log.warn(`The step left ${left} timer${left > 1 ? 's' : ''} behind; ${left > 1 ? 'they were' : 'it was'} stopped`);
    }
  }

  #wrap(operation, index, log) {
    return async (state) => {
      if (forwardOf(state)) return state;
      if (isNoState(state)) {
        delete state[NO_STATE];
        log.warn(`WARNING: No state was passed into operation ${index + 1}. Did the previous operation return state?`);
      }
      try {
        const result = await operation(state);
        if (typeof result === 'function' && forwardOf(result)) return result();
        return result || { [NO_STATE]: true };
      } catch (error) {
        throw this.#adaptorError(error, index) ?? error;
      }
    };
  }

  /** An error that comes from an adaptor's code, not from the job's, is the adaptor's. */
  #adaptorError(error, index) {
    if (error instanceof StepError || typeof error?.stack !== 'string') return null;
    const frames = error.stack.split('\n').slice(1);
    const first = frames.find((frame) => isJobFrame(frame) || isModuleFrame(frame) || frame.includes(HERE));
    if (!first || !isModuleFrame(first)) return null;
    const operation = frames.some(isJobFrame) ? undefined : this.#operations[index];
    return new StepError('fail', 'AdaptorError', describe(error), {
      ...this.#locate(error),
      operation,
      details: { message: error.message, ...jsonSafe({ ...error }) },
    });
  }

  /** Where in the user's source an error comes from, and its stack with the user's positions. */
  #locate(error) {
    if (error instanceof StepError) return {};
    const stack = typeof error?.stack === 'string' ? error.stack.split('\n') : [];
    let pos;
    const frames = [];
    for (const frame of stack) {
      const match = /job:(.*?):(\d+):(\d+)/.exec(frame);
      if (match) {
        const original = originalPositionFor(this.#map, { line: Number(match[2]), column: Number(match[3]) - 1 });
        if (original.line === null) continue;
        const { line, column } = original;
        pos ??= { line, column: column + 1, src: this.#line(line) };
        frames.push(frame.replace(match[0], `${this.#name}:${line}:${column + 1}`));
      } else if (!frame.includes(HERE) && !frame.includes('node:internal')) {
        frames.push(frame);
      }
    }
    return { pos, stack: frames.length > 0 ? frames.join('\n') : undefined };
  }
}

const isJobFrame = (frame) => frame.includes(SCHEME);
const isModuleFrame = (frame) => !frame.includes(HERE) && /(@openfn\/language-)|(packages\/.+\/dist)|(node_modules)/.test(frame);
const isNoState = (state) => state !== null && typeof state === 'object' && state[NO_STATE] === true;

/** What runs operations when no adaptor brings its own `execute`. */
const inOrder =
  (...operations) =>
  (state) =>
    operations.reduce((before, operation) => before.then(operation), Promise.resolve(state));

/** The timers of one job, so that none outlives its step. */
class Timers {
  #live = new Set();
  setTimeout = (fn, ms, ...args) => {
    const timer = setTimeout(() => {
      this.#live.delete(timer);
      fn(...args);
    }, ms);
    this.#live.add(timer);
    return timer;
  };
  setInterval = (fn, ms, ...args) => {
    const timer = setInterval(fn, ms, ...args);
    this.#live.add(timer);
    return timer;
  };
  clearTimeout = (timer) => {
    this.#live.delete(timer);
    clearTimeout(timer);
  };
  clearInterval = this.clearTimeout;

  /** Stops what is left; returns how many. */
  clear() {
    const n = this.#live.size;
    for (const timer of this.#live) clearTimeout(timer);
    this.#live.clear();
    return n;
  }
}

/** Buffer without its constructor. */
class SafeBuffer extends Buffer {
  constructor() {
    throw new Error('Do not call Buffer() constructor directly. Use Buffer.from() instead.');
  }
}

/**
 * The realm that a job sees: the language, and these globals. Making one takes
 * about as long as all the rest of a small job, so the next one is made ahead,
 * when there is nothing else to do.
 * @type {{context: object, timers: Timers} | null}
 */
let spare = null;

function takeContext(console) {
  const taken = spare ?? makeContext();
  spare = null;
  setImmediate(() => (spare ??= makeContext()));
  taken.context.console = Object.freeze(console);
  return taken;
}

function makeContext() {
  const timers = new Timers();
  const globals = { console: null, parseFloat, parseInt, Buffer: SafeBuffer };
  for (const name of ['setTimeout', 'setInterval', 'clearTimeout', 'clearInterval']) globals[name] = Object.freeze(timers[name]);
  Object.freeze(SafeBuffer);
  return { timers, context: vm.createContext(globals, { codeGeneration: { strings: false, wasm: false } }) };
}
