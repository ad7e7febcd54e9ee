"""Keeps a cancellation, which is raised between any two instructions of the
main thread, out of code that must not be left half done."""

import threading

from .steperror import Cancelled


class Shield:
    """``with shield:`` is also a lock: a step's own threads may print, and write
    keys."""

    def __init__(self):
        self._lock = threading.RLock()
        self._main = threading.main_thread().ident
        self._depth = 0  # of the main thread
        self._open = False  # the step's own code runs
        self._reason = None
        self._hold = _Hold(self)

    @property
    def hold(self):
        """Like the shield itself, without the lock: for code that waits."""
        return self._hold

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
        self._hold.__enter__()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()
        self._hold.__exit__()


class _Hold:
    def __init__(self, shield):
        self._shield = shield

    def __enter__(self):
        s = self._shield
        if threading.get_ident() == s._main:
            s._depth += 1

    def __exit__(self, *_):
        s = self._shield
        if threading.get_ident() == s._main:
            s._depth -= 1
            if s._depth == 0 and s._reason is not None and s._open:
                reason, s._reason = s._reason, None
                raise Cancelled(reason)
