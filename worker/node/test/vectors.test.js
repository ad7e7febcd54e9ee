// The golden vectors that every language's codec is tested against.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { encodeFrame, parseFrame } from '../src/frames.js';
import { ProtocolError } from '../src/wire.js';

const vectors = JSON.parse(readFileSync(new URL('../../../ipc/testdata/vectors.json', import.meta.url), 'utf8'));

/** As in the file: numbers where a double holds them, else decimal text. */
function written(value) {
  if (typeof value === 'bigint') return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(written);
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, written(v)]));
  return value;
}

/** The file writes some numbers that a double holds as text. */
const comparable = (value) => JSON.parse(JSON.stringify(value), (_key, v) => (typeof v === 'string' && /^\d{15,20}$/.test(v) ? `n${BigInt(v)}` : typeof v === 'number' ? `n${BigInt(v)}` : v));

test('the file is of this version and not empty', () => {
  assert.equal(vectors.version, 1);
  assert.ok(vectors.frames.length >= 16 && vectors.badFrames.length >= 20);
});

for (const { name, type, id, head, table, files, hex, decodeOnly } of vectors.frames) {
  test(`decodes ${name}`, () => {
    const envelope = parseFrame(Buffer.from(hex, 'hex'));
    const { type: gotType, ...gotHead } = envelope.message;
    assert.equal(gotType, type);
    assert.equal(envelope.id, BigInt(id));
    assert.equal(envelope.files, files);
    assert.deepEqual(comparable(written(gotHead)), comparable(head));
    assert.deepEqual(comparable(written(envelope.table)), comparable(table));
  });
  if (decodeOnly) continue;
  test(`encodes ${name}`, () => {
    const bytes = encodeFrame({ id: BigInt(id), message: { type, ...head }, table, files });
    assert.equal(Buffer.from(bytes).toString('hex'), hex);
  });
}

for (const { name, hex } of vectors.badFrames) {
  test(`refuses ${name}`, () => {
    assert.throws(() => parseFrame(Buffer.from(hex, 'hex')), ProtocolError);
  });
}
