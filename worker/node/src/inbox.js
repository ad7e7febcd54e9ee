/**
 * What came on a control channel and was not taken yet, in order: from the
 * socket alone, or from the ring and, where that says so, from the socket.
 * @module
 */
import { parseBody } from './frames.js';
import { codeOf } from './messages.js';
import { Asleep } from './lanes.js';
import { close } from './libc.js';
import { HangUpError } from './socket.js';
import { ProtocolError } from './wire.js';

const DOORBELL = codeOf('doorbell');
const FROM_SOCKET = codeOf('from-socket');

/** @typedef {{envelope: import('./frames.js').Envelope, file: number}} Received */

export class Inbox {
  #socket;
  /** @type {import('./lanes.js').LaneReader | null} */
  #lane = null;
  #isAnnounced = false;
  /** @type {Received[]} taken while a send waited */
  #backlog = [];
  /** Why nothing more comes. */
  #end = null;

  /** @param {import('./socket.js').FrameSocket} socket */
  constructor(socket) {
    this.#socket = socket;
  }

  useLane(lane) {
    this.#lane = lane;
  }

  /** Whether the ring's next frame is on the socket. */
  get isAnnounced() {
    return this.#isAnnounced;
  }

  /** Reads the socket once; false when there was nothing. Errors are for next. */
  readSocket() {
    if (this.#end) return false;
    try {
      return this.#socket.read();
    } catch (error) {
      this.#end = error;
      return false;
    }
  }

  /**
   * The next message that is here, if one is.
   * @returns {Received | undefined}
   * @throws why nothing more comes, after all that came
   */
  next() {
    const next = this.#backlog.length > 0 ? this.#backlog.shift() : this.#take();
    if (next === undefined && this.#end) throw this.#end;
    return next;
  }

  /**
   * Takes in all that is here, so that the peer has room again.
   * @throws why nothing more comes
   */
  takeIn() {
    while (this.readSocket());
    for (let next = this.#take(); next; next = this.#take()) this.#backlog.push(next);
    if (this.#end) throw this.#end;
  }

  /** Whether something was taken in, or nothing more comes. */
  get hasBacklog() {
    return this.#backlog.length > 0 || this.#end !== null;
  }

  #take() {
    // What came before a hang-up counts.
    if (this.#end && !(this.#end instanceof HangUpError)) return undefined;
    try {
      return this.#lane ? this.#takeFromLane() : this.#takeFromSocket();
    } catch (error) {
      this.#end = error;
      return undefined;
    }
  }

  #takeFromLane() {
    if (!this.#isAnnounced) {
      const frame = this.#lane.take();
      if (frame === undefined) return this.#assertNothingEarly();
      if (frame.header.type !== FROM_SOCKET) return this.#open(frame);
      this.#isAnnounced = true;
    }
    const received = this.#takeFromSocket();
    if (received) this.#isAnnounced = false;
    return received;
  }

  #takeFromSocket() {
    for (;;) {
      const frame = this.#nextOfSocket();
      if (frame) return this.#open(frame);
      // One that was announced is there already, or on its way.
      if (this.#socket.isDry && !this.#isAnnounced) return undefined;
      if (!this.readSocket()) return undefined;
    }
  }

  #nextOfSocket() {
    for (;;) {
      const frame = this.#socket.next();
      const isDoorbell = frame?.header.type === DOORBELL && frame.file < 0;
      if (!this.#lane || !isDoorbell) return frame;
    }
  }

  /** Of an empty ring: the socket was read before it was found so. */
  #assertNothingEarly() {
    const early = this.#nextOfSocket();
    if (!early) return undefined;
    if (early.file >= 0) close(early.file);
    throw new ProtocolError(`frame of type ${early.header.type} on the socket that the ring does not announce`);
  }

  #open({ header, bytes, view, file = -1 }) {
    try {
      const envelope = parseBody(header, bytes, view);
      if (header.type === DOORBELL || header.type === FROM_SOCKET) throw new ProtocolError(`${envelope.message.type} out of place`);
      return { envelope, file };
    } catch (error) {
      if (file >= 0) close(file);
      throw error;
    }
  }

  /**
   * Has the peer ring for what it writes from now on.
   * @returns {boolean} false when something is here to be taken first
   */
  listen() {
    return !this.#lane || this.#isAnnounced || this.#lane.doze(Asleep.ON_SOCKET);
  }
}
