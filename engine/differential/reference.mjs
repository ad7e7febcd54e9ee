// Runs a batch of OpenFn plans on @openfn/runtime: the reference of the
// differential test. node --experimental-vm-modules reference.mjs CASES RESULTS
//
// CASES is a JSON array of {plan, input}, RESULTS becomes one of
// {state, error, steps, edges}. Options are those with which OpenFn's own
// worker calls the runtime.
import { readFileSync, writeFileSync } from 'node:fs';
import run from '@openfn/runtime';

const [casesPath, resultsPath, options = '{}'] = process.argv.slice(2);
const { linker, raw } = JSON.parse(options);
const silent = new Proxy({}, { get: () => () => {} });

// What is intended to differ and would show everywhere is taken from the
// reference here, unless it is asked for raw; each is in
// docs/openfn-differences.md.
//
// A failed step's changes in place are kept by the reference: its jobs get a
// copy of their state, so that the original is as it was.
const COPY = '(state) => JSON.parse(JSON.stringify(state))';
const withCopy = (source) => source.replace('export default [\n', `export default [\n  ${COPY},\n`);
// An error thrown in a function that has a name passes for an adaptor's: frames
// lose their functions' names.
if (!raw) Error.prepareStackTrace = (error, frames) =>
  [Error.prototype.toString.call(error), ...frames.map((f) => `    at ${String(f).replace(/^.*\((vm:module\(0\):\d+:\d+)\)$/, '$1')}`)].join('\n');

async function runCase({ plan, input }) {
  const steps = [];
  const edges = [];
  for (const step of plan.workflow.steps) if (step.expression && !raw) step.expression = withCopy(step.expression);
  const notify = (event, { jobId, error, next = [] }) => {
    if (event !== 'job-complete' && event !== 'job-error') return;
    steps.push({ id: jobId, error: error ? describe(error) : undefined });
    for (const to of next) edges.push([jobId, to]);
  };
  try {
    const state = await run(plan, input, {
      logger: silent,
      jobLogger: silent,
      statePropsToRemove: ['configuration', 'response'],
      callbacks: { notify },
      linker,
    });
    return { state, steps, edges };
  } catch (error) {
    return { error: describe(error), steps, edges };
  }
}

const describe = (error) => ({
  name: error?.name,
  subtype: error?.subtype,
  severity: error?.severity,
  message: String(error?.message),
});

process.on('unhandledRejection', () => {});
const results = [];
for (const c of JSON.parse(readFileSync(casesPath, 'utf8'))) results.push(await runCase(c));
writeFileSync(resultsPath, JSON.stringify(results));
process.exit(0);
