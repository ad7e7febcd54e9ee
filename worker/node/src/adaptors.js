/**
 * Adaptors: npm packages that jobs get their operations from. They live in a
 * repo folder in OpenFn's own layout (`node_modules/NAME_VERSION`, an npm
 * alias each, so that versions stand side by side), which both can share.
 * @module
 */
import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import semver from 'semver';
import { StepError, describe, importError } from './errors.js';

/** @typedef {{name: string, version: string, path: string}} Installed */

/**
 * Takes "@openfn/language-common@3.1.0" apart; a version that is not there is "".
 * @param {string} specifier
 */
export function parseSpecifier(specifier) {
  const at = specifier.lastIndexOf('@');
  return at > 0 ? { name: specifier.slice(0, at), version: specifier.slice(at + 1) } : { name: specifier, version: '' };
}

const NAME = /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/i;
const VERSION = /^[\w.+~^<>=|* -]*$/;

function assertSafe(name, version) {
  if (!NAME.test(name) || !VERSION.test(version)) throw new StepError('exception', 'AutoinstallError', `${JSON.stringify(`${name}@${version}`)} is not a package and version`);
}

async function readPackage(folder) {
  try {
    return JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
  } catch {
    return null;
  }
}

const isRange = (version) => version !== '' && !/^(latest|next)$/.test(version);

/**
 * The newest installed version that fits: an exact version, a range, a prefix
 * such as "3", or anything when there is none given.
 * @param {string} repoDir
 * @returns {Promise<Installed | null>}
 */
export async function findInstalled(repoDir, name, version = '') {
  const repo = await readPackage(repoDir);
  let best = null;
  for (const alias of Object.keys(repo?.dependencies ?? {})) {
    if (alias !== name && !alias.startsWith(`${name}_`)) continue;
    const folder = path.join(repoDir, 'node_modules', alias);
    const pkg = await readPackage(folder);
    if (!pkg || (isRange(version) && pkg.version !== version && !semver.satisfies(pkg.version, version, { includePrerelease: true }))) continue;
    if (!best || semver.gt(pkg.version, best.version)) best = { name, version: pkg.version, path: folder };
  }
  return best;
}

const run = promisify(execFile);

async function npm(args, cwd) {
  try {
    const { stdout } = await run('npm', args, { cwd, maxBuffer: 32 << 20 });
    return stdout;
  } catch (error) {
    if (error.code === 'ENOENT') throw new StepError('exception', 'AutoinstallError', 'npm was not found: install Node.js with npm, or install the adaptors elsewhere and name their repo folder');
    const text = String(error.stderr || error.message);
    const reason = /npm (?:error|ERR!) code (\w+)/.exec(text)?.[1];
    const failure = new Error(reason ? `npm ended with ${reason}` : text.trim().split('\n').slice(-3).join(' '));
    failure.reason = reason;
    throw failure;
  }
}

async function lookUp(name, version, cwd) {
  let found;
  try {
    found = await npm(['view', `${name}@${version || 'latest'}`, 'version', '--json'], cwd);
  } catch (error) {
    // npm says E404 for a version that does not exist, too.
    const exists = error.reason === 'E404' && version && (await npm(['view', name, 'version'], cwd).then(Boolean, () => false));
    const why = exists ? 'no such version' : error.reason === 'E404' ? 'no such package' : describe(error);
    throw new StepError('exception', 'AutoinstallError', `Error installing ${name}@${version}: ${why}`, { name, version });
  }
  const versions = found.trim() ? [JSON.parse(found)].flat() : [];
  if (versions.length === 0) throw new StepError('exception', 'AutoinstallError', `Error installing ${name}@${version}: no such version`, { name, version });
  return semver.rsort(versions)[0];
}

/**
 * Makes sure that adaptors are installed. Those that are there already are
 * found without the network, "latest" included.
 * @param {string[]} specifiers
 * @param {{repoDir: string, log?: (line: string) => void}} options
 * @returns {Promise<Installed[]>} in the order asked for
 */
export async function install(specifiers, { repoDir, log = () => {} }) {
  const wanted = specifiers.map(parseSpecifier);
  for (const { name, version } of wanted) assertSafe(name, version);
  repoDir = path.resolve(repoDir);
  await mkdir(repoDir, { recursive: true });
  const find = () => Promise.all(wanted.map(({ name, version }) => findInstalled(repoDir, name, version)));
  let found = await find();
  if (found.every(Boolean)) return found;
  const unlock = await lock(repoDir);
  try {
    found = await find();
    const missing = [];
    for (const [i, { name, version }] of wanted.entries()) {
      if (!found[i]) missing.push({ name, version: await lookUp(name, version, repoDir) });
    }
    if (missing.length > 0) await installMissing(missing, repoDir, log);
    found = await find();
    const failed = wanted.find((_, i) => !found[i]);
    if (failed) throw new StepError('exception', 'AutoinstallError', `Error installing ${failed.name}@${failed.version}: npm ran, but it is not there`);
    return found;
  } finally {
    await unlock();
  }
}

