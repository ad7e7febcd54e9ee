/**
 * One end of a control channel: frames over a Unix stream socket, with
 * descriptors by SCM_RIGHTS. Reading is driven by the event loop (libuv polls
 * the socket, then `recvmsg` never waits); sending is synchronous, so that a
 * message is with the kernel before the call returns, even when the process
 * dies right after. Only of a flood of log lines the last milliseconds may be
 * lost with it.
 * @module
 */
import * as libc from './libc.js';
import { HEADER_SIZE, encodeFrame, parseFrame, parseHeader } from './frames.js';
import { ProtocolError, Writer } from './wire.js';

const READ_SIZE = 16 << 10;
const MAX_IDLE_BUFFER = 64 << 10;
const MAX_UNCLAIMED_FILES = 8;
/** Frames that may wait for each other are held for so long in ms, or up to so many bytes. */
const HOLD_TIME = 4;
const HOLD_SIZE = 32 << 10;
/** So many of them go at once before any is held; then one for each ms. */
const BURST = 100;
/** How long a send may wait for a peer that does not read, in ms. */
const SEND_TIMEOUT = 10_000;

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

/** One end of a control channel. */
export class Channel {
  #fd;
  #poll = null;
  #buffer = new Uint8Array(new ArrayBuffer(READ_SIZE));
  #from = 0;
  #to = 0;
  #files = [];
  #in = new Message();
  #out = new Message();
  #writer = new Writer();
  #later = null;
  #held = null;
  #heldSize = 0;
  #heldSince = 0;
  #heldTimer = null;
  #credit = BURST;
  #creditTime = 0;
  #closed = false;
  #onMessage;
  #onEnd;

  /**
   * @param {number} fd a connected Unix stream socket, taken over
   * @param {object} handlers
   * @param {(envelope: import('./frames.js').Envelope, file: number) => void} handlers.onMessage
   *   gets each message and the descriptor that came with it (-1 for none), which it owns
   * @param {(error: Error) => void} handlers.onEnd called once: hang-up or breach of the protocol
   */
  constructor(fd, { onMessage, onEnd }) {
    this.#fd = fd;
    this.#onMessage = onMessage;
    this.#onEnd = onEnd;
    this.#poll = libc.whenReadable(fd, () => this.#read());
  }

  get isClosed() {
    return this.#closed;
  }

  /** Bytes of frames sent and received. */
  sentBytes = 0;
  receivedBytes = 0;

