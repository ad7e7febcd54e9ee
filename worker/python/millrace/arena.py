"""The segments that this process writes.

Blocks below LARGE share segments of ARENA_SIZE; a larger one has a segment of
its own, whose size is address space, not memory. All bookkeeping is in private
memory. Memory that was released is used again, last freed first, because its
pages are there and warm.

A block is pending from its commit to :meth:`Arena.publish`, live from there
until :meth:`Arena.release`. One thread at a time uses an arena.
"""

import os
from bisect import bisect_left

from . import memory
from .memory import RefError
from .wire import JSON, Block, ProtocolError, Ref

ARENA_SIZE = 16 << 20
LARGE = 256 << 10
LARGE_SEGMENT = 1 << 30
_ALIGN = 64
_PIECE = 4 << 20
_MADV_POPULATE_WRITE = 23


class BudgetError(Exception):
    """The run's payload budget is used up."""

    def __init__(self, size, used, limit):
        super().__init__(f"a block of {size} bytes beside {used} bytes in use is over the budget of {limit}")
        self.size, self.used, self.limit = size, used, limit


class _Segment:
    __slots__ = ("id", "fd", "size", "mapping", "sent", "next", "live", "touched", "free", "large")

    def __init__(self, id, size, large):
        self.id, self.size, self.large = id, size, large
        self.fd = memory.create(size)
        self.mapping = memory.map(self.fd, size, writable=True)
        self.sent = False
        self.next = self.live = self.touched = 0
        self.free = {}  # size class -> offsets, last freed at the end

    def write(self, at, data):
        """Copies data in. Fresh pages are made by write(2) while the seals
        still allow it: cheaper than faulting them in one by one."""
        end = at + len(data)
        if self.sent or at < self.touched or len(data) < 65536:
            self.mapping[at:end] = data
        else:
            data = memoryview(data)
            while data:
                n = os.pwrite(self.fd, data, at)
                at += n
                data = data[n:]
        if end > self.touched:
            self.touched = end


def _class(length):
    """The room that a small block gets: four sizes to each power of two."""
    n = max((length + _ALIGN - 1) & -_ALIGN, _ALIGN)
    step = max(1 << max(n.bit_length() - 3, 0), _ALIGN)
    return (n + step - 1) // step * step


class _Used:
    """Which blocks of some segments a table refers to, wholly or in part."""

    def __init__(self, table, segments):
        self._offsets = {}
        for _, spans in table.rows:
            for s in spans:
                if s.segment in segments:
                    self._offsets.setdefault(s.segment, []).append(s.offset)
        for offsets in self._offsets.values():
            offsets.sort()

    def __contains__(self, block):
        offsets = self._offsets.get(block.segment)
        if offsets is None:
            return False
        i = bisect_left(offsets, block.offset)
        return i < len(offsets) and offsets[i] < block.offset + block.length


