// The worker thread of baseline 2: runs the workflow.
import { parentPort, workerData } from 'node:worker_threads';

const { default: run } = await import(workerData.runtimePath);
const logger = new Proxy({}, { get: () => () => {} });

parentPort.on('message', async ({ plan, state }) => {
  const notify = (event, { jobId, state: result }) => {
    if (event === 'job-complete') parentPort.postMessage({ type: 'step:complete', jobId, state: result });
  };
  const result = await run(plan, state, { logger, jobLogger: logger, statePropsToRemove: ['configuration', 'response'], callbacks: { notify } });
  parentPort.postMessage({ type: 'run:complete', state: result });
});
parentPort.postMessage({ type: 'ready' });
