/**
 * Compiles OpenFn job expressions. In the order in which it happens:
 *
 * 1. `$.a.b` inside an operation becomes `state => state.a.b`;
 * 2. `op().then(f)` at the top becomes an operation that runs op and then f;
 * 3. calls at the top level become the default export, an array of operations
 *    (added to an array that is there already: the compiled form);
 * 4. what the code uses, does not declare and an adaptor exports is imported.
 *
 * `compile` returns a module for people and tools; `compileScript` the same as
 * the body of a function, which is what runs: evaluating modules in a context
 * of their own still needs an experimental flag of Node.js.
 * @module
 */
import { parse } from 'acorn';
import MagicString, { Bundle } from 'magic-string';
import { analyze, extract_names } from 'periscopic';

/**
 * @typedef {{name: string, exports: string[]}} AdaptorExports
 * @typedef {{name: string, line: number}} Operation
 */

/** The user's source is at fault. */
export class CompileError extends Error {
  name = 'SyntaxError';
  /**
   * @param {string} message
   * @param {{line: number, column: number}} position both from 1
   * @param {string} [fix]
   */
  constructor(message, position, fix) {
    super(`${message} (${position.line}:${position.column})`);
    this.position = position;
    this.fix = fix;
  }
}

const positionOf = (node) => ({ line: node.loc.start.line, column: node.loc.start.column + 1 });

function parseSource(source) {
  try {
    return parse(source, { sourceType: 'module', ecmaVersion: 'latest', allowHashBang: true, locations: true });
  } catch (error) {
    if (!error.loc) throw error;
    throw new CompileError(error.message.replace(/ \(\d+:\d+\)$/, ''), { line: error.loc.line, column: error.loc.column + 1 });
  }
}

/** Every child node, in order. */
function* childrenOf(node) {
  for (const key in node) {
    const value = node[key];
    if (value === null || typeof value !== 'object' || key === 'loc') continue;
    if (Array.isArray(value)) {
      for (const item of value) if (item && typeof item.type === 'string') yield item;
    } else if (typeof value.type === 'string') yield value;
  }
}

const isFunction = (node) => /Function/.test(node.type);
/** The top-level constant objects that the reference compiler leaves alone. */
const isTopLevelObject = (node, above) =>
  node.type === 'ObjectExpression' && above.length >= 3 && above.at(-1).type === 'VariableDeclarator' && above.at(-2).type === 'VariableDeclaration' && above.at(-3).type === 'Program';

/** `$.a.b` → `state.a.b`, with an arrow function around the argument it stands in. */
function lazyState(s, ast, scopes) {
  const wrapped = new Set();
  const visit = (node, above, isDeclared) => {
    if (isTopLevelObject(node, above)) return;
    const scope = scopes.get(node);
    if (scope?.declarations.has('$') && node.type !== 'Program') isDeclared = true;
    if (node.type === 'Identifier' && node.name === '$' && !isDeclared && above.at(-1)?.type === 'MemberExpression' && above.at(-1).object === node) {
      s.overwrite(node.start, node.end, 'state');
      wrapArgument(s, node, above, wrapped);
      return;
    }
    for (const child of childrenOf(node)) visit(child, [...above, node], isDeclared);
  };
  visit(ast, [], false);
}

function wrapArgument(s, node, above, wrapped) {
  let child = node;
  for (let i = above.length - 1; i >= 0; i--) {
    const parent = above[i];
    // `$.list.map(f)` is a call on the state's value, not an operation.
    const isCallOnState = parent.type === 'CallExpression' && parent.callee === child;
    if (parent.type === 'CallExpression' && !isCallOnState) {
      if (isFunction(child)) {
        const [first] = child.params;
        if (child.params.length !== 1) throw new CompileError('Lazy State Error: parent has wrong arity', positionOf(node));
        if (first.name !== 'state') throw new CompileError(`Lazy State Error: parameter "${first.name}" should be called "state"`, positionOf(node));
        return;
      }
      if (!wrapped.has(child)) {
        wrapped.add(child);
        const open = child.type === 'ObjectExpression' || child.type === 'SequenceExpression';
        s.prependRight(child.start, open ? 'state => (' : 'state => ');
        if (open) s.appendLeft(child.end, ')');
      }
      return;
    }
    if (/Statement$|Declaration$/.test(parent.type) && !isInsideFunction(above, i)) {
      throw new CompileError('Lazy State Error: Must be inside an operation', positionOf(node), 'The Lazy State operator ($) must be used inside a top-level operation, like fn(), not in a plain statement');
    }
    child = parent;
  }
}

const isInsideFunction = (above, i) => above.slice(0, i).some(isFunction);

/**
 * `op().then(f)` → `_defer(op(), p => p.then(f))`. A catch right after op is
 * the third argument of defer, which then gets the state too.
 */
