/**
 * Frames: a fixed header, a message's head, and the rows of a state's table.
 *
 * @typedef {{segment: bigint, offset: bigint, length: bigint, encoding: number, flags: number}} Ref
 * @typedef {{key: string, spans: Ref[]}} Row
 * @typedef {{kind: number, rows: Row[]}} Table
 * @typedef {ReturnType<typeof parseHeader>} Header
 * @typedef {{id: bigint, message: {type: string, [field: string]: any}, table: Table, files: number}} Envelope
 * @module
 */
import { ProtocolError, Reader, Writer } from './wire.js';
import { codeOf, formOf, readHead, writeHead } from './messages.js';

export const HEADER_SIZE = 24;
export const REF_SIZE = 32;
/** The largest frame either side may send, header included. */
export const MAX_FRAME_SIZE = 8 << 20;

/** What a table's rows are. */
export const Kind = Object.freeze({ ABSENT: 0, OBJECT: 1, VALUE: 2 });
/** How the bytes of a reference are to be read. */
export const Encoding = Object.freeze({ JSON: 1, ARROW_STREAM: 2, RAW: 3 });

/** Flag of a reference that stands for a stream's items. */
export const STREAM_FLAG = 1;

/**
 * A reference to a whole block.
 * @param {import('./arena.js').Block} block
 * @returns {Ref}
 */
export const refTo = ({ segment, offset, length }, encoding) => ({ segment, offset, length, encoding, flags: 0 });

/**
 * How many bytes references have together.
 * @param {Ref[]} spans
 */
export function sizeOf(spans) {
  let size = 0;
  for (let i = 0; i < spans.length; i++) size += Number(spans[i].length);
  return size;
}

/** @type {Table} */
export const NO_TABLE = Object.freeze({ kind: Kind.ABSENT, rows: Object.freeze([]) });

/** A frame of this side's that passes the limit; the channel stays usable. */
export class FrameSizeError extends Error {
  name = 'FrameSizeError';
  constructor(size) {
    super(
      `frame of ${size} bytes is over the limit of ${MAX_FRAME_SIZE}: a state has too many top-level keys or spans; nest keys under one`,
    );
    this.size = size;
    this.limit = MAX_FRAME_SIZE;
  }
}

/**
 * Writes one frame.
 * @param {{id?: bigint, message: {type: string}, table?: Table, files?: number}} envelope
 * @param {Writer} [w] reused between frames; the bytes returned are valid until its next use
 * @returns {Uint8Array}
 */
export function encodeFrame({ id = 0n, message, table = NO_TABLE, files = 0 }, w = new Writer()) {
  w.reset();
  const code = codeOf(message.type);
  w.reserve(HEADER_SIZE);
  writeHead(w, message);
  const headSize = w.length - HEADER_SIZE;
  w.pad();
  for (const row of table.rows) writeRow(w, row);
  if (w.length > MAX_FRAME_SIZE) throw new FrameSizeError(w.length);
  const h = w.view;
  h.setUint32(0, w.length, true);
  h.setUint8(4, code);
  h.setUint8(5, table.kind);
  h.setUint8(6, files);
  h.setUint8(7, 0);
  h.setBigUint64(8, BigInt(id), true);
  h.setUint32(16, headSize, true);
  h.setUint32(20, table.rows.length, true);
  return w.bytes;
}

function writeRow(w, row) {
  const at = w.length;
  w.u32(0);
  w.u32(row.spans.length);
  const keySize = w.text(row.key);
  w.view.setUint32(at, keySize, true);
  w.pad();
  for (const ref of row.spans) {
    w.u64(ref.segment);
    w.u64(ref.offset);
    w.u64(ref.length);
    w.u8(ref.encoding);
    w.u8(0);
    w.u16(ref.flags);
    w.u32(0);
  }
}

export const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Reads and checks a header: the only place that looks at a peer's size.
 * @param {DataView} v of at least HEADER_SIZE bytes from at on
 */
export function parseHeader(v, at = 0) {
  const h = {
    size: v.getUint32(at, true),
    type: v.getUint8(at + 4),
    tableKind: v.getUint8(at + 5),
    files: v.getUint8(at + 6),
    id: v.getBigUint64(at + 8, true),
    headSize: v.getUint32(at + 16, true),
    rowCount: v.getUint32(at + 20, true),
  };
  if (h.size < HEADER_SIZE) throw new ProtocolError(`frame size ${h.size} is below the header's ${HEADER_SIZE}`);
  if (h.size > MAX_FRAME_SIZE) throw new ProtocolError(`frame of ${h.size} bytes is over the limit of ${MAX_FRAME_SIZE}`);
  if (h.size % 8 !== 0) throw new ProtocolError(`frame size ${h.size} is not a multiple of 8`);
  if (h.headSize > h.size - HEADER_SIZE) throw new ProtocolError(`head of ${h.headSize} bytes in a frame of ${h.size}`);
  if (h.files > 1) throw new ProtocolError(`${h.files} descriptors declared, at most 1 allowed`);
  if (h.tableKind > Kind.VALUE) throw new ProtocolError(`unknown table kind ${h.tableKind}`);
  if (v.getUint8(at + 7) !== 0) throw new ProtocolError(`reserved byte is ${v.getUint8(at + 7)}`);
  return h;
}

