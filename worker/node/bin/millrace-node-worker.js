#!/usr/bin/env node
// The generic executor: runs the steps of kind "javascript" that it is given.
import { main } from '../src/index.js';

try {
  main();
} catch (error) {
  process.stderr.write(`millrace-node-worker: ${error.message}\n`);
  process.exitCode = 2;
}
