"""Keeps a cancellation, which is raised between any two instructions of the
main thread, out of code that must not be left half done."""

import threading

from .errors import Cancelled


class Shield:
    """``with shield:`` is also a lock: a step's own threads may print, and write
    keys."""

    def __init__(self):
        self._lock = threading.RLock()
        self._main = threading.main_thread().ident
        self._depth = 0  # of the main thread
        self._open = False  # the step's own code runs
        self._reason = None

    def begin(self):
        """The step's own code begins."""
        self._reason = None
        self._open = True

    def end(self):
        """It is over: nothing is raised any more."""
        self._open = False

    def interrupt(self, reason):
        """For the signal's handler, in the main thread: raises Cancelled, now or
        when the main thread leaves the shield."""
        if not self._open:
            return
        if self._depth > 0:
            self._reason = reason
            return
        raise Cancelled(reason)

    # The order matters: a handler may run between any two lines.
    def __enter__(self):
        if threading.get_ident() == self._main:
            self._depth += 1
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()
        if threading.get_ident() == self._main:
            self._depth -= 1
            if self._depth == 0 and self._reason is not None and self._open:
                reason, self._reason = self._reason, None
                raise Cancelled(reason)
