// The forked child of baseline 2: hands runs to a worker thread and passes its
// events on.
import { Worker } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';

const worker = new Worker(fileURLToPath(new URL('./thread.mjs', import.meta.url)), {
  workerData: { runtimePath: process.argv[2] },
  execArgv: ['--experimental-vm-modules', '--no-warnings'],
  resourceLimits: { maxOldGenerationSizeMb: 8192 },
});
worker.on('message', (message) => process.send(message));
process.on('message', (message) => worker.postMessage(message));
process.on('disconnect', () => process.exit(0));