  /**
   * Sends one message, with a descriptor if file is not negative (it stays the
   * caller's).
   */
  send(envelope, file = -1) {
    this.flush();
    if (this.#closed) throw new HangUpError();
    this.#put(encodeFrame({ ...envelope, files: file >= 0 ? 1 : 0 }, this.#writer), file);
  }

  /**
   * Sends one message at once, or, where many came in a short time, with those
   * that follow: each send wakes the peer, which costs more than the message. It
   * keeps its place in the order, and waits for HOLD_TIME at most as long as
   * either the event loop turns or the next message comes.
   * @param {number} now of performance.now()
   */
  sendSoon(envelope, now) {
    this.#credit = Math.min(BURST, this.#credit + now - this.#creditTime);
    this.#creditTime = now;
    if (this.#credit >= 1 && this.#heldSize === 0) {
      this.#credit--;
      return this.send(envelope);
    }
    if (this.#closed) throw new HangUpError();
    this.#credit = Math.max(-BURST, this.#credit - 1);
    const bytes = encodeFrame(envelope, this.#writer);
    if (this.#heldSize + bytes.length > HOLD_SIZE) this.flush();
    if (bytes.length > HOLD_SIZE) return this.#put(bytes, -1);
    if (this.#heldSize === 0) {
      this.#held ??= new Uint8Array(new ArrayBuffer(HOLD_SIZE));
      this.#heldSince = now;
      this.#heldTimer ??= setTimeout(() => {
        this.#heldTimer = null;
        try {
          this.flush();
        } catch (error) {
          this.close();
          this.#onEnd(error);
        }
      }, HOLD_TIME);
    }
    this.#held.set(bytes, this.#heldSize);
    this.#heldSize += bytes.length;
    if (now - this.#heldSince >= HOLD_TIME) this.flush();
  }

  /** Sends what is held. */
  flush() {
    if (this.#heldSize === 0) return;
    const bytes = this.#held.subarray(0, this.#heldSize);
    this.#heldSize = 0;
    if (!this.#closed) this.#put(bytes, -1);
  }

  /** Sends bytes of whole frames, to the last one. */
  #put(bytes, file) {
    this.sentBytes += bytes.length;
    let at = 0;
    if (file >= 0) {
      this.#out.attachFile(file);
      at = this.#try(() => libc.sendmsg(this.#fd, this.#out.set(bytes, bytes.byteOffset, bytes.byteOffset + bytes.length, 24), MSG_NOSIGNAL | MSG_DONTWAIT));
    }
    while (at < bytes.length) {
      const rest = at === 0 ? bytes : bytes.subarray(at);
      at += this.#try(() => libc.send(this.#fd, rest, rest.length, MSG_NOSIGNAL | MSG_DONTWAIT));
    }
  }

  #try(call) {
    for (;;) {
      const n = call();
      if (n >= 0) return n;
      const error = libc.errno();
      if (error === libc.EAGAIN) this.#waitWritable();
      else if (error === libc.EPIPE || error === libc.ECONNRESET) throw new HangUpError();
      else if (error !== libc.EINTR) throw new libc.SystemError('send on the control channel', error);
    }
  }

  /**
   * Waits for room, and meanwhile takes in what comes: two sides that both
   * wait for room would otherwise wait for each other.
   */
  #waitWritable() {
    const fds = new Uint8Array(new ArrayBuffer(8));
    const view = new DataView(fds.buffer);
    const until = performance.now() + SEND_TIMEOUT;
    for (;;) {
      view.setInt32(0, this.#fd, true);
      view.setInt16(4, POLLOUT | POLLIN, true);
      view.setInt16(6, 0, true);
      libc.poll(fds, 1, Math.max(0, until - performance.now()));
      const events = view.getInt16(6, true);
      if (events & ~POLLIN) return;
      if (events & POLLIN && this.#receive()) this.#dispatchLater();
      if (performance.now() >= until) throw new Error(`the supervisor does not read its control channel: ${SEND_TIMEOUT} ms without room for a frame`);
    }
  }

  #dispatchLater() {
    this.#later ??= setImmediate(() => {
      this.#later = null;
      this.#read();
    });
  }

  #read() {
    try {
      this.#dispatch();
      while (!this.#closed && this.#receive()) this.#dispatch();
    } catch (error) {
      this.close();
      this.#onEnd(error);
    }
  }

  /** Reads once; false when there is nothing more to read now. */
  #receive() {
    this.#makeRoom();
    const message = this.#in.set(this.#buffer, this.#to, this.#buffer.length, 64);
    const n = libc.recvmsg(this.#fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
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
    this.receivedBytes += n;
    return true;
  }

  #makeRoom() {
    const unread = this.#to - this.#from;
    let need = READ_SIZE / 4;
    if (unread >= HEADER_SIZE) {
      need = Math.max(need, parseHeader(this.#buffer.subarray(this.#from, this.#to)).size - unread);
    }
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

  /** Gives out every whole frame that was read. */
  #dispatch() {
    while (!this.#closed && this.#to - this.#from >= HEADER_SIZE) {
      const { size } = parseHeader(this.#buffer.subarray(this.#from, this.#to));
      if (this.#to - this.#from < size) return;
      const envelope = parseFrame(this.#buffer.subarray(this.#from, this.#from + size));
      this.#from += size;
      let file = -1;
      if (envelope.files === 1) {
        if (this.#files.length === 0) throw new ProtocolError(`${envelope.message.type}: a descriptor was declared and none was sent`);
        file = this.#files.shift();
      }
      if (this.#from === this.#to && this.#files.length > 0) {
        throw new ProtocolError(`${envelope.message.type}: ${this.#files.length} descriptors came that no frame declares`);
      }
      this.#onMessage(envelope, file);
    }
  }

  /** Closes this end. A second close does nothing. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearImmediate(this.#later);
    clearTimeout(this.#heldTimer);
    this.#poll.stop();
    this.#poll.close?.();
    for (const fd of this.#files) libc.close(fd);
    this.#files = [];
    libc.close(this.#fd);
  }
}
