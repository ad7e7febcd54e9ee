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

/**
 * So many steps and answers make a process one that will see many more. A function
 * gets its budget when it has run eight times, and the next one only when that is
 * used up, a hundred steps later: what is set after more steps than this comes too
 * late for most.
 */
const LONG_LIVED = 7;
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
 * included. A process that lives for long has it compiled sooner. That takes a core
 * some 50 ms more in the first hundreds of steps, and they are back after a thousand.
 */
export function countWork() {
  if (++seen === LONG_LIVED && major <= INTERRUPT_BUDGET) setFlagsFromString('--interrupt-budget=3000');
}
