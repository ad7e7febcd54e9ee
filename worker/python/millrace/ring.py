"""The two ends of a stream's ring: records in memory that two processes share.

What the other end has written there is untrusted: each counter and each size is
loaded once, checked, then used.

Counters are 8 bytes at a multiple of 8, and a native memoryview loads and stores
such an item with one machine instruction. A store is seen in order by the other
end on machines that keep stores in order, and only there streams are announced
(ORDERED). What such a machine may still do is to load before an earlier store
has left it; the sleep handshake cannot bear that, and ``fence`` is for it: to
take a lock is an instruction that waits for all stores.
"""

import os
import struct
import threading

from . import memory

ORDERED = os.uname().machine in ("x86_64", "i686", "s390x")
HEADER_SIZE = 4096
MIN_CAPACITY, MAX_CAPACITY = 64 << 10, 1 << 30
_WRITTEN, _READ, _DEMAND = 0, 8, 16  # in words of 8 bytes
_PRODUCER_ASLEEP, _CONSUMER_ASLEEP = 48, 64  # in words of 4
_RECORD = struct.Struct("<II")
_ITEM, _SKIP = 0, 1
_SEALS = memory.BIRTH_SEALS | memory.SEAL_SEAL


class RingError(Exception):
    """The other end broke the ring's rules, or its descriptor is no ring."""


class ItemSizeError(Exception):
    """An item that the ring is too small for."""

    def __init__(self, size, limit):
        super().__init__(
            f"a stream's item of {size} bytes is over the limit of {limit}, half of the ring's "
            "capacity: yield smaller items, or give the stream a larger capacity"
        )
        self.size, self.limit = size, limit


_lock = threading.Lock()


def fence():
    """Stores before it are seen before loads after it are made."""
    _lock.acquire()
    _lock.release()


class _End:
    """Takes fd over."""

    def __init__(self, fd, capacity, own_flag, other_flag):
        try:
            if not MIN_CAPACITY <= capacity <= MAX_CAPACITY or capacity & (capacity - 1):
                raise RingError(f"a ring of {capacity} bytes")
            seals, size = memory.seals(fd), os.fstat(fd).st_size
            if seals & _SEALS != _SEALS or size != HEADER_SIZE + capacity:
                raise RingError(f"a ring of {capacity} bytes has a descriptor of {size} bytes with the seals {seals:#x}")
            self._mapping = memory.map(fd, size, writable=True)
        except OSError as e:
            raise RingError(f"a ring of {capacity} bytes: {e}") from None
        finally:
            os.close(fd)
        whole = memoryview(self._mapping)
        self.capacity = capacity
        self._counters = whole[:HEADER_SIZE].cast("Q")
        self._flags = whole[:HEADER_SIZE].cast("I")
        self._data = whole[HEADER_SIZE:]
        self._own, self._other = own_flag, other_flag
        self.at = 0  # bytes written or read; the memory is never asked for it
        self.items = 0

    def sleep(self):
        """Before the last look: the other end is to wake this one."""
        self._flags[self._own] = 1
        fence()

    def rise(self):
        """Not asleep any more. The other end may have cleared the flag just now
        and have sent a wake: it will be one without a cause."""
        self._flags[self._own] = 0

    def must_wake(self):
        """After a counter was stored: whether the other end is to be sent a
        wake.

        There is no compare-and-swap here. When the other end has gone on by
        itself and has lain down again between the load and the store, the store
        clears its new flag; but the wake is sent after it, so that it looks
        again, and sets the flag again if there is nothing.
        """
        fence()
        if self._flags[self._other] == 0:
            return False
        self._flags[self._other] = 0
        return True

    def close(self):
        if self._mapping is None:
            return
        for view in (self._counters, self._flags, self._data):
            view.release()
        memory.unmap(self._mapping)
        self._mapping = None


class Writer(_End):
    """The producer's end. A put is whole: fits, then write."""

    def __init__(self, fd, capacity):
        super().__init__(fd, capacity, _PRODUCER_ASLEEP, _CONSUMER_ASLEEP)
        self.limit = capacity // 2 - 8
        self._read = self._demand = 0

    def fits(self, size):
        """Whether there are room and demand for an item of size bytes."""
        if size > self.limit:
            raise ItemSizeError(size, self.limit)
        need = 8 + size + -size % 8
        rest = self.capacity - (self.at & (self.capacity - 1))
        if need > rest:
            need += rest
        if self.items < self._demand and self.at + need - self._read <= self.capacity:
            return True
        read, demand = self._counters[_READ], self._counters[_DEMAND]
        if not self._read <= read <= self.at:
            raise RingError(f"the reader of the stream counts {read} bytes read, {self._read} before, of {self.at} written")
        if demand < self._demand:
            raise RingError(f"the reader of the stream asks for {demand} items, after {self._demand}")
        self._read, self._demand = read, demand
        return self.items < demand and self.at + need - read <= self.capacity

    def write(self, data):
        """Writes an item that fits."""
        n, mask, ring = len(data), self.capacity - 1, self._data
        pos = self.at & mask
        rest = self.capacity - pos
        if 8 + n + -n % 8 > rest:
            _RECORD.pack_into(ring, pos, rest - 8, _SKIP)
            self.at += rest
            pos = 0
        ring[pos + 8 : pos + 8 + n] = data
        _RECORD.pack_into(ring, pos, n, _ITEM)
        self.at += 8 + n + -n % 8
        self.items += 1
        self._counters[_WRITTEN] = self.at


class Reader(_End):
    """The consumer's end. An item's bytes stay until free."""

    def __init__(self, fd, capacity):
        super().__init__(fd, capacity, _CONSUMER_ASLEEP, _PRODUCER_ASLEEP)
        self._written = 0
        self._freed = 0  # what the counter in the ring says
        self.demand = 0

    def has(self):
        """Whether there is something to take."""
        if self._written > self.at:
            return True
        written = self._counters[_WRITTEN]
        if not self._written <= written <= self._freed + self.capacity or written % 8:
            raise RingError(f"the writer of the stream counts {written} bytes written, {self._written} before, of which {self._freed} are read")
        self._written = written
        return written > self.at

    def take(self):
        """The next item's bytes in the ring, or None."""
        while self.has():
            pos = self.at & (self.capacity - 1)
            size, kind = _RECORD.unpack_from(self._data, pos)
            end = 8 + size + -size % 8
            rest = self.capacity - pos
            if end > min(self._written - self.at, rest) or kind > _SKIP or kind == _SKIP and end != rest:
                raise RingError(f"a record of kind {kind} with {size} bytes, where {self._written - self.at} were written and {rest} follow in the ring")
            self.at += end
            if kind == _ITEM:
                self.items += 1
                return self._data[pos + 8 : pos + 8 + size]
        return None

    @property
    def unfreed(self):
        return self.at - self._freed

    def free(self):
        """The bytes of all items that were taken may go."""
        self._freed = self.at
        self._counters[_READ] = self.at

    def ask(self, total):
        """Asks for items, total of them since the start."""
        self.demand = min(total, (1 << 64) - 1)
        self._counters[_DEMAND] = self.demand
