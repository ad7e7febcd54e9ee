// Baseline 2: the hops of OpenFn's worker. A forked child runs each workflow in
// a worker thread; after each step its state is posted to the child (structured
// clone), sent to the parent (process.send: stringified and parsed) and
// stringified for a websocket, as text within an event.
// node --experimental-vm-modules host.mjs RUNTIME PLAN STATE
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [runtimePath, planPath, statePath] = process.argv.slice(2);
const now = () => Number(process.hrtime.bigint());

const child = fork(fileURLToPath(new URL('./child.mjs', import.meta.url)), [runtimePath]);
child.once('message', () => {
  const plan = JSON.parse(readFileSync(planPath, 'utf8'));
  const begin = now();
  const state = JSON.parse(readFileSync(statePath, 'utf8'));
  const submitted = now();
  let frame = 0;
  let bytes = 0;
  child.on('message', (message) => {
    frame += 1;
    const event = ['1', String(frame), 'run:1', message.type, { output_dataclip: JSON.stringify(message.state) }];
    bytes += Buffer.byteLength(JSON.stringify(event));
    if (message.type !== 'run:complete') return;
    console.log(JSON.stringify({ stamps: message.state.stamps, begin, submitted, end: now(), bytes }));
    process.exit(0);
  });
  child.send({ plan, state });
});
