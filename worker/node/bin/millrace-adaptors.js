#!/usr/bin/env node
// Installs adaptors into a repo folder: millrace-adaptors install NAME[@VERSION]… --repo-dir DIR
import { parseArgs } from 'node:util';
import { install } from '../src/adaptors.js';

const USAGE = 'usage: millrace-adaptors install NAME[@VERSION]... --repo-dir DIR [--json]';

function usage(message) {
  process.stderr.write(`${message ? `millrace-adaptors: ${message}\n` : ''}${USAGE}\n`);
  process.exit(2);
}

let parsed;
try {
  parsed = parseArgs({ allowPositionals: true, options: { 'repo-dir': { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } });
} catch (error) {
  usage(error.message);
}
const { positionals: [command, ...specifiers], values } = parsed;
if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
if (command !== 'install') usage(command && `unknown command ${JSON.stringify(command)}`);
if (specifiers.length === 0) usage('no adaptor is named');
if (!values['repo-dir']) usage('--repo-dir is missing');

try {
  const installed = await install(specifiers, { repoDir: values['repo-dir'], log: (line) => process.stderr.write(`${line}\n`) });
  if (values.json) process.stdout.write(`${JSON.stringify(installed)}\n`);
  else for (const { name, version, path } of installed) process.stdout.write(`${name}@${version} ${path}\n`);
} catch (error) {
  process.stderr.write(`millrace-adaptors: ${error.message}\n`);
  process.exitCode = 1;
}
