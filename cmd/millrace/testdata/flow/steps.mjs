// The steps of TestFlows in JavaScript.
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { CallError, main as serve } from '../../../../worker/node/src/index.js';

async function main(state, { call, each, forward }) {
  const { gate } = state.given;
  const order = [];
  for await (const r of each([0, 1, 2].map((i) => ({ i, gate })), 'late', { concurrency: 3 })) {
    if (r.state.i !== r.index) throw new Error(`the result of ${r.index} is ${r.state.i}`);
    order.push(r.index);
    writeFileSync(`${gate}-${order.length}`, '');
  }
  const first = [];
  try {
    for await (const r of each([0, 1, 2, 3, 4], 'odd', { concurrency: 1 })) first.push(`${r.state.data}`);
  } catch (error) {
    first.push(`${error.constructor.name} ${error.step}`);
  }
  const collect = [];
  for await (const r of each([0, 1, 2, 3, 4], 'odd', { concurrency: 2, errors: 'collect' })) {
    collect.push(r.error instanceof CallError ? `${r.index} CallError ${r.error.step}` : `${r.state.data}`);
  }
  const error = await call('fails', state).catch(({ name, severity, step }) => [name, severity, step]);
  let sizes;
  for (let i = 0; i < 3; i++) ({ sizes } = await call('sizes', { ...state, note: 'x'.repeat(i + 3) }));
  const shards = {};
  for await (const r of each([0, 1, 2], 'shard', { concurrency: 2, until: 'leaf' })) shards[`shard-${r.index}`] = r.state.packed;
  const { n: nested } = await call('nests', { n: 4 });
  return forward('aggregate', { order, first, collect: collect.sort(), error, sizes, ...shards, nested, head: 'new' });
}

async function aggregate({ given: { pages, items }, ...state }, { each, append }) {
  const source = function* () {
    for (let page = 0; page < pages; page++) yield { page, items };
  };
  for await (const r of each(source(), 'page', { concurrency: 3 })) append(state, 'all', r.state.data);
  return state;
}

/** Ends after as many results were taken as are to come before it. */
async function late({ data: { i, gate } }) {
  const before = (i + 2) % 3;
  while (before && !existsSync(`${gate}-${before}`)) await wait(2);
  return { i };
}

function odd(state) {
  if (state.data % 2) throw new Error('odd');
  return state;
}

serve({
  main,
  aggregate,
  page: ({ data: { page, items } }) => ({ data: Array.from({ length: items }, (_, i) => page * items + i) }),
  late,
  odd,
  fails() {
    throw new Error('no use');
  },
  sizes: (state) => ({ sizes: [JSON.stringify(state.big).length, JSON.stringify(state.note).length] }),
  nests: async ({ n }, { call }) => ({ n: n + (n > 0 ? (await call('nests', { n: n - 1 })).n : 0) }),
  shard: ({ data }) => ({ data: Array(1000).fill(`shard ${data}`) }),
});
