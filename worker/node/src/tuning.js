/**
 * How V8 is set for a process that runs short steps one after the other.
 * @module
 */
import { setFlagsFromString } from 'node:v8';

/** Flags are no part of Node.js' interface: these were tried with its versions from 20 to this one. */
const LAST_KNOWN = 24;

export function tune() {
  if (Number.parseInt(process.versions.node, 10) > LAST_KNOWN) return;
  // V8 collects the young generation as a task of its own when it is nearly full
  // after another: after a step, that is, when the next one is on its way. It is
  // collected in time without that, when it is full.
  setFlagsFromString('--no-minor-gc-task');
  // A step's code, and this library's, runs a few hundred times in a long run; by
  // default V8 would interpret most of it to the end.
  setFlagsFromString('--interrupt-budget=10000');
}
