"""A step's use of other steps: its calls, and its streams' dealings with the
supervisor."""

import itertools
import json
import os
import weakref
from collections import deque

from .each import Each
from .result import Tabulation
from .state import open_state, release
from .steperror import CallError, Cancelled, StepError
from .streams import Incoming, Signals
from .wire import JSON, NO_TABLE, FrameSizeError, Message

UNTIL = ("step", "leaf")


class Lease:
    """Keeps what a call published and what came of it. When nothing refers to
    it any more, the supervisor is told."""

    __slots__ = ("id", "views", "_dropped", "__weakref__")

    def __init__(self, id, dropped):
        self.id, self.views, self._dropped = id, [], dropped

    def __del__(self):
        # It may run between any two lines, of any thread: it only takes a note.
        # What was built on a view keeps the bytes until the step ends.
        if release(self.views):
            self._dropped.append(self.id)


class Requests:
    """Gives the ids of an executor's own requests."""

    def __init__(self):
        self._count = itertools.count(1)
        self.last = 0

    def next(self):
        id = next(self._count)
        self.last = max(self.last, id)
        return id


class Flow:
    """One execution's. The executor's drain acts on the messages that have
    come, and brings the answers to receive."""

    def __init__(self, executor, job, input):
        self._executor, self._job, self.input = executor, job, input
        self.drain = executor.drain
        self._pending = {}  # id -> (where the answer goes, lease)
        self._abandoned = {}  # id -> lease, of calls whose answers nobody waits for
        self._dropped = deque()  # ids of answered calls to forget
        self._leases = weakref.WeakSet()
        self._last = None  # the row or state of the last result, kept until the next is wanted
        self._signals = {}  # by stream
        self.opened = []  # streams that the step reads
        self._over = False

    def send(self, type, id=0, table=NO_TABLE, **fields):
        self._check()
        with self.input.shield:
            self._executor.channel.send(Message(type, **fields), id, table)

    def wait(self, ready, timeout=None):
        """Waits until ready() is true, or for timeout seconds. Cancelled is
        raised when the step is cancelled meanwhile."""
        self._check()
        self.flush()

        def look():
            self.drain()
            return self._job.stopped() is not None or ready()

        with self.input.shield.hold:
            done = self._executor.watch.wait(self._job, look, timeout)
        stopped = self._job.stopped()
        if stopped is not None:
            raise Cancelled(stopped)
        if not done:
            self._check()
        return done

    def flush(self):
        """Tells the supervisor of what is not referred to any more."""
        if self._dropped:
            calls = []
            while self._dropped:
                calls.append(self._dropped.popleft())
            self.send("forget", calls=calls)

    def receive(self, e):
        """Takes an answer, or news of a stream; False when it is not this
        step's. Called from drain."""
        m = e.message
        if m.type in ("wake", "stream-end"):
            signals = self._signals.get(m.stream)
            if signals is not None and m.type == "stream-end":
                signals.end(m)
            return signals is not None
        if e.id in self._abandoned:
            del self._abandoned[e.id]
            return e.file < 0
        waiting = self._pending.pop(e.id, None)
        if waiting is None:
            return False
        if m.type == "stream-ring":
            self._signals[m.stream] = Signals()
        sink, lease = waiting
        sink.append((e, lease))
        return True

    # Calls

    def call(self, step, argument, until="step", timeout=None):
        sink = deque()
        self._last = None
        id = self.start(step, argument, until, timeout, sink)
        try:
            self.wait(lambda: sink)
        except BaseException:
            self.abandon([id])
            raise
        return self.result(step, *sink.popleft())

    def start(self, step, argument, until, timeout, sink):
        """Begins a call whose answer will be appended to sink; its id."""
        self._granting("calls", f"step {step!r} cannot be called")
        if until not in UNTIL:
            raise ValueError(f"until={until!r}: use step or leaf")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout={timeout!r}: it is above 0 seconds, or None")
        work = Tabulation(self.input, self._executor.drop_keys)
        table = work.table(argument)
        if work.stream is not None:
            raise StepError(f"state[{work.stream[0]!r}] is a generator: a step can hand a stream over only with its result", "RuntimeError")
        id = self._executor.requests.next()
        lease = Lease(id, self._dropped)
        self._leases.add(lease)
        arena = self.input.arena
        with self.input.shield:
            blocks = arena.publish(table, last=False)
            for row in work.own if blocks else ():
                row.keep(lease)
            self._pending[id] = sink, lease
            try:
                self.send("call", id, table, step=step, until=until, timeout=int((timeout or 0) * 1e9), blocks=blocks)
            except (FrameSizeError, ValueError):
                del self._pending[id]
                arena.withdraw(blocks)
                raise
        return id

    def result(self, step, e, lease):
        """What a call returns."""
        m = e.message
        if m.type == "fail":
            raise CallError(step, m.message, m.name, m.severity, _details(m.details))
        given, row = open_state(e.table, self.input, lease)
        if row is not None and row.encoding != JSON:
            self.input.rows[id(row.value)] = row  # bytes, for as long as the step
        self._last = row or given
        return given

    def let_go(self):
        """The last result is not kept any more for its own sake."""
        self._last = None
        self.flush()

    def abandon(self, ids):
        """Cancels calls; what comes of them is forgotten."""
        if self._over:
            return
        for id in ids:
            waiting = self._pending.pop(id, None)
            if waiting is None:
                continue
            self._abandoned[id] = waiting[1]
            self.send("cancel", id, reason="the step that called wants no answer any more")

    def each(self, pages, step, concurrency=8, until="step", key="data", errors="first", timeout=None):
        return Each(self, pages, step, concurrency, until, key, errors, timeout)

    def forward(self, step):
        self._granting("calls", f"the result cannot be forwarded to step {step!r}")
        self.send("forward", self._job.id, step=step)

    # Streams

    def incoming(self, key, ref):
        return Incoming(self, key, ref)

    def open(self, type, table=NO_TABLE, **fields):
        """Asks for a stream's ring: the stream-ring, and the stream's Signals."""
        self._granting("streams", "a stream has no way")
        sink = deque()
        id = self._executor.requests.next()
        self._pending[id] = sink, None
        self.send(type, id, table, **fields)
        try:
            self.wait(lambda: sink)
        except BaseException:
            self._abandoned[id] = None
            if sink and sink[0][0].file >= 0:
                os.close(sink[0][0].file)
            raise
        e, _ = sink.popleft()
        m = e.message
        if m.type == "fail":
            raise StepError(m.message, m.name, m.severity, _details(m.details))
        return e, self._signals[m.stream]

    # The end

    def leave(self):
        """For a child of the step's process: the channel is not its own."""
        self._over = True

    def close(self, well):
        """The step's code is over. well: it did not fail."""
        if well:
            for s in self.opened:
                s.close()
        self._over = True
        self._last = None
        for s in self.opened:
            s.abort()
        for lease in list(self._leases):
            release(lease.views)
        self._pending.clear()

    def _check(self):
        if self._over:
            raise RuntimeError("the step is over: its calls and streams ended with it")

    def _granting(self, capability, what):
        self._check()
        if capability not in self._executor.granted:
            raise StepError(f"{what}: the supervisor does not offer {capability}", "RuntimeError")


def _details(text):
    try:
        details = json.loads(text) if text else {}
    except ValueError:
        return {"details": text}
    return details if isinstance(details, dict) else {"details": details}
