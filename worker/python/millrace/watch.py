"""Looks after the channel while a step keeps the main thread busy.

Between steps the main thread reads the channel itself, because a hand-over
between threads costs more than a short step. A step that has run for a tick or
two is joined by this thread, which then reads until the step is over: it ends
the process on a hang-up, answers pings, interrupts a cancelled step, and keeps
the rest for the main thread.
"""

import os
import select
import threading
import time

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
        self._turn = threading.Lock()
        self._job = None
        self._taken = False
        self._returned = threading.Semaphore(0)
        self._bell = os.pipe2(os.O_CLOEXEC)
        self._deadline = None
        self.deferred = []  # for the main thread, once the step is over

    def begin(self, job):
        """The main thread starts a step; it reads no more until end."""
        self._job = job
        if not self._ticking:
            self._ticking = True
            self._wake.release()

    def end(self):
        """The step is over, the main thread reads again."""
        with self._turn:
            self._job = None
            taken = self._taken
        if taken:
            os.write(self._bell[1], b"x")
            self._returned.acquire()

    def expect_end(self, seconds):
        """on_overdue is called when the step still runs then. For on_message."""
        self._deadline = time.monotonic() + seconds

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
        with self._turn:
            if self._job is not job:
                return
            self._taken, self._deadline = True, None
        try:
            self._read_until_over()
        finally:
            self._taken = False
            self._returned.release()

    def _read_until_over(self):
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.register(self._bell[0], select.POLLIN)
        while True:
            e = self._channel.next()
            while e is not None:
                if not self._on_message(e):
                    self.deferred.append(e)
                e = self._channel.next()
            wait = None if self._deadline is None else max(0, self._deadline - time.monotonic()) * 1000
            ready = [fd for fd, _ in poll.poll(wait)]
            if self._bell[0] in ready:
                os.read(self._bell[0], 1)
                return
            if ready:
                self._channel.fill()
            elif self._deadline is not None:
                self._deadline = None
                self._on_overdue()
