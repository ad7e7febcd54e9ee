/**
 * How V8 is set for a process that runs short steps one after the other.
 * @module
 */
import { setFlagsFromString } from 'node:v8';

const major = Number.parseInt(process.versions.node, 10);

/** Flags are no part of Node.js' interface: the last version that each was tried with. */
const MINOR_GC_TASK = 24;
/** Later versions have a compiler between the interpreter and the slow one, and no such flag. */
const INTERRUPT_BUDGET = 20;

/** So many steps and answers make a process one that will see many more. */
const LONG_LIVED = 300;
let seen = 0;

/**
 * V8 collects the young generation as a task of its own when a task has left it
 * nearly full: after a step, that is, when the next one is on its way. Without
 * that it is collected when it is full, in time.
 */
export function collectWhenFull() {
  if (major <= MINOR_GC_TASK) setFlagsFromString('--no-minor-gc-task');
}

/**
 * Tells of a step or an answer. By default V8 interprets most of what runs a
 * thousand times for some microseconds, this library and a step's own code
 * included. A process that lives for long has it compiled sooner; in one that does
 * not, compiling would cost more than it saves.
 */
export function countWork() {
  if (++seen === LONG_LIVED && major <= INTERRUPT_BUDGET) setFlagsFromString('--interrupt-budget=5000');
}
