// How steps fail, and what they cannot do to their executor.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FUNCTIONS, Supervisor } from './stub.js';

async function withExecutor(fn, options) {
  const s = await Supervisor.start({ program: FUNCTIONS, ...options });
  try {
    await fn(s);
  } finally {
    if (!s.exit) s.child.kill('SIGKILL');
    await s.exited;
  }
}

const brief = (r) => [r.type, r.severity, r.name, r.message];

test('what a function throws has OpenFn names', () =>
  withExecutor(async (s) => {
    assert.deepEqual(brief(await s.fn('typeError', {})), ['fail', 'fail', 'RuntimeError', "TypeError: Cannot read properties of undefined (reading 'x')"]);
    assert.deepEqual(brief(await s.fn('throwText', {})), ['fail', 'fail', 'JobError', 'just text']);
    assert.deepEqual(brief(await s.fn('throwNull', {})), ['fail', 'fail', 'JobError', 'null']);
    assert.deepEqual(brief(await s.fn('notThere', {})).slice(0, 3), ['fail', 'crash', 'ValidationError']);
    assert.equal((await s.fn('number', {})).state, 42);
  }));

for (const [name, want] of [
  ['exit', ['fail', 'crash', 'ExitError', 'Process exited with code: 3']],
  ['exitLater', ['fail', 'crash', 'ExitError', 'Process exited with code: 0']],
  ['uncaught', ['fail', 'crash', 'ExecutionError', 'later']],
  ['rejection', ['fail', 'crash', 'ExecutionError', 'nobody waits']],
]) {
  test(`${name}: the step fails, then the process ends`, () =>
    withExecutor(async (s) => {
      assert.deepEqual(brief(await s.fn(name, {})), want);
      await s.exited;
    }));
}

test('a hang-up ends the process at once, whatever the step waits for', () =>
  withExecutor(async (s) => {
    const pending = s.fn('hang', {}).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 50));
    s.channel.close();
    assert.deepEqual(await s.exited, { code: 0, signal: null });
    void pending;
  }));

test('shutdown ends an idle executor', () =>
  withExecutor(async (s) => {
    s.channel.send({ message: { type: 'shutdown' } });
    assert.deepEqual(await s.exited, { code: 0, signal: null });
  }));

test('SIGINT is the supervisor\'s affair', () =>
  withExecutor(async (s) => {
    s.child.kill('SIGINT');
    assert.equal((await s.fn('number', {})).state, 42);
  }));

test('a cancelled step is answered; one that listens lets its executor live', () =>
  withExecutor(async (s) => {
    const code = s.prepare('function', { function: 'signal' });
    const execute = (c) => s.request({ type: 'execute', code: c, run: 'r', step: 's', attempt: 1 });
    const soon = () => new Promise((resolve) => setTimeout(resolve, 50));
    const listens = execute(code);
    await soon();
    s.channel.send({ id: listens.id, message: { type: 'cancel', reason: 'enough' } });
    const { message } = await listens;
    assert.deepEqual(brief(message), ['fail', 'cancel', 'CancelError', 'enough']);
    assert.equal((await s.fn('number', {})).state, 42);
    const hangs = execute(s.prepare('function', { function: 'hang' }));
    await soon();
    s.channel.send({ id: hangs.id, message: { type: 'cancel', reason: 'enough' } });
    assert.equal((await hangs).message.severity, 'cancel');
    await s.exited;
  }));

test('pings are answered while a step waits', () =>
  withExecutor(async (s) => {
    const hangs = s.request({ type: 'execute', code: s.prepare('function', { function: 'hang' }), run: 'r', step: 's', attempt: 1 });
    hangs.catch(() => {});
    const { message } = await s.request({ type: 'ping' });
    assert.equal(message.type, 'pong');
  }));

test('logs have a source, a level and JSON arguments', () =>
  withExecutor(async (s) => {
    const { logs } = await s.fn('log', {});
    assert.deepEqual(
      logs.map((l) => [l.source, l.level, l.structured, JSON.parse(l.message)]),
      [
        ['adaptor', 'info', true, ['adaptor', { a: 1 }]],
        ['job', 'warn', true, ['job', 'undefined', '1', { name: 'Error', message: 'logged' }]],
      ],
    );
    assert.ok(Math.abs(Number(logs[0].time) / 1000 - Date.now()) < 5000);
  }));

for (const [name, lines] of [['flood', 5000], ['floodAndExit', 500]]) {
  test(`a flood of lines comes whole, in order and before the end: ${name}`, () =>
    withExecutor(async (s) => {
      const { logs } = await s.fn(name, {});
      assert.deepEqual(logs.map((l) => JSON.parse(l.message)[0]), Array.from({ length: lines }, (_, i) => i));
    }));
}

for (const [name, lines] of [['floodAndWait', 500], ['linesAndSpin', 50]]) {
  test(`lines come while their step goes on: ${name}`, () =>
    withExecutor(async (s) => {
      s.fn(name, {}).catch(() => {});
      while (s.logs.length < lines) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(JSON.parse(s.logs.at(-1).message)[0], lines - 1);
    }));
}

test('the context of a function', () =>
  withExecutor(async (s) => {
    assert.deepEqual((await s.fn('context', {})).state, { step: 'step', run: 'run', attempt: 1, upstream: 'before' });
  }));

test('a heap that is used up ends the process, not the supervisor', () =>
  withExecutor(
    async (s) => {
      await assert.rejects(s.fn('oom', {}), { name: 'HangUpError' });
      await s.exited;
      assert.notEqual(s.exit.code, 0);
      assert.match(s.stderr, /heap/i);
    },
    { nodeFlags: ['--max-old-space-size=32'] },
  ));

test('bytes that are no frame end the executor', () =>
  withExecutor(async (s) => {
    const before = s.child.pid;
    assert.ok(before);
    s.channel.send({ message: { type: 'execute', code: 99n, run: 'r', step: 's', attempt: 1 }, id: 5n });
    // Code that was never prepared is answered, a message meant for the other side is not.
    s.channel.send({ message: { type: 'welcome', version: 1 } });
    await s.exited;
    assert.equal(s.exit.code, 1);
    assert.match(s.stderr, /welcome is not for an executor/);
  }));

test('a descriptor without seals is refused', () =>
  withExecutor(async (s) => {
    const libc = await import('../src/libc.js');
    const fd = libc.memfdCreate('bad');
    libc.ftruncate(fd, 4096);
    s.channel.send({ message: { type: 'attach', segment: 99n, size: 4096n } }, fd);
    libc.close(fd);
    await s.exited;
    assert.match(s.stderr, /lacks seals/);
  }));

test('started by hand it says what it is', async () => {
  const { spawnSync } = await import('node:child_process');
  const { GENERIC } = await import('./stub.js');
  const env = { ...process.env };
  delete env.MILLRACE_CONTROL_FD;
  const r = spawnSync(process.execPath, [GENERIC], { env, encoding: 'utf8' });
  assert.equal(r.status, 2);
  assert.match(r.stderr, /started by a millrace supervisor/);
});
