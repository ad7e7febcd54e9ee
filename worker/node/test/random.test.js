// Random states and random programs: a lazy state must end up as the plain
// object would, whatever is done to it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arena } from '../src/arena.js';
import { BlockWriter } from '../src/blockwriter.js';
import { Input } from '../src/lazy.js';
import { toTable } from '../src/result.js';
import { Segments } from '../src/segments.js';

/** A small generator of numbers, so that a failure can be repeated. */
function random(seed) {
  let x = seed * 2654435761 + 1;
  return (n) => {
    x = Math.imul(x ^ (x >>> 15), 2246822519) + 0x9e3779b9;
    x = Math.imul(x ^ (x >>> 13), 3266489917);
    return ((x ^ (x >>> 16)) >>> 0) % n;
  };
}

const TEXTS = ['', 'a', 'é"\\\n', '日本😀', '\ud800', 'x'.repeat(300), '\u0000', '@@'];

function value(rnd, depth) {
  switch (rnd(depth > 3 ? 5 : 8)) {
    case 0:
      return rnd(1000) / 7;
    case 1:
      return TEXTS[rnd(TEXTS.length)];
    case 2:
      return rnd(2) === 0;
    case 3:
      return null;
    case 4:
      return rnd(100) - 50;
    case 5:
      return Array.from({ length: rnd(depth === 1 ? 400 : 6) }, () => value(rnd, depth + 1));
    default:
      return Object.fromEntries(Array.from({ length: rnd(depth === 1 ? 150 : 5) }, () => [`k${rnd(300)}`, value(rnd, depth + 1)]));
  }
}

const isContainer = (v) => v !== null && typeof v === 'object';

/** One random thing done to a state; the same for the same numbers. */
function act(rnd, state) {
  const keys = Object.keys(state);
  const key = keys[rnd(Math.max(keys.length, 1))] ?? 'none';
  const other = `n${rnd(4)}`;
  const target = state[key];
  switch (rnd(12)) {
    case 0:
      return { ...state, [other]: rnd(9) };
    case 1:
      state[other] = target;
      return state;
    case 2:
      delete state[key];
      return state;
    case 3:
      if (Array.isArray(target)) target.push({ added: rnd(100) });
      else if (isContainer(target)) target.added = rnd(100);
      return state;
    case 4:
      if (Array.isArray(target) && target.length > 0) target[rnd(target.length)] = value(rnd, 3);
      return state;
    case 5:
      return { ...state, [other]: { inside: [target, { twice: target }] } };
    case 6:
      void JSON.stringify(target);
      return state;
    case 7:
      if (isContainer(target)) for (const k of Object.keys(target).slice(0, 3)) delete target[k];
      return state;
    case 8:
      if (Array.isArray(target)) target.length >>= 1;
      return state;
    case 9:
      return Object.fromEntries(Object.entries(state).reverse());
    case 10:
      state[other] = { date: new Date(rnd(1e6)), gone: undefined, f() {}, list: [undefined, NaN, () => 1], keep: target };
      return state;
    default:
      if (Array.isArray(target)) target.reverse();
      return state;
  }
}

test('300 random programs on random states', () => {
  const noop = () => {};
  const theirs = new Arena({ executor: 1, announce: noop, drop: noop });
  const arena = new Arena({ executor: 2, announce: noop, drop: noop });
  const segments = new Segments({
    has: (id) => theirs.has(id) || arena.has(id),
    view: (id, offset, length) => (theirs.has(id) ? theirs : arena).view(id, offset, length),
  });
  let passed = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const make = random(seed);
    const plain = Object.fromEntries(Array.from({ length: 1 + make(5) }, (_, i) => [`key${i}`, value(make, make(2))]));
    const rows = Object.entries(plain).map(([key, v]) => {
      const writer = new BlockWriter(theirs);
      writer.text(JSON.stringify(v));
      return { key, spans: writer.commit().map((block) => ({ ...block, encoding: 1, flags: 0 })) };
    });
    const input = new Input({ kind: 1, rows }, segments);
    let want = structuredClone(plain);
    let got = input.state;
    for (let i = 1; i <= 1 + (seed % 6); i++) {
      want = act(random(seed * 100 + i), want);
      got = act(random(seed * 100 + i), got);
    }
    const out = toTable(got, { input, arena, segments, dropKeys: new Set() });
    const text = (row) => Buffer.concat(row.spans.map((span) => Buffer.from(segments.view(span)))).toString();
    const document = `{${out.table.rows.map((row) => `${JSON.stringify(row.key)}:${text(row)}`).join(',')}}`;
    assert.equal(document, JSON.stringify(want), `seed ${seed}`);
    passed += out.table.rows.filter((row) => row.spans.every((span) => theirs.has(span.segment))).length;
    arena.abort();
    input.close();
  }
  assert.ok(passed > 300, `only ${passed} rows were passed on`);
});
