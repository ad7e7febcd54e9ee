/**
 * The messages of the control channel and the form of their heads. Each is a
 * plain object with a `type`; the fields stand in the order of the protocol.
 * @module
 */
import { ProtocolError } from './wire.js';

const u8 = { write: (w, v) => w.u8(v), read: (r) => r.u8() };
const u16 = { write: (w, v) => w.u16(v), read: (r) => r.u16() };
const u32 = { write: (w, v) => w.u32(v), read: (r) => r.u32() };
const u64 = { write: (w, v) => w.u64(v), read: (r) => r.u64() };
const str = { write: (w, v) => w.str(v), read: (r) => r.str() };
const bool = { write: (w, v) => w.u8(v ? 1 : 0), read: (r) => r.u8() !== 0 };

/** A list of items that have at least itemSize bytes each. */
const list = (itemSize, write, read) => ({
  write(w, items) {
    w.u32(items.length);
    for (const item of items) write(w, item);
  },
  read(r) {
    const items = new Array(r.count(itemSize));
    for (let i = 0; i < items.length; i++) items[i] = read(r);
    return items;
  },
});

const strs = list(4, str.write, str.read);
const ids = list(8, u64.write, u64.read);
const blocks = list(
  24,
  (w, { segment, offset, length }) => {
    w.u64(segment);
    w.u64(offset);
    w.u64(length);
  },
  (r) => ({ segment: r.u64(), offset: r.u64(), length: r.u64() }),
);
const verdicts = list(
  5,
  (w, { taken, error }) => {
    w.u8(taken ? 1 : 0);
    w.str(error);
  },
  (r) => ({ taken: r.u8() !== 0, error: r.str() }),
);

/** Name → [code, fields], the fields in wire order. */
export const MESSAGES = {
  hello: [1, { minVersion: u16, maxVersion: u16, pid: u32, language: str, release: str, capabilities: strs, functions: strs }],
  welcome: [2, { version: u16, executor: u32, capabilities: strs, ringSize: u32, retainBytes: u64, prefaultBytes: u64, dropKeys: strs }],
  attach: [3, { segment: u64, size: u64 }],
  detach: [4, { segments: ids }],
  release: [5, { blocks }],
  prepare: [6, { code: u64, kind: str, spec: str }],
  execute: [7, { code: u64, run: str, step: str, attempt: u32, timeout: u64, memoryLimit: u64, budget: u64, upstream: str, conditions: strs, after: u64, needs: strs }],
  done: [8, { started: u64, finished: u64, blocks, decoded: u64, encoded: u64, verdicts }],
  fail: [9, { started: u64, finished: u64, severity: str, name: str, message: str, details: str }],
  cancel: [10, { reason: str }],
  log: [11, { time: u64, level: str, source: str, message: str, structured: bool }],
  ping: [12, {}],
  pong: [13, {}],
  shutdown: [14, {}],
  doorbell: [15, {}],
  'from-socket': [16, {}],
  call: [17, { step: str, until: str, timeout: u64, blocks }],
  result: [18, { step: str }],
  forget: [19, { calls: ids }],
  forward: [20, { step: str }],
  stream: [21, { key: str, encoding: u8, capacity: u64, blocks }],
  consume: [22, { stream: u64 }],
  'stream-ring': [23, { stream: u64, capacity: u64, maxDemand: u32, minDemand: u32, manual: bool }],
  wake: [24, { stream: u64 }],
  'stream-end': [25, { stream: u64, severity: str, name: str, message: str }],
};

const zero = new Map([[u8, 0], [u16, 0], [u32, 0], [u64, 0n], [str, ''], [bool, false]]);
const byCode = new Map();
const byName = new Map();
for (const [name, [code, fields]] of Object.entries(MESSAGES)) {
  const form = { name, code, names: Object.keys(fields), kinds: Object.values(fields) };
  byCode.set(code, form);
  byName.set(name, form);
}

/** The form of a frame type's number. */
export function formOf(code) {
  const form = byCode.get(code);
  if (!form) throw new ProtocolError(`unknown frame type ${code}`);
  return form;
}

/** A type's number; a name that is not in the protocol is this side's mistake. */
export function codeOf(name) {
  const form = byName.get(name);
  if (!form) throw new TypeError(`no message is called ${JSON.stringify(name)}`);
  return form.code;
}

/** Writes a message's head; fields it does not have are zero or empty. */
export function writeHead(w, message) {
  const { names, kinds } = byName.get(message.type);
  for (let i = 0; i < names.length; i++) {
    const kind = kinds[i];
    kind.write(w, message[names[i]] ?? zero.get(kind) ?? []);
  }
}

/** Reads a head. Bytes left after it are a newer peer's fields and are ignored. */
export function readHead(r, form) {
  const message = { type: form.name };
  const { names, kinds } = form;
  for (let i = 0; i < names.length; i++) message[names[i]] = kinds[i].read(r);
  return message;
}
