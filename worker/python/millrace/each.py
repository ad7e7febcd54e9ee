"""Calls of one step for many pages."""

from collections import deque
from collections.abc import Iterable

from .state import Row, State
from .steperror import CallError
from .streams import Incoming

MAX_CONCURRENCY = 4096


class Each:
    """The iterator that each returns: of the calls' results, in the order in
    which they arrive. index is the number of the page that the last one is for.
    close (or a with block) cancels the calls that are under way."""

    def __init__(self, flow, pages, step, concurrency, until, key, errors, timeout):
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise ValueError(f"concurrency={concurrency!r}: it is 1 to {MAX_CONCURRENCY}")
        if errors not in ("first", "collect"):
            raise ValueError(f"errors={errors!r}: use first or collect")
        if not isinstance(pages, Iterable) or isinstance(pages, (str, bytes, dict, State)):
            raise TypeError(f"each takes an iterable of pages, not a {type(pages).__name__}")
        self.index = None
        self._flow, self._step, self._key = flow, step, key
        self._pages = iter(pages)
        self._stream = pages if isinstance(pages, Incoming) else None
        self._concurrency, self._until, self._timeout = concurrency, until, timeout
        self._collect = errors == "collect"
        self._arrived = deque()
        self._under_way = {}  # id -> index of its page
        self._started = 0
        self._exhausted = False

    def __iter__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __next__(self):
        self._flow.let_go()
        while True:
            try:
                self._start_more()
                if not self._under_way:
                    break
                if not self._arrived:
                    self._flow.wait(self._stirs)
                    continue
            except BaseException:
                self.close()
                raise
            e, lease = self._arrived.popleft()
            index = self._under_way.pop(e.id)
            try:
                self._start_more(holding=True)
                result = self._flow.result(self._step, e, lease)
            except CallError as error:
                self.index = index
                if self._collect:
                    return error
                self.close()
                raise
            except BaseException:
                self.close()
                raise
            self.index = index
            return result
        raise StopIteration

    def close(self):
        """Cancels the calls that are under way, and ends the iteration."""
        self._exhausted = True
        ids, self._under_way = list(self._under_way), {}
        self._arrived.clear()
        self._flow.abandon(ids)

    def _start_more(self, holding=False):
        """holding: a result is there, to be given."""
        while not self._exhausted and len(self._under_way) < self._concurrency:
            # Results are not to wait for a page that is not there yet.
            if self._stream is not None and (holding or self._under_way) and not self._stream.ready():
                return
            argument = self._next_argument()
            if argument is None:
                self._exhausted = True
                return
            id = self._flow.start(self._step, argument, self._until, self._timeout, self._arrived)
            self._under_way[id] = self._started
            self._started += 1

    def _stirs(self):
        if self._arrived:
            return True
        return self._stream is not None and len(self._under_way) < self._concurrency and not self._exhausted and self._stream.ready()

    def _next_argument(self):
        input = self._flow.input
        if self._stream is not None:
            spans = self._stream.copied(input)
            return None if spans is None else State({self._key: Row(self._key, spans, input, own=True)}, input)
        for page in self._pages:
            return page if isinstance(page, State) else State({self._key: page}, input)
        return None
