/**
 * Frames over a Unix stream socket, with descriptors by SCM_RIGHTS. Nothing
 * here ever waits, but for poll.
 * @module
 */
import { HEADER_SIZE, parseHeader, viewOf } from './frames.js';
import * as libc from './libc.js';
import { ProtocolError } from './wire.js';

const READ_SIZE = 16 << 10;
const MAX_IDLE_BUFFER = 64 << 10;
const MAX_UNCLAIMED_FILES = 8;

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CTRUNC = 0x8;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const POLLIN = 1;
const POLLOUT = 4;

/** The peer closed its end. */
export class HangUpError extends Error {
  name = 'HangUpError';
  constructor() {
    super('the peer of the control channel hung up');
  }
}

/** A `struct msghdr` with one iovec and room for control data. */
class Message {
  #memory = new Uint8Array(new ArrayBuffer(56 + 16 + 64));
  #view = new DataView(this.#memory.buffer);
  #address = libc.addressOf(this.#memory);

  /** Points the message at bytes; control is the room or size of control data. */
  set(bytes, from, to, control) {
    const v = this.#view;
    v.setBigUint64(16, this.#address + 56n, true); // iov
    v.setBigUint64(24, 1n, true); // iovlen
    v.setBigUint64(32, control ? this.#address + 72n : 0n, true);
    v.setBigUint64(40, BigInt(control), true);
    v.setInt32(48, 0, true);
    v.setBigUint64(56, libc.addressOf(bytes) + BigInt(from), true);
    v.setBigUint64(64, BigInt(to - from), true);
    return this.#memory;
  }
  get flags() {
    return this.#view.getInt32(48, true);
  }
  get controlSize() {
    return Number(this.#view.getBigUint64(40, true));
  }
  /** Writes control data that carries one descriptor. */
  attachFile(fd) {
    this.#view.setBigUint64(72, 20n, true);
    this.#view.setInt32(80, SOL_SOCKET, true);
    this.#view.setInt32(84, SCM_RIGHTS, true);
    this.#view.setInt32(88, fd, true);
  }
  /** The descriptors in the control data received. */
  files() {
    const fds = [];
    const end = 72 + Math.min(this.controlSize, 64);
    for (let at = 72; at + 16 <= end; ) {
      const size = Number(this.#view.getBigUint64(at, true));
      if (size < 16 || at + size > end) break;
      const level = this.#view.getInt32(at + 8, true);
      const type = this.#view.getInt32(at + 12, true);
      if (level === SOL_SOCKET && type === SCM_RIGHTS) {
        for (let i = at + 16; i + 4 <= at + size; i += 4) fds.push(this.#view.getInt32(i, true));
      }
      at += (size + 7) & ~7;
    }
    return fds;
  }
}

/**
 * @typedef {object} Frame as it came
 * @property {import('./frames.js').Header} header
 * @property {Uint8Array} bytes that begin with the frame, valid until the socket is read again
 * @property {DataView} view of the same
 * @property {number} file the descriptor that it brought, or -1
 */

export class FrameSocket {
  #fd;
  #buffer = new Uint8Array(new ArrayBuffer(READ_SIZE));
  #from = 0;
  #to = 0;
  #files = [];
  #in = new Message();
  #out = new Message();
  #pollFd = new Uint8Array(new ArrayBuffer(8));
  #pollView = new DataView(this.#pollFd.buffer);
  /** Whether the last read had room for more than there was. */
  isDry = false;

  /** @param {number} fd taken over */
  constructor(fd) {
    this.#fd = fd;
  }

  /** Calls back from the event loop whenever there is something to read; see libc. */
  whenReadable(callback) {
    return libc.whenReadable(this.#fd, callback);
  }

  /**
   * Writes as much of bytes as there is room for, with a descriptor if file is not negative.
   * @returns {number} how much; 0 is none, and nothing was sent
   */
  write(bytes, file = -1) {
    for (;;) {
      const n = file < 0 ? libc.send(this.#fd, bytes, bytes.length, MSG_NOSIGNAL | MSG_DONTWAIT) : this.#sendFile(bytes, file);
      if (n >= 0) return n;
      const error = libc.errno();
      if (error === libc.EAGAIN) return 0;
      if (error === libc.EPIPE || error === libc.ECONNRESET) throw new HangUpError();
      if (error !== libc.EINTR) throw new libc.SystemError('send on the control channel', error);
    }
  }

  #sendFile(bytes, file) {
    this.#out.attachFile(file);
    return libc.sendmsg(this.#fd, this.#out.set(bytes, bytes.byteOffset, bytes.byteOffset + bytes.length, 24), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  /**
   * Waits until there is something to read or, with forRoom, room to write.
   * @param {number} time in ms
   */
  poll(forRoom, time) {
    const v = this.#pollView;
    v.setInt32(0, this.#fd, true);
    v.setInt16(4, forRoom ? POLLIN | POLLOUT : POLLIN, true);
    v.setInt16(6, 0, true);
    libc.poll(this.#pollFd, 1, time);
  }

  /** Reads once; false when there was nothing. */
  read() {
    this.#makeRoom();
    const room = this.#buffer.length - this.#to;
    const message = this.#in.set(this.#buffer, this.#to, this.#buffer.length, 64);
    const n = libc.recvmsg(this.#fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    this.isDry = n < room;
    if (n < 0) {
      const error = libc.errno();
      if (error === libc.EAGAIN) return false;
      if (error === libc.EINTR) return true;
      if (error === libc.ECONNRESET) throw new HangUpError();
      throw new libc.SystemError('recvmsg on the control channel', error);
    }
    if (this.#in.controlSize > 0) this.#files.push(...this.#in.files());
    if (this.#in.flags & MSG_CTRUNC || this.#files.length > MAX_UNCLAIMED_FILES) {
      throw new ProtocolError(`more than ${MAX_UNCLAIMED_FILES} descriptors that no frame declares`);
    }
    if (n === 0) {
      if (this.#to > this.#from) throw new ProtocolError('frame cut short by a hang-up');
      throw new HangUpError();
    }
    this.#to += n;
    return true;
  }

  #makeRoom() {
    const unread = this.#to - this.#from;
    let need = READ_SIZE / 4;
    if (unread >= HEADER_SIZE) need = Math.max(need, this.#header().size - unread);
    if (unread === 0 && this.#buffer.length > MAX_IDLE_BUFFER) {
      this.#buffer = new Uint8Array(new ArrayBuffer(READ_SIZE));
    } else if (this.#buffer.length - this.#to < need) {
      const size = this.#buffer.length - unread >= need ? this.#buffer.length : unread + need + READ_SIZE;
      const bytes = size === this.#buffer.length ? this.#buffer : new Uint8Array(new ArrayBuffer(size));
      bytes.set(this.#buffer.subarray(this.#from, this.#to));
      this.#buffer = bytes;
    } else if (unread > 0 || this.#from === 0) {
      return;
    }
    this.#from = 0;
    this.#to = unread;
  }

  #header() {
    return parseHeader(viewOf(this.#buffer), this.#from);
  }

  /**
   * Takes the next whole frame that was read, if there is one.
   * @returns {Frame | undefined}
   */
  next() {
    const unread = this.#to - this.#from;
    if (unread < HEADER_SIZE) return undefined;
    const header = this.#header();
    if (unread < header.size) return undefined;
    const bytes = this.#buffer.subarray(this.#from, this.#from + header.size);
    this.#from += header.size;
    const file = header.files > 0 ? this.#files.shift() : -1;
    if (file === undefined) throw new ProtocolError(`frame of type ${header.type}: a descriptor was declared and none was sent`);
    if (this.#from === this.#to && this.#files.length > 0) {
      throw new ProtocolError(`frame of type ${header.type}: ${this.#files.length} descriptors came that no frame declares`);
    }
    return { header, bytes, view: viewOf(bytes), file };
  }

  close() {
    for (const fd of this.#files) libc.close(fd);
    this.#files = [];
    libc.close(this.#fd);
  }
}
