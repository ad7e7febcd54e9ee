/**
 * What one execution may read and refer to: its input, and the results of its
 * calls until they are forgotten. All of it ends with the step.
 * @module
 */
import { Input } from './lazy.js';

export class Scope {
  #segments;
  #stream;
  /** @type {Set<Input>} */
  #open = new Set();
  #decodedBefore = 0;

  /**
   * @param {import('./segments.js').Segments} segments
   * @param {(origin: import('./lazy.js').Origin) => object} [stream] makes what stands for a stream in a state
   */
  constructor(segments, stream) {
    this.#segments = segments;
    this.#stream = stream;
  }

  /**
   * @param {import('./frames.js').Table} table
   * @param {boolean} [tracked] see Input
   */
  open(table, tracked = false) {
    const input = new Input(table, this.#segments, { tracked, stream: this.#stream });
    this.#open.add(input);
    return input;
  }

  /** @param {string} [why] see Input.close */
  close(input, why) {
    if (!this.#open.delete(input)) return;
    this.#decodedBefore += input.decoded;
    input.close(why);
  }

  closeAll() {
    for (const input of this.#open) this.close(input);
  }

  /** Bytes of all values decoded so far. */
  get decoded() {
    let n = this.#decodedBefore;
    for (const input of this.#open) n += input.decoded;
    return n;
  }
}