async function installMissing(missing, repoDir, log) {
  if (!(await readPackage(repoDir))) {
    await writeFile(path.join(repoDir, 'package.json'), `${JSON.stringify({ name: 'openfn-repo', private: true, version: '1.0.0', dependencies: {} }, null, 2)}\n`);
  }
  const aliases = missing.map(({ name, version }) => `${name}_${version}@npm:${name}@${version}`);
  const names = missing.map(({ name, version }) => `${name}@${version}`).join(', ');
  log(`installing ${names}`);
  try {
    await npm(['install', '--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', '--prefer-offline', ...aliases], repoDir);
  } catch (error) {
    throw new StepError('exception', 'AutoinstallError', `Error installing ${names}: ${describe(error)}`);
  }
}

/** One install at a time in a folder; a lock whose owner died is taken over. */
async function lock(repoDir) {
  const folder = path.join(repoDir, '.millrace-install');
  for (;;) {
    try {
      await mkdir(folder);
      await writeFile(path.join(folder, 'pid'), String(process.pid));
      return () => rm(folder, { recursive: true, force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    const pid = Number(await readFile(path.join(folder, 'pid'), 'utf8').catch(() => 0));
    if (pid && !isAlive(pid)) await rm(folder, { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Where a package's folder says its ES module is. */
async function entryPoint(folder) {
  const pkg = await readPackage(folder);
  if (!pkg) return null;
  const pick = (target) => {
    if (typeof target === 'string') return target;
    if (Array.isArray(target)) return target.map(pick).find(Boolean);
    if (target && typeof target === 'object') return pick(target.import ?? target.node ?? target.default ?? target.require);
    return undefined;
  };
  const target = typeof pkg.exports === 'object' && pkg.exports !== null && '.' in pkg.exports ? pkg.exports['.'] : pkg.exports;
  return { file: path.resolve(folder, pick(target) ?? pkg.main ?? 'index.js'), version: pkg.version };
}

/** @type {Map<string, Promise<Record<string, unknown>>>} file → exports, for the process's life */
const loaded = new Map();

/**
 * Imports what a job may import: an adaptor of its step, a package of the repo
 * folder, or an absolute path to a .js file.
 * @param {string} specifier
 * @param {{adaptors?: {name: string, version?: string, path?: string}[], repoDir?: string}} where
 * @returns {Promise<Record<string, unknown>>} its exports
 */
export async function load(specifier, { adaptors = [], repoDir = '' }) {
  if (specifier === '@openfn/runtime') return { defer };
  let file = '';
  if (path.isAbsolute(specifier) && /\.[cm]?js$/.test(specifier)) {
    file = specifier;
  } else {
    const adaptor = adaptors.find((a) => a.name === specifier);
    const folder = adaptor?.path || (repoDir && (await findInstalled(repoDir, specifier, adaptor?.version))?.path);
    if (!folder) {
      const version = adaptor?.version ? `@${adaptor.version}` : '';
      throw importError(`Failed to import module "${specifier}${version}"`, {
        module: specifier,
        fix: adaptor ? `Install it: millrace adaptors install ${specifier}${version}` : 'Only adaptors of the step and packages in the repo folder can be imported',
      });
    }
    const entry = await entryPoint(folder);
    if (!entry) throw importError(`Failed to import module ${specifier} from ${folder} (no package.json)`, { module: specifier });
    file = entry.file;
  }
  if (!loaded.has(file)) loaded.set(file, importFile(specifier, file));
  return loaded.get(file);
}

async function importFile(specifier, file) {
  try {
    return exportsOf(await import(pathToFileURL(file).href));
  } catch (error) {
    loaded.delete(file);
    if (error?.code === 'ERR_MODULE_NOT_FOUND' && (await withExtensions())) {
      return importFile(specifier, file);
    }
    throw importError(`Failed to import module ${specifier} from ${file} (${describe(error)})`, { module: specifier });
  }
}

let extensions = false;
/**
 * Old adaptors import files without their extension. The hook that allows it
 * starts a thread, so it is there only once it was needed.
 */
async function withExtensions() {
  if (extensions) return false;
  extensions = true;
  const hook = `export async function resolve(specifier, context, next) {
    try { return await next(specifier, context); } catch (error) {
      if (error.code === 'ERR_MODULE_NOT_FOUND' && !/\\.[a-z]+$/.test(specifier)) return next(specifier + '.js', context);
      throw error;
    }
  }`;
  const { register } = await import('node:module');
  register(`data:text/javascript,${encodeURIComponent(hook)}`);
  return true;
}

/** What a module means to export: CommonJS and transpiled modules nest it. */
function exportsOf(namespace) {
  if (namespace.__esModule && namespace.default?.default) return namespace.default.default;
  if (Object.keys(namespace).length === 1 && namespace.default && Object.keys(namespace.default).length > 0) return namespace.default;
  return namespace;
}

/** An operation, then what its promise is chained to: what `op().then(f)` at the top of a job compiles to. */
function defer(operation, complete = (p) => p, failed) {
  const onError = (error, state) => {
    if (failed) return failed(error, state);
    throw error;
  };
  return (state) => {
    try {
      return complete(Promise.resolve(operation(state)).catch((error) => onError(error, state)));
    } catch (error) {
      return onError(error, state);
    }
  };
}
