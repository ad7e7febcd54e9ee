"""Blocks against a model, limits, retention, and what a segment refuses."""

import os
import random
import unittest

import stub  # first: it sets the path
from millrace import arena as arenas
from millrace import memory
from millrace.arena import Arena, BudgetError
from millrace.memory import RefError, Segments
from millrace.wire import OBJECT, RAW, Block, ProtocolError, Ref, Table


class Case(unittest.TestCase):
    def setUp(self):
        self.announced, self.dropped = {}, []

    def make(self, retain=64 << 20):
        return Arena(3, retain, announce=self.announce, drop=self.dropped.extend)

    def announce(self, id, size, fd):
        self.assertNotIn(id, self.announced)
        self.assertEqual(id >> 32, 3)
        self.announced[id] = (os.dup(fd), size)

    def tearDown(self):
        for fd, _ in self.announced.values():
            os.close(fd)

    def reader(self):
        """Segments as another process would open them."""
        s = Segments(self.make_foreign())
        for id, (fd, size) in self.announced.items():
            s.attach(id, size, os.dup(fd))
        return s

    def make_foreign(self):
        return Arena(99, 0, announce=None, drop=None)


def table_of(*blocks):
    return Table(OBJECT, tuple((str(i), (Ref(*b),)) for i, b in enumerate(blocks)))


def blocks(spans):
    return [Block(s.segment, s.offset, s.length) for s in spans]


class Model(Case):
    def test_random_lives(self):
        r = random.Random(3)
        a = self.make(retain=1 << 20)
        live = {}
        sizes = [1, 63, 64, 65, 1000, 5000, arenas.LARGE - 1, arenas.LARGE, arenas.LARGE + 1, 700_000]
        for i in range(400):
            if live and r.random() < 0.45:
                block = r.choice(list(live))
                self.assertEqual(bytes(a.view(Ref(*block))), live.pop(block))
                a.release([block])
                continue
            data = bytes([i % 251]) * r.choice(sizes)
            (span,) = a.write(data, RAW)
            (block,) = blocks([span])
            self.assertEqual(span.offset % 64, 0)
            if r.random() < 0.2:
                a.abort()
                continue
            self.assertEqual(a.publish(table_of(block)), [block])
            for b in live:  # no two overlap
                self.assertFalse(b.segment == block.segment and b.offset < block.offset + block.length and block.offset < b.offset + b.length)
            live[block] = data
        self.assertEqual(a.used, sum(b.length for b in live))
        readers = self.reader()
        for block, data in live.items():
            self.assertEqual(bytes(readers.view(Ref(*block))), data)
        a.release(list(live))
        self.assertEqual(a.used, 0)

    def test_memory_is_used_again(self):
        a = self.make()
        seen = set()
        for size in (1000, 400_000):
            for _ in range(50):
                (b,) = blocks(a.write(b"x" * size))
                a.publish(table_of(b))
                a.release([b])
                seen.add(b)
        self.assertEqual(len(seen), 2)
        self.assertEqual(len(self.announced), 2)

    def test_what_is_not_retained_is_given_up(self):
        a = self.make(retain=0)
        (b,) = blocks(a.write(b"x" * 400_000))
        a.publish(table_of(b))
        a.release([b])
        self.assertEqual(self.dropped, [b.segment])

    def test_a_value_larger_than_a_segment_has_several_spans(self):
        a = self.make()
        arenas.LARGE_SEGMENT, was = 1 << 20, arenas.LARGE_SEGMENT
        try:
            data = os.urandom(2_500_000)
            w = a.writer()
            for i in range(0, len(data), 300_000):
                w.write(data[i : i + 300_000])
            spans = w.commit(RAW)
            self.assertEqual(len(spans), 3)
            self.assertEqual(b"".join(a.view(s) for s in spans), data)
            w = a.writer()
            w.write(data)
            w.abort()
            self.assertEqual(a.used, len(data))
        finally:
            arenas.LARGE_SEGMENT = was

    def test_prefault(self):
        a = self.make()
        a.prefault(8 << 20, lambda: False)
        (b,) = blocks(a.write(b"x" * 300_000))
        self.assertEqual(b.segment & 0xFFFFFFFF, 1)
        self.assertGreaterEqual(os.fstat(a._segments[b.segment].fd).st_blocks * 512, 8 << 20)

    def test_unused_blocks_are_not_published(self):
        a = self.make()
        (first,), (second,) = blocks(a.write(b"1")), blocks(a.write(b"2"))
        self.assertEqual(a.publish(table_of(second)), [second])
        self.assertEqual(a.used, 1)

    def test_limit(self):
        a = self.make()
        a.limit = 1000
        a.write(b"x" * 600)
        w = a.writer()
        w.write(b"x" * 300)
        with self.assertRaises(BudgetError) as caught:
            w.write(b"x" * 200)
        w.abort()
        e = caught.exception
        self.assertEqual((e.size, e.used, e.limit), (200, 900, 1000))
        self.assertEqual(a.used, 600)
        a.write(b"x" * 400)

    def test_release_of_what_is_no_block(self):
        a = self.make()
        (b,) = blocks(a.write(b"abc"))
        a.publish(table_of(b))
        for bad in (b._replace(length=2), b._replace(offset=64), b._replace(segment=1), Block(0, 0, 0)):
            with self.assertRaises(ProtocolError):
                a.release([bad])
        a.release([b])
        with self.assertRaises(ProtocolError):
            a.release([b])

    def test_sizes_are_classed_closely(self):
        for n in range(1, arenas.LARGE, 997):
            size = arenas._class(n)
            self.assertGreaterEqual(size, n)
            self.assertLessEqual(size, max(n * 1.26 + 64, 64))
            self.assertEqual(size % 64, 0)
            self.assertEqual(arenas._class(size), size)


