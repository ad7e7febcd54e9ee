/**
 * A workflow's globals: a module whose exports every expression of the workflow
 * sees as global names. As in OpenFn's runtime the module is evaluated anew for
 * each execution, what it exports is frozen, goes before an adaptor's export of
 * the same name, and never before a job's own `console`, `Buffer` and timers.
 * @module
 */
import vm from 'node:vm';
import { load } from './adaptors.js';
import { CompileError, compileModule } from './compile.js';
import { StepError, describe } from './errors.js';

const NAME = 'globals';

/** The globals of one workflow, made ready for one job's realm. */
export class Globals {
  #script;
  #modules = new Map();
  #factory = null;
  /** The host's own names in the realm. */
  #reserved = new Set(['state', 'default']);
  /** The names that the module exports. */
  names;

  /**
   * Compiles the module and loads what it imports.
   * @param {string} source
   * @param {{adaptors: object[], repoDir: string}} where
   */
  static async prepare(source, where) {
    const globals = new Globals();
    globals.#script = compiled(source);
    const { imports, exports } = globals.#script;
    const names = new Set(exports);
    for (const specifier of imports) {
      const module = await load(specifier, where);
      globals.#modules.set(specifier, module);
      if (source.includes('*')) for (const name of Object.keys(module)) names.add(name);
    }
    globals.names = [...names];
    return globals;
  }

  /** Binds the module to the realm in which it is going to run. */
  link(context) {
    for (const name of Object.keys(context)) this.#reserved.add(name);
    this.#factory = new vm.Script(this.#script.code, { filename: NAME }).runInContext(context);
  }

  /** Evaluates the module and sets what it exports as the realm's globals. */
  async define(context) {
    let exports;
    try {
      exports = await this.#factory((specifier) => this.#modules.get(specifier), {});
    } catch (error) {
      throw prefixed(error);
    }
    for (const [name, value] of Object.entries(exports)) {
      if (!this.#reserved.has(name)) context[name] = Object.freeze(value);
    }
  }
}

function compiled(source) {
  try {
    return compileModule(source, { name: NAME });
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    const { line, column } = error.position;
    throw new StepError('crash', 'SyntaxError', `[globals] ${error.message}`, { subtype: 'SyntaxError', pos: { line, column, src: source.split('\n')[line - 1] } });
  }
}

/** As the reference: the message says where the error comes from. */
function prefixed(error) {
  try {
    error.message = `[globals] ${error.message}`;
    return error;
  } catch {
    return new Error(`[globals] ${describe(error)}`);
  }
}
