// The steps of the pages in JavaScript: what worker.go does in Go. The file has
// a page a line, as JSON.
import { closeSync, openSync, readSync } from 'node:fs';
import { main } from '../../worker/node/src/index.js';

/** Yields the lines of a file, which is read in pieces. */
function* lines(path) {
  const file = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafe(1 << 20);
    let rest = [];
    for (let n; (n = readSync(file, piece)) > 0; ) {
      let from = 0;
      for (let end; (end = piece.subarray(0, n).indexOf(10, from)) >= 0; from = end + 1) {
        rest.push(piece.subarray(from, end));
        yield Buffer.concat(rest).toString('utf8');
        rest = [];
      }
      rest.push(Buffer.from(piece.subarray(from, n)));
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
        const page = JSON.parse(value);
        own.push(1e3 * (performance.now() - begin));
        yield page;
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
  // Keeps the flights that came late.
  late: (state) => ({ data: state.data.filter((flight) => flight.delay > 15) }),
  // Sums a page up.
  sum: (state) => ({ total: { late: state.data.length, delay: state.data.reduce((sum, flight) => sum + flight.delay, 0) } }),
});