class Segment(Case):
    def test_sealed_before_it_leaves(self):
        a = self.make()
        (b,) = blocks(a.write(b"abc"))
        a.publish(table_of(b))
        fd, size = self.announced[b.segment]
        for attempt in (
            lambda: os.ftruncate(fd, size - 4096),
            lambda: os.ftruncate(fd, size + 4096),
            lambda: os.pwrite(fd, b"x", 0),
            lambda: memory.map(fd, size, writable=True),
        ):
            self.assertRaises(PermissionError, attempt)

    def test_attach_refuses(self):
        s = Segments(self.make())
        unsealed = memory.create(4096)
        with self.assertRaisesRegex(ProtocolError, "seals"):
            s.attach(5, 4096, os.dup(unsealed))
        memory.seal(unsealed, memory.WRITER_SEALS)
        with self.assertRaisesRegex(ProtocolError, "announced"):
            s.attach(5, 8192, os.dup(unsealed))
        read, write = os.pipe()
        with self.assertRaisesRegex(ProtocolError, "memfd"):
            s.attach(5, 4096, read)
        self.assertRaises(OSError, os.fstat, read)  # closed
        os.close(write)
        s.attach(5, 4096, os.dup(unsealed))
        with self.assertRaisesRegex(ProtocolError, "twice"):
            s.attach(5, 4096, os.dup(unsealed))
        os.close(unsealed)

    def test_references_are_checked(self):
        s = Segments(self.make())
        fd = memory.create(4096)
        memory.seal(fd, memory.WRITER_SEALS)
        s.attach(5, 4096, fd)
        for ref in (Ref(5, 4000, 97), Ref(5, 1 << 63, 1), Ref(6, 0, 1), Ref(5, 0, 1 << 63)):
            self.assertRaises(RefError, s.view, ref)
        self.assertEqual(s.counts, (1, 0))  # nothing was mapped for that
        view = s.view(Ref(5, 4000, 96))
        self.assertTrue(view.readonly)
        self.assertEqual(s.counts, (1, 1))
        s.detach([5, 77])
        self.assertEqual(bytes(view), bytes(96))  # a view keeps the mapping
        self.assertRaises(RefError, s.view, Ref(5, 0, 1))
