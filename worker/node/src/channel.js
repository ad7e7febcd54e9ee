/**
 * One end of a control channel: a Unix stream socket and, once the handshake has
 * brought one, a ring in shared memory. Receiving is driven by the event loop
 * (libuv polls the socket); sending is synchronous, so that a message has left
 * this process before the call returns, even when it dies right after. Only of
 * a flood of log lines the last milliseconds may be lost with it.
 * @module
 */
import { encodeFrame } from './frames.js';
import { Inbox } from './inbox.js';
import { Outbox } from './outbox.js';
import { Patience } from './patience.js';
import { FrameSocket, HangUpError } from './socket.js';
import { Writer } from './wire.js';

const SEND_TIMEOUT = 10_000;
/** So many messages are given out before the event loop has its turn. */
const MAX_BATCH = 256;

export class Channel {
  #socket;
  #inbox;
  #outbox;
  #lanes = null;
  #poll;
  #writer = new Writer();
  #later = null;
  #forStep = new Patience();
  #forAnswer = new Patience();
  /** How it waits, when this process has nothing to do before the next message. */
  #waiting = null;
  #lookOut = null;
  #isOutputLeftOut = false;
  #closed = false;
  #onMessage;
  #onEnd;

  /**
   * @param {number} fd a connected Unix stream socket, taken over
   * @param {object} handlers
   * @param {(envelope: import('./frames.js').Envelope, file: number) => void} handlers.onMessage
   *   gets each message and the descriptor that came with it (-1 for none), which it owns
   * @param {(error: Error) => void} handlers.onEnd called once: hang-up or breach of the protocol
   * @param {number} [handlers.sendTimeout] how long a send may wait for a peer that does not read, in ms
   */
  constructor(fd, { onMessage, onEnd, sendTimeout = SEND_TIMEOUT }) {
    this.#onMessage = onMessage;
    this.#onEnd = onEnd;
    this.#socket = new FrameSocket(fd);
    this.#inbox = new Inbox(this.#socket);
    this.#outbox = new Outbox(
      this.#socket,
      () => this.#takeIn(),
      (error) => this.#fail(error),
      sendTimeout,
    );
    this.#poll = this.#socket.whenReadable((error) => {
      if (error !== 0) while (this.#inbox.readSocket());
      // Messages come before the doorbell that tells of them: reading it takes
      // as long as they do, and it can wait for the event loop's next turn.
      else if (!this.#lanes?.in.hasNews) this.#inbox.readSocket();
      this.#read();
    });
  }

  get isClosed() {
    return this.#closed;
  }

  /**
   * Has messages go through a ring from now on. The executor calls it before it
   * returns from the welcome, the supervisor once that is sent.
   * @param {import('./lanes.js').Lanes} lanes taken over
   */
  useRing(lanes) {
    this.#lanes = lanes;
    this.#inbox.useLane(lanes.in);
    this.#outbox.useLane(lanes.out);
    this.#readLater();
  }

  /**
   * Sends one message, with a descriptor if file is not negative (it stays the
   * caller's).
   * @param {object} [before] one that goes ahead; the peer is woken once for both
   */
  send(envelope, file = -1, before = undefined) {
    if (this.#closed) throw new HangUpError();
    try {
      if (before) this.#outbox.put(encodeFrame(before, this.#writer));
      this.#outbox.put(encodeFrame(file < 0 ? envelope : { ...envelope, files: 1 }, this.#writer), file);
    } finally {
      this.#outbox.flush();
    }
  }

  /** Says that a message is being made. */
  alert() {
    if (!this.#closed) this.#outbox.alert();
  }

  /** Sends one message, but where there are many not each of them at once. */
  sendSoon(envelope, now) {
    if (this.#closed) throw new HangUpError();
    this.#outbox.sendSoon(encodeFrame(envelope, this.#writer), now);
  }

  /**
   * Says that nothing is under way in this process, so that it may block for a
   * while; not before the event loop has turned once.
   */
  idle() {
    this.#begin(this.#forStep);
  }

  /** Says that an answer is awaited: the same, but only while the event loop has nothing else to do. */
  expect() {
    if (this.#waiting !== this.#forAnswer) this.#begin(this.#forAnswer);
  }

  /** Takes either back: what was waited for is here. */
  busy() {
    this.#waiting?.end();
    this.#waiting = null;
  }

  #begin(patience) {
    if (!this.#lanes) return;
    this.#waiting = patience;
    this.#lanes.in.stayAwake(); // what comes until it blocks is found without a doorbell
    if (!this.#inbox.hasBacklog) { // that listens, and the wait reads as well
      clearImmediate(this.#later);
      this.#later = null;
    }
    patience.begin();
    this.#wait();
  }

  #wait() {
    this.#lookOut ??= setImmediate(() => {
      this.#lookOut = null;
      if (!this.#waiting || this.#closed) return;
      if (!this.#mayBlock() || !this.#waiting.wait(this.#lanes.in)) return this.#read();
      this.receive();
      if (this.#closed) return;
      if (this.#waiting) this.#wait();
      // A step is at work. Where it lets the event loop turn, what comes for it
      // is listened for; most do not, and the peer need not ring for any.
      else this.#readLater();
    });
  }

  /**
   * Between two steps anything may wait for some milliseconds. What a step has
   * under way beside its calls may not, as far as Node.js tells: not of work in
   * its thread pool that is no file's, nor of worker threads.
   */
  #mayBlock() {
    if (this.#inbox.isAnnounced) return false;
    if (this.#waiting === this.#forStep) return true;
    if (process.getActiveResourcesInfo().length === 0) return true;
    if (this.#isOutputLeftOut) return false;
    this.#isOutputLeftOut = true;
    leaveOutOutput();
    return process.getActiveResourcesInfo().length === 0;
  }

  #takeIn() {
    try {
      this.#inbox.takeIn();
    } finally {
      if (this.#inbox.hasBacklog) this.#readLater();
    }
  }

  #readLater() {
    this.#later ??= setImmediate(() => {
      this.#later = null;
      this.#read();
    });
  }

  /** Gives out what is here, and listens for more. */
  #read() {
    this.#giveOut(() => this.#inbox.listen());
  }

  /** Gives out what is here. */
  receive() {
    this.#giveOut(() => true);
  }

  #giveOut(isEnough) {
    try {
      for (let i = 0; i < MAX_BATCH; i++) {
        const next = this.#inbox.next();
        if (next) this.#onMessage(next.envelope, next.file);
        else if (isEnough()) return;
        if (this.#closed) return;
      }
      this.#readLater();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error) {
    this.close();
    this.#onEnd(error);
  }

  /** Closes this end. A second close does nothing. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    clearImmediate(this.#later);
    clearImmediate(this.#lookOut);
    this.#poll.stop();
    this.#poll.close?.();
    this.#outbox.close();
    this.#lanes?.close();
    this.#socket.close();
  }
}

/**
 * Takes this process's own output out of Node.js' active resources, among which it stands
 * from the first time that anybody has touched it, as node:util does from version 22 on.
 * Writing to a pipe does not need the event loop.
 */
function leaveOutOutput() {
  for (const stream of [process.stdout, process.stderr]) stream.unref?.();
}
