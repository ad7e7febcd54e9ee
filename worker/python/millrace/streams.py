"""Streams as a step sees them: the iterator that it reads, and the one of its
own that it returns. What lies between is in ring."""

from collections.abc import AsyncIterator

from . import jsoncodec
from .plain import join
from .ring import Reader, Writer
from .state import DecodeError, encoding_number
from .steperror import StepError, StreamError
from .wire import ENCODINGS, JSON

#: Seconds after which a sleeping end looks for itself: the safety net.
_NET = 0.25


class Stream:
    """Items to be streamed under a key of a step's result, with more to say of
    them than a generator can: their encoding, "json" (default), or "arrow-stream"
    or "raw" for items that are bytes; and the ring's capacity in bytes (a power
    of two from 64 KiB to 1 GiB), of which the largest item may take half."""

    def __init__(self, items, encoding="json", capacity=0):
        if not isinstance(items, AsyncIterator):
            items = iter(items)
        self.items, self.encoding, self.capacity = items, encoding_number(encoding), capacity


class Signals:
    """What the supervisor told of a stream's other end."""

    ended = False
    error = None  # the message that ended it with an error

    def end(self, m):
        self.ended = True
        if m.name:
            self.error = m

    def check(self):
        m = self.error
        if m is not None:
            raise StreamError(m.message, m.name, m.severity if m.severity else "exception")


class Incoming:
    """A stream in a step's input: an iterator of its items. An item that is no
    JSON is bytes."""

    def __init__(self, flow, key, ref):
        self._flow, self._key, self._id = flow, key, ref.segment
        self._name = join("state", key)
        self.encoding = ENCODINGS[ref.encoding]
        self._number = ref.encoding
        self._ring = self._signals = self._view = None
        self._asked = 0  # before it was opened
        self._over = False
        #: Whether reading has begun; from then on nobody else can read it.
        self.begun = False

    def __iter__(self):
        return self

    def __repr__(self):
        return f"<stream {self._name}>"

    def __next__(self):
        view = self._take()
        if view is None:
            raise StopIteration
        # The writer could change the bytes while they are parsed: not the copy.
        data = bytes(view)
        if self._number != JSON:
            return data
        try:
            return jsoncodec.decode(memoryview(data))
        except ValueError as e:
            raise DecodeError(f"item {self._ring.items} of {self._name} is no valid JSON: {e}") from None

    def raw(self):
        """An iterator of the items' encoded bytes: memoryviews of the ring, each
        valid until the next one is asked for."""
        while True:
            view = self._take()
            if view is None:
                return
            yield view

    def copied(self, input):
        """The next item as spans of a block, or None at the end. It is not
        parsed: whoever reads it does."""
        view = self._take()
        return None if view is None else input.write(view, self._number)

    def ask(self, n):
        """Asks for n items more, beyond those asked for. Where the step's demand
        is manual nothing comes unasked, but for the one that next waits for."""
        if n < 1:
            raise ValueError("ask for 1 item or more")
        if self._over:
            return
        if self._ring is None:
            self._asked += n
        else:
            self._demand(self._ring.demand + n)

    def close(self):
        """Wants no more: the step that feeds the stream is told so."""
        if self._over:
            return
        if not self.begun:
            self._open()
        self.abort()
        if not self._signals.ended:
            self._flow.send("stream-end", stream=self._id, severity="", name="", message="")

    def ready(self):
        """Whether the next item, the end or an error is there. If not, whoever
        waits with the step's flow is woken when it is."""
        if self._over:
            return True
        if not self.begun:
            self._open()
        self._free()
        if self._look():
            return True
        self._settle()
        self._want_one()
        self._ring.sleep()
        return self._look()

    def _look(self):
        return self._ring.has() or self._signals.ended

    def _open(self):
        self.begun = True
        try:
            e, self._signals = self._flow.open("consume", stream=self._id)
        except BaseException:
            self._over = True
            raise
        m = e.message
        self._ring = Reader(e.file, m.capacity)
        self._flow.opened.append(self)
        self._manual = m.manual
        self._max, self._min = max(m.max_demand, 1), m.min_demand
        asked = self._asked if m.manual else self._asked + self._max
        if asked:
            self._demand(asked)

    def _take(self):
        """The next item's bytes in the ring, None at the end."""
        if self._over:
            return None
        if not self.begun:
            self._open()
        self._free()
        ring = self._ring
        while True:
            self._flow.drain()
            self._signals.check()
            ended = self._signals.ended
            view = ring.take()
            if view is not None:
                if not self._manual and ring.demand - ring.items <= self._min:
                    self._demand(ring.items + self._max)
                self._view = view
                return view
            if ended:
                self.abort()
                return None
            self._flow.wait(self.ready, _NET)
            ring.rise()

    def _want_one(self):
        if self._manual and self._ring.demand <= self._ring.items:
            self._demand(self._ring.items + 1)

    def _demand(self, total):
        self._ring.ask(total)
        self._wake()

    def _free(self):
        """The item given last is done with. The counter is stored now and then."""
        if self._view is not None:
            self._view.release()
            self._view = None
            if self._ring.unfreed >= self._ring.capacity // 4:
                self._settle()

    def _settle(self):
        if self._ring.unfreed:
            self._ring.free()
            self._wake()

    def _wake(self):
        if self._ring.must_wake():
            self._flow.send("wake", stream=self._id)

    def abort(self):
        """Ends it without a word."""
        self._over = True
        if self._view is not None:
            self._view.release()
            self._view = None
        if self._ring is not None:
            self._ring.close()


def feed(flow, key, stream, table, blocks):
    """Hands table over, and writes the items of a stream while they are read.
    It runs the step's own code."""
    path = join("state", key)
    items = stream.items
    if isinstance(items, AsyncIterator):
        from .runners import iterate

        items = iterate(items)
    try:
        e, signals = flow.open("stream", table, key=key, encoding=stream.encoding, capacity=stream.capacity, blocks=blocks)
        ring = Writer(e.file, e.message.capacity)
        try:
            outgoing = _Outgoing(flow, ring, signals, e.message.stream)
            for item in items:
                if not outgoing.put(_encoded(item, stream.encoding, f"{path}[{ring.items}]")):
                    break
            outgoing.end()
        finally:
            ring.close()
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _encoded(item, encoding, path):
    if encoding == JSON:
        return jsoncodec.dumps(item, path)
    try:
        view = memoryview(item)
    except TypeError:
        raise StepError(f"{path} is of type {type(item).__name__}: the items of a stream of {ENCODINGS[encoding]} are bytes", "RuntimeError") from None
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class _Outgoing:
    def __init__(self, flow, ring, signals, id):
        self._flow, self._ring, self._signals, self._id = flow, ring, signals, id

    def put(self, data):
        """Writes an item, waiting for room and demand. False: nobody wants it."""
        flow, ring, signals = self._flow, self._ring, self._signals
        size = len(data)

        def ready():
            if signals.ended or ring.fits(size):
                return True
            ring.sleep()
            return ring.fits(size)

        while True:
            flow.drain()
            signals.check()
            if signals.ended:
                return False
            if ring.fits(size):
                break
            flow.wait(ready, _NET)
            ring.rise()
        ring.write(data)
        if ring.must_wake():
            flow.send("wake", stream=self._id)
        return True

    def end(self):
        if not self._signals.ended:
            self._flow.send("stream-end", stream=self._id, severity="", name="", message="")