/**
 * Parses one whole frame. The envelope shares nothing with the bytes.
 * @param {Uint8Array} bytes
 * @returns {Envelope}
 */
export function parseFrame(bytes) {
  if (bytes.length < HEADER_SIZE) throw new ProtocolError(`frame of ${bytes.length} bytes, the header alone has ${HEADER_SIZE}`);
  const view = viewOf(bytes);
  const h = parseHeader(view);
  if (h.size !== bytes.length) throw new ProtocolError(`frame says ${h.size} bytes, ${bytes.length} are there`);
  return parseBody(h, bytes, view);
}

/**
 * The same for one whose header was read already. Making a view takes a few
 * microseconds where caches are cold, so whoever reads often keeps one.
 * @param {Header} h
 * @param {Uint8Array} bytes that begin with the frame
 * @param {DataView} view of the same
 * @returns {Envelope}
 */
export function parseBody(h, bytes, view) {
  const form = formOf(h.type);
  checkExtras(form.name, h);
  const headEnd = HEADER_SIZE + h.headSize;
  const r = new Reader(bytes, view, HEADER_SIZE, headEnd, form.name);
  const message = readHead(r, form);
  r.extend(h.size, `${form.name}: table`);
  r.align();
  const table = readTable(r, h.tableKind, h.rowCount);
  if (r.left !== 0) throw r.fail(`${r.left} bytes after the table`);
  return { id: h.id, message, table, files: h.files };
}

const WITH_FILE = new Set(['attach', 'stream-ring']);
const WITH_TABLE = new Set(['execute', 'done', 'call', 'result', 'stream']);

/** Descriptors and tables come with certain messages only. */
function checkExtras(type, { files, tableKind }) {
  if (WITH_FILE.has(type) ? files !== 1 : files > (type === 'welcome' ? 1 : 0)) throw new ProtocolError(`${type}: ${files} descriptors declared`);
  if (tableKind !== Kind.ABSENT && !WITH_TABLE.has(type)) throw new ProtocolError(`${type} carries a state`);
}

function readTable(r, kind, rowCount) {
  if (kind === Kind.ABSENT && rowCount !== 0) throw r.fail(`${rowCount} rows in a message without a state`);
  if (kind === Kind.VALUE && rowCount !== 1) throw r.fail(`a bare value has 1 row, not ${rowCount}`);
  if (rowCount * 8 > r.left) throw r.fail(`${rowCount} rows in ${r.left} bytes`);
  if (rowCount === 0) return { kind, rows: [] };
  const rows = new Array(rowCount);
  const keys = new Set();
  for (let i = 0; i < rowCount; i++) {
    const keySize = r.u32();
    const spanCount = r.u32();
    const key = r.text(keySize);
    r.align();
    if (spanCount * REF_SIZE > r.left) throw r.fail(`row ${JSON.stringify(key)}: ${spanCount} spans in ${r.left} bytes`);
    if (spanCount === 0) throw r.fail(`row ${JSON.stringify(key)} has no spans`);
    const spans = new Array(spanCount);
    for (let j = 0; j < spanCount; j++) spans[j] = readRef(r);
    if (spans.some((s) => s.encoding !== spans[0].encoding)) throw r.fail(`row ${JSON.stringify(key)} mixes encodings`);
    if (keys.has(key)) throw r.fail(`key ${JSON.stringify(key)} twice`);
    keys.add(key);
    rows[i] = { key, spans };
  }
  if (kind === Kind.VALUE && rows[0].key !== '') throw r.fail(`a bare value has the key ${JSON.stringify(rows[0].key)}`);
  return { kind, rows };
}

const END = 1n << 64n;

function readRef(r) {
  const ref = { segment: r.u64(), offset: r.u64(), length: r.u64(), encoding: r.u8(), flags: 0 };
  const zero = r.u8();
  ref.flags = r.u16();
  const zeros = r.u32();
  if (ref.encoding < Encoding.JSON || ref.encoding > Encoding.RAW) throw r.fail(`unknown encoding ${ref.encoding}`);
  if (ref.offset + ref.length >= END) throw r.fail(`reference at ${ref.offset} with ${ref.length} bytes ends past 2^64`);
  if (zero !== 0 || zeros !== 0) throw r.fail('reserved bytes of a reference are not zero');
  return ref;
}
