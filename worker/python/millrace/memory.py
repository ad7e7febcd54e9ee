"""Shared memory: memfds, their seals and mappings, and the segments of other
processes that the supervisor handed over.

A segment is mapped when a step first reads from it, read-only and as a whole.
A view of one may outlive its segment's detach: Python keeps a mapping for as
long as a view of it exists. What it shows by then is undefined.
"""

import fcntl
import mmap
import os
import sys

from .wire import ProtocolError

SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16
#: From birth: nobody can truncate it under a reader.
BIRTH_SEALS = SEAL_SHRINK | SEAL_GROW
#: Before the descriptor leaves: nobody but the one who mapped it can write it.
WRITER_SEALS = SEAL_FUTURE_WRITE | SEAL_SEAL
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_NOEXEC_SEAL = 1, 2, 8
# Before 3.13 a mapping keeps a duplicate of its descriptor.
_NO_TRACKING = {"trackfd": False} if sys.version_info >= (3, 13) else {}


class RefError(Exception):
    """A reference that does not lie inside a segment this process was handed."""


def create(size):
    """The descriptor of a new segment of size bytes, none of them taken yet."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("millrace", flags | _MFD_NOEXEC_SEAL)
    except OSError:  # before Linux 6.3
        fd = os.memfd_create("millrace", flags)
    try:
        os.ftruncate(fd, size)
        seal(fd, BIRTH_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def seal(fd, seals):
    fcntl.fcntl(fd, _F_ADD_SEALS, seals)


def seals(fd):
    """The seals of a memfd. OSError: it is none."""
    return fcntl.fcntl(fd, _F_GET_SEALS)


def map(fd, size, writable):
    """Maps a whole segment. The descriptor stays the caller's."""
    access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(fd, size, mmap.MAP_SHARED, access, **_NO_TRACKING)


def unmap(mapping):
    """Unmaps, now or when the last view is gone."""
    try:
        mapping.close()
    except BufferError:
        pass  # the views hold it


class _Segment:
    __slots__ = ("fd", "size", "mapping")

    def __init__(self, fd, size):
        self.fd, self.size, self.mapping = fd, size, None


class Segments:
    """The segments this process can read, its own included (arena)."""

    def __init__(self, arena):
        self._arena = arena
        self._segments = {}

    def attach(self, id, size, fd):
        """Takes a descriptor over; closes it when it is refused."""
        try:
            if id in self._segments or self._arena.owns(id):
                raise ProtocolError(f"segment {id} was attached twice")
            try:
                has = seals(fd)
            except OSError as e:
                raise ProtocolError(f"segment {id} is no memfd: {e}") from None
            want = BIRTH_SEALS | SEAL_SEAL | (has & SEAL_WRITE or SEAL_FUTURE_WRITE)
            if has & want != want:
                raise ProtocolError(f"segment {id} lacks seals: it has {has:#x}, {want:#x} are needed")
            actual = os.fstat(fd).st_size
            if actual != size or size <= 0:
                raise ProtocolError(f"segment {id} has {actual} bytes, {size} were announced")
        except BaseException:
            os.close(fd)
            raise
        self._segments[id] = _Segment(fd, size)

    def detach(self, ids):
        for id in ids:
            s = self._segments.pop(id, None)
            if s is None:
                continue
            if s.mapping is not None:
                unmap(s.mapping)
            if s.fd >= 0:
                os.close(s.fd)

    def view(self, ref):
        """A read-only memoryview of the reference's bytes, without a copy."""
        if ref.length == 0:
            return memoryview(b"")
        s = self._segments.get(ref.segment)
        if s is None:
            return self._arena.view(ref)
        if ref.offset + ref.length > s.size:
            raise RefError(f"bytes {ref.offset}+{ref.length} lie outside segment {ref.segment} of {s.size} bytes")
        if s.mapping is None:
            s.mapping = map(s.fd, s.size, writable=False)
            os.close(s.fd)
            s.fd = -1
        return memoryview(s.mapping)[ref.offset : ref.offset + ref.length]

    @property
    def counts(self):
        """How many segments are attached, and how many of them are mapped."""
        return len(self._segments), sum(s.mapping is not None for s in self._segments.values())