class Arena:
    """announce(id, size, fd) sends a descriptor, before a block in the segment
    is published; drop(ids) tells that announced segments are given up."""

    def __init__(self, executor, retain_bytes, announce, drop):
        self._prefix = executor << 32
        self._last = 0
        self._retain = retain_bytes
        self._announce, self._drop = announce, drop
        self._segments = {}
        self._small = []  # the one that is filled at the end
        self._kept = []  # large ones without a block, last freed at the end
        self._kept_bytes = 0
        self._blocks = {}  # live and pending
        self._pending = []
        self.used = 0  # bytes of all blocks, pending and unfinished ones included
        self.limit = 0  # what used may reach; 0 is no limit

    def owns(self, id):
        return id in self._segments

    def view(self, ref):
        s = self._segments.get(ref.segment)
        if s is None:
            raise RefError(f"segment {ref.segment} was not handed over")
        if ref.offset + ref.length > s.size:
            raise RefError(f"bytes {ref.offset}+{ref.length} lie outside segment {ref.segment} of {s.size} bytes")
        return memoryview(s.mapping)[ref.offset : ref.offset + ref.length].toreadonly()

    def _create(self, size, large):
        self._last += 1
        s = _Segment(self._prefix | self._last, size, large)
        self._segments[s.id] = s
        return s

    def _close(self, s):
        del self._segments[s.id]
        memory.unmap(s.mapping)
        os.close(s.fd)
        if s.sent:
            self._drop([s.id])

    def prefault(self, size, busy):
        """Makes pages ready in pieces until busy() says that there is something
        better to do."""
        s = self._create(LARGE_SEGMENT, True)
        while s.touched < min(size, self._retain, LARGE_SEGMENT) and not busy():
            n = min(_PIECE, LARGE_SEGMENT - s.touched)
            try:
                s.mapping.madvise(_MADV_POPULATE_WRITE, s.touched, n)
            except OSError:  # before Linux 5.14
                s.mapping[s.touched : s.touched + n] = bytes(n)
            s.touched += n
        self._keep(s)

    def charge(self, size):
        if 0 < self.limit < self.used + size:
            raise BudgetError(size, self.used, self.limit)
        self.used += size

    def writer(self):
        return BlockWriter(self)

    def write(self, data, encoding=JSON):
        """Publishes a copy of data as pending blocks; the refs to them."""
        w = BlockWriter(self)
        try:
            w.write(data)
            return w.commit(encoding)
        finally:
            w.abort()

    def _place(self, size):
        for s in reversed(self._small):
            offsets = s.free.get(size)
            if offsets:
                return s, offsets.pop()
        s = self._small[-1] if self._small else None
        if s is None or s.next + size > s.size:
            s = self._create(ARENA_SIZE, False)
            self._small.append(s)
        s.next += size
        return s, s.next - size

    def commit_small(self, parts, length):
        size = _class(length)
        s, at = self._place(size)
        s.live += 1
        s.write(at, b"".join(parts))
        return self._commit(s, at, length)

    def take_large(self):
        if self._kept:
            s = self._kept.pop()
            self._kept_bytes -= s.touched
            return s
        return self._create(LARGE_SEGMENT, True)

    def commit_large(self, s, length):
        s.live = 1
        return self._commit(s, 0, length)

    def _commit(self, s, at, length):
        block = Block(s.id, at, length)
        self._blocks[block] = s
        self._pending.append(block)
        return block

    def publish(self, table, last=True):
        """The pending blocks that a table refers to, to be listed in the message
        that publishes them; the other ones are freed if it is the step's last.
        Segments are announced first."""
        blocks = []
        pending, self._pending = self._pending, []
        used = _Used(table, self._segments) if pending else None
        for b in pending:
            if b not in used:
                if last:
                    self._free(b)
                else:
                    self._pending.append(b)
                continue
            s = self._segments[b.segment]
            if not s.sent:
                memory.seal(s.fd, memory.WRITER_SEALS)
                s.sent = True
                self._announce(s.id, s.size, s.fd)
            blocks.append(b)
        return blocks

    def withdraw(self, blocks):
        """Undoes a publish whose message was not sent."""
        self._pending += blocks

    def abort(self, blocks=None):
        """Frees what was committed and not published: all, or these."""
        if blocks is None:
            blocks, self._pending = self._pending, []
        else:
            gone = set(blocks)
            self._pending = [b for b in self._pending if b not in gone]
        for b in blocks:
            self._free(b)

    def release(self, blocks):
        """Frees blocks that nobody refers to any more."""
        for b in blocks:
            if b not in self._blocks:
                raise ProtocolError(f"release of {b}, which is no block of this executor")
            self._free(b)

    def _free(self, block):
        s = self._blocks.pop(block)
        self.used -= block.length
        s.live -= 1
        if s.large:
            self._keep(s)
        elif s.live:
            s.free.setdefault(_class(block.length), []).append(block.offset)
        else:
            s.free.clear()
            s.next = 0
            if len(self._small) > 1:
                self._small.remove(s)
                self._close(s)

    def _keep(self, s):
        self._kept.append(s)
        self._kept_bytes += s.touched
        while self._kept and self._kept_bytes > self._retain:
            coldest = self._kept.pop(0)
            self._kept_bytes -= coldest.touched
            self._close(coldest)

    def give_back(self, s):
        """Takes an unused segment of take_large back."""
        self._keep(s)


class BlockWriter:
    """Writes one value of a length unknown before: in private memory while it
    is small, into a segment of its own when it is not, past that segment's end
    into a further one, so that the value has several spans."""

    def __init__(self, arena):
        self._arena = arena
        self._parts = []  # while small
        self._segment = None
        self._at = 0
        self._blocks = []
        self._open = True
        self.length = 0

    def write(self, data):
        data = memoryview(data)
        if data.format != "B" or data.ndim != 1:
            data = data.cast("B")
        n = len(data)
        self._arena.charge(n)
        self.length += n
        if self._segment is None:
            if self.length < LARGE:
                self._parts.append(bytes(data))
                return n
            self._segment = self._arena.take_large()
            if self._parts:
                self._copy(memoryview(b"".join(self._parts)))
                self._parts = []
        self._copy(data)
        return n

    def _copy(self, data):
        while data:
            room = self._segment.size - self._at
            if room == 0:
                self._blocks.append(self._arena.commit_large(self._segment, self._at))
                self._segment, self._at = self._arena.take_large(), 0
                continue
            piece = data[: min(room, _PIECE)]
            self._segment.write(self._at, piece)
            self._at += len(piece)
            data = data[len(piece) :]

    def commit(self, encoding=JSON):
        """Ends the value; the refs to its pieces in order."""
        if self._segment is not None:
            self._blocks.append(self._arena.commit_large(self._segment, self._at))
        elif self.length:
            self._blocks.append(self._arena.commit_small(self._parts, self.length))
        self._segment, self._parts, self._open = None, [], False
        if not self._blocks:
            return (Ref(0, 0, 0, encoding),)
        return tuple(Ref(*b, encoding) for b in self._blocks)

    def abort(self):
        """Gives everything back. It does nothing after a commit."""
        if not self._open:
            return
        self._open = False
        if self._segment is not None:
            self._arena.give_back(self._segment)
        committed = sum(b.length for b in self._blocks)
        self._arena.abort(self._blocks)
        self._arena.used -= self.length - committed
        self._segment, self._parts, self._blocks = None, [], []
