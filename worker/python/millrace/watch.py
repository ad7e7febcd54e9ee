"""Looks after the channel while a step keeps the main thread busy.

Between steps the main thread reads the channel itself, because a hand-over
between threads costs more than a short step. A step that has run for a tick or
two is joined by this thread, which then reads until the step is over: it ends
the process on a hang-up, answers pings, interrupts a cancelled step, and keeps
the rest for whoever waits for it.

A step that waits for a message (see wait) reads the channel itself meanwhile,
for the same reason. One thread reads at a time.
"""

import os
import select
import threading
import time
from collections import deque

_TICK = 0.002
_IDLE_TICKS = 16


class Watch(threading.Thread):
    """on_message(envelope) acts on a message during a step and returns whether
    it is dealt with; on_error(exception) ends the process; on_overdue() is
    called when a step did not end by its deadline (see expect_end)."""

    def __init__(self, channel, on_message, on_error, on_overdue):
        super().__init__(name="millrace-watch", daemon=True)
        self._channel = channel
        self._on_message, self._on_error, self._on_overdue = on_message, on_error, on_overdue
        self._ticking = False
        self._wake = threading.Semaphore(0)
        self._job = None
        self._turn = threading.Condition()  # for the next two
        self._reader = None  # the thread that reads while a step runs
        self._waiting = 0
        self._poll = None
        self._bell = os.pipe2(os.O_CLOEXEC)  # has the reader look up
        self._deadline = None
        self.deferred = deque()  # messages in order, for the step or what comes after it

    def begin(self, job):
        """The main thread starts a step; it reads no more until end, but for
        wait."""
        self._deadline = None
        self._job = job
        if not self._ticking:
            self._ticking = True
            self._wake.release()

    def end(self):
        """The step is over, the main thread reads again."""
        with self._turn:
            self._job = None
            while self._reader is not None:
                self._ring()
                self._turn.wait()

    def expect_end(self, seconds):
        """on_overdue is called when the step still runs then. For on_message."""
        self._deadline = time.monotonic() + seconds

    def wait(self, job, ready, timeout=None):
        """Receives until ready() is true; False when it is not after timeout
        seconds, or the job is over. For any thread of the job's."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._turn:
            self._waiting += 1
            if self._reader is self:
                self._ring()
        try:
            while True:
                with self._turn:
                    while True:
                        if self._job is not job:
                            return False
                        if ready():
                            return True
                        left = None if end is None else end - time.monotonic()
                        if left is not None and left <= 0:
                            return False
                        if self._reader is None:
                            self._reader = threading.current_thread()
                            break
                        self._turn.wait(left)
                try:
                    self._read_in_turn(left)
                except Exception as e:
                    self._on_error(e)
        finally:
            with self._turn:
                self._waiting -= 1

    def run(self):
        try:
            while True:
                self._wake.acquire()
                while self._tick_until_idle():
                    pass
        except BaseException as e:
            self._on_error(e)

    def _tick_until_idle(self):
        seen, idle = None, 0
        while idle < _IDLE_TICKS:
            time.sleep(_TICK)
            job = self._job
            if job is None:
                idle += 1
                continue
            idle = 0
            if job is seen:
                self._take_over(job)
            seen = job
        self._ticking = False
        # A step may have begun just before: it has seen ticking, or is seen here.
        if self._job is None:
            return False
        self._ticking = True
        return True

    def _take_over(self, job):
        while True:
            with self._turn:
                if self._job is not job:
                    return
                left = None if self._deadline is None else self._deadline - time.monotonic()
                if left is None or left > 0:
                    if self._waiting or self._reader is not None:
                        return
                    self._reader = self
            if left is not None and left <= 0:
                self._deadline = None
                self._on_overdue()
                return
            self._read_in_turn(left)

    def _read_in_turn(self, timeout):
        try:
            self._read(timeout)
        finally:
            with self._turn:
                self._reader = None
                self._turn.notify_all()

    def _ring(self):
        os.write(self._bell[1], b"x")

    def _read(self, timeout):
        """Acts on the messages that are there, or waits for some."""
        if self._dispatch():
            return
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._channel.fileno(), select.POLLIN)
            self._poll.register(self._bell[0], select.POLLIN)
        ready = [fd for fd, _ in self._poll.poll(None if timeout is None else timeout * 1000)]
        if self._bell[0] in ready:
            os.read(self._bell[0], 4096)
        elif ready:
            self._channel.fill()
            self._dispatch()

    def _dispatch(self):
        some = False
        while True:
            e = self._channel.next()
            if e is None:
                return some
            some = True
            if not self._on_message(e):
                self.deferred.append(e)
