/**
 * What goes out on a control channel: by the socket alone, or by the ring and,
 * for frames that it cannot take, by the socket at their turn.
 * @module
 */
import { encodeFrame } from './frames.js';
import { Asleep } from './lanes.js';
import { yieldCore } from './libc.js';

/** Frames that may wait for each other are held for so long in ms, or up to so many bytes. */
const HOLD_TIME = 4;
const HOLD_SIZE = 32 << 10;
/** So many of them go at once before any is held; then one for each ms. */
const BURST = 100;
/** So often a full ring is looked at with no more than a yield between, then every millisecond. */
const YIELDS = 100;

const DOORBELL = encodeFrame({ message: { type: 'doorbell' } });
const FROM_SOCKET = encodeFrame({ message: { type: 'from-socket' } });

export class Outbox {
  #socket;
  /** @type {import('./lanes.js').LaneWriter | null} */
  #lane = null;
  #timeout;
  #takeIn;
  #onError;
  /** Frames that wait, without a ring. */
  #held = null;
  /** Bytes that wait: without a ring to be sent, with one for the peer to be woken. */
  #heldSize = 0;
  #heldSince = 0;
  #heldTimer = null;
  /** Whether the ring has frames of which the peer was not told. */
  #isUntold = false;
  #credit = BURST;
  #creditTime = 0;

  /**
   * @param {import('./socket.js').FrameSocket} socket
   * @param {() => void} takeIn takes in what the peer has sent: two sides that
   *   both wait for room would otherwise wait for each other
   * @param {(error: Error) => void} onError gets what went wrong when nobody waited
   * @param {number} timeout how long to wait for a peer that does not read, in ms
   */
  constructor(socket, takeIn, onError, timeout) {
    this.#socket = socket;
    this.#takeIn = takeIn;
    this.#onError = onError;
    this.#timeout = timeout;
  }

  /** Frames go by the ring from now on. */
  useLane(lane) {
    this.flush();
    this.#lane = lane;
  }

  /** Writes a frame, with a descriptor if file is not negative. A peer that sleeps is not woken before flush. */
  put(frame, file = -1) {
    if (!this.#lane) this.flush();
    this.#write(frame, file);
  }

  /**
   * Sends a frame at once, or, where many came in a short time, with those that
   * follow: each send may wake the peer, which costs more than the frame. It
   * keeps its place in the order, and waits for HOLD_TIME at most as long as
   * either the event loop turns or the next frame comes.
   * @param {number} now of performance.now()
   */
  sendSoon(frame, now) {
    this.#credit = Math.min(BURST, this.#credit + now - this.#creditTime);
    this.#creditTime = now;
    const mayHold = this.#credit < 1 || this.#heldSize > 0;
    this.#credit = Math.max(-BURST, this.#credit - 1);
    if (this.#heldSize + frame.length > HOLD_SIZE) this.flush();
    if (!mayHold || frame.length > HOLD_SIZE) {
      this.put(frame);
      return this.flush();
    }
    if (this.#heldSize === 0) this.#beginHold(now);
    this.#hold(frame);
    if (now - this.#heldSince >= HOLD_TIME) this.flush();
  }

  #beginHold(now) {
    this.#heldSince = now;
    this.#heldTimer ??= setTimeout(() => {
      this.#heldTimer = null;
      try {
        this.flush();
      } catch (error) {
        this.#onError(error);
      }
    }, HOLD_TIME);
  }

  #hold(frame) {
    if (this.#lane) {
      this.#write(frame, -1);
    } else {
      this.#held ??= new Uint8Array(new ArrayBuffer(HOLD_SIZE));
      this.#held.set(frame, this.#heldSize);
    }
    this.#heldSize += frame.length;
  }

  /** Sends what is held, and wakes the peer. */
  flush() {
    const size = this.#heldSize;
    this.#heldSize = 0;
    if (this.#lane) {
      if (this.#isUntold) this.#wake();
    } else if (size > 0) {
      this.#write(this.#held.subarray(0, size), -1);
    }
  }

  /** Wakes a peer that sleeps on the ring, ahead of a frame that is being made: waking takes as long as making it. */
  alert() {
    if (this.#lane && this.#lane.sleeper >= Asleep.ON_WORD) this.#wake();
  }

  /** Writes bytes of whole frames; with a ring of one, and the peer is not woken yet. */
  #write(bytes, file) {
    if (!this.#lane) return this.#writeSocket(bytes, file);
    if (file < 0 && bytes.length <= this.#lane.maxFrame) return this.#writeLane(bytes);
    // The ring alone gives the order. The announcement comes first, so that the
    // peer never finds a frame on the socket that it does not expect.
    this.#writeLane(FROM_SOCKET);
    // One that sleeps on the socket is woken by the frame itself.
    if (this.#lane.sleeper !== Asleep.ON_SOCKET) this.#wake();
    this.#isUntold = false;
    this.#writeSocket(bytes, file);
  }

  #wake() {
    this.#isUntold = false;
    const how = this.#lane.takeSleeper();
    if (how === Asleep.ON_SOCKET) this.#writeSocket(DOORBELL, -1);
    else if (how !== Asleep.NO) this.#lane.wake(how);
  }

  #writeLane(frame) {
    let attempts = 0;
    if (!this.#lane.write(frame)) {
      this.#untilDone(
        () => this.#lane.write(frame),
        () => {
          this.#wake();
          if (++attempts <= YIELDS) yieldCore();
          else this.#socket.poll(false, 1);
        },
      );
    }
    this.#isUntold = true;
  }

  #writeSocket(bytes, file) {
    let at = this.#socket.write(bytes, file);
    if (at === bytes.length) return;
    this.#untilDone(
      () => {
        at += at === 0 ? this.#socket.write(bytes, file) : this.#socket.write(bytes.subarray(at));
        return at === bytes.length;
      },
      () => this.#socket.poll(true, 1),
    );
  }

  /** Tries again until it is done, or the peer is taken for dead. */
  #untilDone(attempt, pause) {
    const until = performance.now() + this.#timeout;
    while (!attempt()) {
      if (performance.now() >= until) throw new Error(`the supervisor does not read its control channel: ${this.#timeout} ms without room for a frame`);
      this.#takeIn();
      pause();
    }
  }

  close() {
    clearTimeout(this.#heldTimer);
  }
}