function promises(s, ast) {
  let found = false;
  const isChain = (node) =>
    node.type === 'CallExpression' && node.callee.type === 'MemberExpression' && !node.callee.computed && /^(then|catch)$/.test(node.callee.property.name);
  const visit = (node, above) => {
    if (isFunction(node) || node.type === 'BlockStatement' || isTopLevelObject(node, above)) return;
    if (!isChain(node)) {
      for (const child of childrenOf(node)) visit(child, [...above, node]);
      return;
    }
    let link = node;
    let op = node;
    while (isChain(op)) {
      link = op;
      op = op.callee.object;
    }
    if (op.type !== 'CallExpression') return;
    found = true;
    const [handler] = link.arguments;
    if (link.callee.property.name !== 'catch' || !handler) {
      s.prependRight(node.start, '_defer(');
      s.appendLeft(op.end, ', p => p');
      s.appendLeft(node.end, ')');
    } else if (link === node) {
      s.prependRight(node.start, '_defer(');
      s.overwrite(op.end, handler.start, ', undefined, ');
    } else {
      // Arguments keep the order of the source, so that nothing has to move.
      s.prependRight(node.start, '((op, error, complete) => _defer(op, complete, error))(');
      s.overwrite(op.end, handler.start, ', ');
      s.overwrite(handler.end, link.end, ', p => p');
      s.appendLeft(node.end, ')');
    }
  };
  visit(ast, []);
  return found;
}

/**
 * Finds the operations: the elements of a default export that is an array,
 * then the calls at the top level.
 */
function findOperations(ast) {
  const exported = ast.body.find((node) => node.type === 'ExportDefaultDeclaration');
  if (exported && exported.declaration.type !== 'ArrayExpression') return { isArray: false, nodes: [], statements: [] };
  const statements = ast.body.filter((node) => node.type === 'ExpressionStatement' && node.expression.type === 'CallExpression');
  const elements = (exported?.declaration.elements ?? []).filter(Boolean);
  return {
    isArray: true,
    nodes: [...elements, ...statements.map((node) => node.expression)],
    statements: exported ? [...statements, exported] : statements,
  };
}

const describeOperation = (node) => ({ name: node.type === 'CallExpression' ? nameOf(node.callee) : '', line: node.loc.start.line });

const nameOf = (callee) => callee.name ?? callee.property?.name ?? '';

function edit(source, adaptors, ignore) {
  const ast = parseSource(source);
  const s = new MagicString(source, { filename: 'source' });
  if (source.startsWith('#!')) s.overwrite(0, 2, '//');
  const analysis = analyze(ast);
  const free = analysis.globals;
  lazyState(s, ast, analysis.map);
  const needsDefer = promises(s, ast);
  const found = findOperations(ast);
  const imports = [];
  const taken = new Set(ignore);
  for (const { name, exports } of adaptors) {
    const used = exports.filter((e) => e !== 'default' && free.has(e) && !taken.has(e));
    for (const e of used) taken.add(e);
    if (used.length > 0) imports.push({ name, used });
  }
  const declaresState = analysis.scope.declarations.has('state');
  return { ast, s, found, imports, needsDefer, declaresState, operations: found.nodes.map(describeOperation) };
}

/** Removes a range with what was inserted at its ends, which `remove` keeps. */
function erase(s, start, end) {
  if (start < end) s.overwrite(start, end, '');
}

/**
 * Puts the parts together: head, what is left of the source, and the
 * operations in an array.
 */
function assemble({ s, found, source, name, head, open, tail }) {
  const bundle = new Bundle({ separator: '' });
  const pieces = found.nodes.map((node) => {
    const piece = s.clone();
    erase(piece, 0, node.start);
    erase(piece, node.end, source.length);
    return piece;
  });
  for (const node of found.statements) erase(s, node.start, node.end);
  const add = (content) => bundle.addSource({ filename: name, content });
  add(s);
  pieces.forEach((piece, i) => {
    if (i === 0) piece.prepend(`\n${open}`);
    piece.append(',\n');
    add(piece);
  });
  if (pieces.length > 0) bundle.append(`];\n${tail}`);
  else bundle.append(`\n${found.isArray ? `${open}];\n` : ''}${tail}`);
  bundle.prepend(head);
  const map = bundle.generateMap({ includeContent: true, hires: true });
  map.sources = [name];
  map.sourcesContent = [source];
  return { code: bundle.toString(), map };
}

/**
 * The compiled form of a job expression: a module.
 * @param {string} source
 * @param {{name?: string, adaptors?: AdaptorExports[], ignore?: string[]}} [options]
 * @returns {{code: string, map: import('magic-string').SourceMap, operations: Operation[]}}
 */
export function compile(source, { name = 'src', adaptors = [], ignore = [] } = {}) {
  const { s, found, imports, needsDefer, operations } = edit(source, adaptors, ignore);
  let head = '';
  for (const { name: from, used } of imports) head += `import { ${used.join(', ')} } from ${JSON.stringify(from)};\nexport * from ${JSON.stringify(from)};\n`;
  if (needsDefer) head += 'import { defer as _defer } from "@openfn/runtime";\n';
  return { ...assemble({ s, found, source, name, head, open: 'export default [', tail: '' }), operations };
}

