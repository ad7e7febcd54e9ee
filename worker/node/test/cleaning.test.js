// What happens to values without a JSON form. Where the design does not say
// otherwise it is what JSON.stringify does.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Readable } from 'node:stream';
import { FUNCTIONS, Supervisor } from './stub.js';

let s;
before(async () => (s = await Supervisor.start({ program: FUNCTIONS })));
after(() => s.stop());

/** What the fixture's function returns, made in this process. */
async function returned(name) {
  // The fixture calls main, which needs a channel; take its function table instead.
  const { readFile } = await import('node:fs/promises');
  const source = await readFile(FUNCTIONS, 'utf8');
  const body = source.replace(/^import .*$/gm, '').replace('main({', 'return ({').replace(/\}\);\s*$/, '});');
  return new Function('Readable', body)(Readable)[name]({});
}

test('cleaning agrees with JSON.stringify', async () => {
  const r = await s.fn('cleaning', {});
  assert.equal(r.type, 'done', r.message);
  const want = JSON.stringify(await returned('cleaning'));
  const rows = r.table.rows.map((row) => `${JSON.stringify(row.key)}:${s.text(row)}`);
  assert.equal(`{${rows.join(',')}}`, want);
});

test('private and configured keys, and instances without a JSON form, are dropped at the top', async () => {
  const r = await s.fn('dropped', {});
  assert.deepEqual(r.state, { kept: 1, stream: '[stream]', web: '[stream]' });
});

for (const [name, path, what] of [
  ['circular', 'state.data.a.list[0].back', /circular: it refers back to state\.data\.a$/],
  ['circularRoot', 'state.data.self.data', /circular/],
  ['circularBig', 'state.data.list[4000].up', /circular: it refers back to state\.data\.list/],
  ['bigint', 'state.data.rows[1].n', /BigInt/],
  ['bigintTop', 'state.n', /BigInt/],
  ['toJSONThrows', 'state.data.bad', /toJSON failed: no/],
]) {
  test(`${name} fails and names ${path}`, async () => {
    const r = await s.fn(name, {});
    assert.deepEqual([r.type, r.severity, r.name], ['fail', 'fail', 'RuntimeError']);
    assert.equal(JSON.parse(r.details).path, path);
    assert.ok(r.message.includes(path), r.message);
    assert.match(r.message, what);
  });
}
