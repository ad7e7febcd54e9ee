// The behaviours as a worker program of Node.js.
import { writeSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { main } from '../../node/src/index.js';

function* numbered(n) {
  for (let i = 0; i < n; i++) yield { i };
}

main({
  identity: (state) => state,
  read(state) {
    if (state.read.list.length !== 1000) throw new Error(`read ${state.read.list.length}`);
    return state;
  },
  set(state) {
    state.added = { list: [1, 2, 3], text: 'a"b\\c\u0001\u00e9\u{1f600}' };
    return state;
  },
  delete(state) {
    delete state.gone;
    return state;
  },
  rename: ({ from, ...rest }) => ({ ...rest, to: from }),
  mutate(state) {
    state.data.nested.n++;
    return state;
  },
  append(state) {
    state.value.push('end');
    return state;
  },
  copy: (state) => ({ ...state, copy: state.value }),
  keys: (state) => ({ ...state, keys: Object.keys(state) }),
  fresh: () => ({ fresh: true }),
  private: (state) => ({ ...state, _secret: 1, configuration: { token: 1 }, kept: true }),
  allocate: (state) => ({ ...state, big: 'x'.repeat(8388608) }),
  throw() {
    throw new Error('conformance: thrown');
  },
  log(state, { console }) {
    console.log('conformance: hello');
    return state;
  },
  async sleep(state, { signal }) {
    await wait(60000, undefined, { signal });
    return state;
  },
  async nap(state) {
    await wait(300);
    state.napped = true;
    return state;
  },
  unserialisable(state) {
    const bad = {};
    bad.self = bad;
    state.bad = bad;
    return state;
  },
  call: (state, { call }) => call('other', state),
  'call-new': async (state, { call }) => ({ ...state, result: (await call('other', { data: [1, 2, 3] })).value }),
  'call-catch': async (state, { call }) => {
    try {
      await call('other', state);
    } catch ({ name, severity, step }) {
      state.error = [name, severity, step];
    }
    return state;
  },
  async each(state, { each, append }) {
    state.order = [];
    for await (const r of each(state.pages, 'other', { concurrency: 3 })) {
      state.order.push(r.index);
      append(state, 'all', r.state.data);
    }
    return state;
  },
  async 'each-count'(state, { each }) {
    let n = 0;
    for await (const { index } of each(state.pages, 'other', { concurrency: 2 })) n += index >= 0;
    return { n };
  },
  feed: ({ n, ...state }) => ({ ...state, n, items: numbered(n) }),
  'feed-fail': (state) => {
    async function* items() {
      yield* numbered(3);
      throw new Error('conformance: thrown');
    }
    return { ...state, items: items() };
  },
  async drain(state) {
    let sum = 0;
    for await (const { i } of state.items) sum += i;
    return { ...state, sum };
  },
  async 'drain-three'(state) {
    let got = 0;
    for await (const _ of state.items) if (++got === 3) break;
    return { ...state, got };
  },
  forward: (_state, { forward }) => forward('other', { head: 'new' }),
  value: () => [1, 2, 3],
  nothing() {},
  noise(state) {
    writeSync(1, Buffer.from('\x00\xffMILLRACE\x18\x00\x00\x00'.repeat(100), 'latin1'));
    state.noisy = true;
    return state;
  },
});
