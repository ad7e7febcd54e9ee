// Baseline 1: @openfn/runtime in one process.
// node --experimental-vm-modules one.mjs RUNTIME PLAN STATE
// From the state's file to the final document in a buffer; prints stamps and
// times in ns, the document's size in bytes.
import { readFileSync } from 'node:fs';

const [runtimePath, planPath, statePath] = process.argv.slice(2);
const { default: run } = await import(runtimePath);
const logger = new Proxy({}, { get: () => () => {} });
const now = () => Number(process.hrtime.bigint());

const plan = JSON.parse(readFileSync(planPath, 'utf8'));
const begin = now();
const state = JSON.parse(readFileSync(statePath, 'utf8'));
const submitted = now();
const result = await run(plan, state, { logger, jobLogger: logger, statePropsToRemove: ['configuration', 'response'] });
const bytes = Buffer.from(JSON.stringify(result)).length;
console.log(JSON.stringify({ stamps: result.stamps, begin, submitted, end: now(), bytes }));
process.exit(0);