/**
 * The same as the text of an async function of `(__import, state)`, which
 * returns the module's exports.
 * @param {string} source
 * @param {{name?: string, adaptors?: AdaptorExports[], ignore?: string[]}} [options]
 * @returns {{code: string, map: import('magic-string').SourceMap, operations: Operation[], imports: string[]}}
 */
export function compileScript(source, { name = 'src', adaptors = [], ignore = [] } = {}) {
  const { ast, s, found, imports, needsDefer, declaresState, operations } = edit(source, adaptors, ignore);
  const specifiers = new Set();
  let head = `(async function (__import, ${declaresState ? '__state' : 'state'}) { "use strict"; const __exports = {};\n`;
  const bind = (from, names) => {
    specifiers.add(from);
    head += `const { ${names.join(', ')} } = __import(${JSON.stringify(from)});\n`;
  };
  const stars = [];
  for (const { name: from, used } of imports) {
    bind(from, used);
    stars.push(from);
  }
  if (needsDefer) bind('@openfn/runtime', ['defer: _defer']);
  const named = [];
  for (const node of ast.body) {
    if (!found.statements.includes(node)) head += moduleStatement(s, node, specifiers, named, stars);
  }
  const star = stars.map((from) => `...__import(${JSON.stringify(from)}), `).join('');
  const tail = `return { ${star}default: __exports.default, ${named.join(', ')} };\n})`;
  return { ...assemble({ s, found, source, name, head, open: '__exports.default = [', tail }), operations, imports: [...specifiers] };
}

/**
 * A module that is no job, as the text of an async function of `(__import,
 * state)` which returns its exports: nothing in it is an operation.
 * @param {string} source
 * @param {{name?: string}} [options]
 * @returns {{code: string, map: import('magic-string').SourceMap, imports: string[], exports: string[]}}
 *   exports: the names that it exports itself, without those of `export *`
 */
export function compileModule(source, { name = 'src' } = {}) {
  const ast = parseSource(source);
  const s = new MagicString(source, { filename: 'source' });
  if (source.startsWith('#!')) s.overwrite(0, 2, '//');
  const specifiers = new Set();
  const named = [];
  const stars = [];
  const declaresState = analyze(ast).scope.declarations.has('state');
  let head = `(async function (__import, ${declaresState ? '__state' : 'state'}) { "use strict"; const __exports = {};\n`;
  for (const node of ast.body) head += moduleStatement(s, node, specifiers, named, stars);
  const star = stars.map((from) => `...__import(${JSON.stringify(from)}), `).join('');
  const tail = `return { ${star}...__exports, ${named.join(', ')} };\n})`;
  const found = { isArray: false, nodes: [], statements: [] };
  const names = named.map((entry) => /^(?:"(?:[^"\\]|\\.)*"|[^:]+)/.exec(entry)[0]).map((key) => (key.startsWith('"') ? JSON.parse(key) : key));
  return { ...assemble({ s, found, source, name, head, open: '', tail }), imports: [...specifiers], exports: names };
}

/** Takes imports and exports out of the code; returns what goes to its head. */
function moduleStatement(s, node, specifiers, named, stars) {
  const from = node.source?.value;
  if (from !== undefined) specifiers.add(from);
  const source = JSON.stringify(from);
  const keyOf = (id) => (id.type === 'Literal' ? JSON.stringify(id.value) : id.name);
  switch (node.type) {
    case 'ImportDeclaration': {
      s.remove(node.start, node.end);
      let head = node.specifiers.length === 0 ? `__import(${source});\n` : '';
      for (const spec of node.specifiers) {
        if (spec.type === 'ImportNamespaceSpecifier') head += `const ${spec.local.name} = __import(${source});\n`;
        else head += `const { ${spec.type === 'ImportDefaultSpecifier' ? 'default' : keyOf(spec.imported)}: ${spec.local.name} } = __import(${source});\n`;
      }
      return head;
    }
    case 'ExportAllDeclaration':
      s.remove(node.start, node.end);
      if (!node.exported) stars.push(from);
      else named.push(`${keyOf(node.exported)}: __import(${source})`);
      return '';
    case 'ExportNamedDeclaration':
      if (node.declaration) {
        s.remove(node.start, node.declaration.start);
        const ids = node.declaration.declarations?.flatMap((d) => extract_names(d.id)) ?? [node.declaration.id.name];
        named.push(...ids);
      } else {
        s.remove(node.start, node.end);
        for (const spec of node.specifiers) {
          const local = keyOf(spec.local);
          named.push(`${keyOf(spec.exported)}: ${from === undefined ? local : `__import(${source})[${JSON.stringify(spec.local.name ?? spec.local.value)}]`}`);
        }
      }
      return '';
    case 'ExportDefaultDeclaration': {
      const isDeclaration = /Declaration$/.test(node.declaration.type);
      if (isDeclaration && node.declaration.id) {
        s.remove(node.start, node.declaration.start);
        named.push(`default: ${node.declaration.id.name}`);
      } else {
        s.overwrite(node.start, node.declaration.start, '__exports.default = ');
        if (isDeclaration) s.appendLeft(node.end, ';');
      }
      return '';
    }
  }
  return '';
}
