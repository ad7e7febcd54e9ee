/**
 * How an idle executor waits for its next step: it looks at the ring for some
 * microseconds, then sleeps on it, and only then gives the event loop its turn
 * again. Being woken there costs several times as much.
 * @module
 */
import { availableParallelism } from 'node:os';
import { yieldCore } from './libc.js';

/**
 * How long it looks at most, in ms, and how soon the last message must have come for that. Who calls
 * step after step has the next one sent after 0.15 to 0.4 ms, the longer the colder its
 * caches; to fall asleep and be woken would take another 0.05 to 0.1.
 */
const MAX_SPIN = 0.3;
const WORTH_SPINNING = 0.6;
/** In ms. */
const MAX_SLEEP = 4;
/** A shorter sleep is not worth the call. */
const MIN_SLEEP = 0.05;
/** How long the core is kept: a peer on another core has answered by then, one that has not may be waiting for this one. */
const YIELD_AFTER = 0.004;
const LOOKS = 64;

const canSpin = availableParallelism() > 1;

/** Waits as long as the last waits have taken, when they were short; not at all when they were not. */
class Budget {
  #max;
  #worth;
  value = 0;

  constructor(max, worth) {
    this.#max = max;
    this.#worth = worth;
  }

  learn(waited) {
    if (waited < this.#worth) this.value = this.#max;
    else this.value = this.value < this.#max / 64 ? 0 : this.value / 4;
  }
}

export class Patience {
  #spin = new Budget(MAX_SPIN, WORTH_SPINNING);
  #sleep = new Budget(MAX_SLEEP, MAX_SLEEP);
  #since = 0;

  /** A wait begins. */
  begin() {
    this.#since = performance.now();
  }

  /** What was waited for has come. */
  end() {
    const waited = performance.now() - this.#since;
    this.#spin.learn(waited);
    this.#sleep.learn(waited);
  }

  /**
   * Waits for something to read.
   * @param {import('./lanes.js').LaneReader} lane
   * @returns {boolean} whether there is
   */
  wait(lane) {
    if (lane.hasNews || look(lane, this.#since, this.#spin.value)) return true;
    for (;;) {
      const left = this.#since + this.#sleep.value - performance.now();
      if (left < MIN_SLEEP) return false;
      const isWoken = lane.sleep(process.hrtime.bigint() + BigInt(Math.round(left * 1e6)));
      if (lane.hasNews) return true;
      if (!isWoken) return false;
      // Ahead of a message that is being made.
      if (look(lane, performance.now(), MAX_SPIN)) return true;
    }
  }
}

/** Looks for something to read, for so long from a time on. */
function look(lane, since, time) {
  if (!canSpin || time === 0) return false;
  for (;;) {
    for (let i = 0; i < LOOKS; i++) if (lane.hasNews) return true;
    const spun = performance.now() - since;
    if (spun > time) return false;
    if (spun > YIELD_AFTER) yieldCore();
  }
}
