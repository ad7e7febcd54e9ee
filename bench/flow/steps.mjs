// The steps of the pages in JavaScript: what worker.go does in Go. The file has
// a page a line, as JSON.
import { closeSync, openSync, readSync } from 'node:fs';
import { json, main } from '../../worker/node/src/index.js';

/** Yields the lines of a file, each valid until the next: all lie in one buffer. */
function* lines(path) {
  const file = openSync(path, 'r');
  try {
    let buffer = Buffer.allocUnsafe(1 << 20);
    let [from, to] = [0, 0];
    for (;;) {
      const end = buffer.subarray(0, to).indexOf(10, from);
      if (end >= 0) {
        yield buffer.subarray(from, end);
        from = end + 1;
        continue;
      }
      buffer.copyWithin(0, from, to);
      [from, to] = [0, to - from];
      if (to === buffer.length) buffer = Buffer.concat([buffer, Buffer.allocUnsafe(to)]);
      const n = readSync(file, buffer, to, buffer.length - to);
      if (n === 0) return;
      to += n;
    }
  } finally {
    closeSync(file);
  }
}

main({
  // Reads pages, has two steps work on each, and sums up. own is how long it
  // was at work itself on each page, took all of it.
  pages: async (state, { each }) => {
    const { path, pages, concurrency } = state.configuration;
    const own = [];
    const took = [];
    function* read() {
      const source = lines(path);
      for (let i = 0; i < pages; i++) {
        const begin = performance.now();
        const { done, value } = source.next();
        if (done) throw new Error(`the file has fewer than ${pages} pages`);
        own.push(1e3 * (performance.now() - begin));
        yield json(value);
      }
    }
    const total = { late: 0, delay: 0 };
    let last = performance.now();
    for await (const result of each(read(), 'late', { concurrency, until: 'leaf' })) {
      const begin = performance.now();
      total.late += result.state.total.late;
      total.delay += result.state.total.delay;
      const now = performance.now();
      own[result.index] += 1e3 * (now - begin);
      took.push(1e3 * (now - last));
      last = now;
    }
    return { total, own, took };
  },
  // Keeps the flights that came late, and encodes them in its own time, as Set does in Go.
  late: (state) => ({ data: json(JSON.stringify(state.data.filter((flight) => flight.delay > 15))) }),
  // Sums a page up.
  sum: (state) => ({ total: { late: state.data.length, delay: state.data.reduce((sum, flight) => sum + flight.delay, 0) } }),
});
