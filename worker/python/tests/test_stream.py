"""Streams: the ring's two ends, and steps that feed and read them."""

import os
import random
import unittest

import stub  # first: it sets the path
from stub import Supervisor
from millrace import memory
from millrace.ring import HEADER_SIZE, ItemSizeError, Reader, RingError, Writer
from millrace.wire import JSON, OBJECT, RAW, STREAM, Message, Ref, Table

SMALL = 64 << 10


def new_ring(capacity=SMALL, seals=memory.SEAL_SEAL, size=None):
    fd = memory.create(HEADER_SIZE + capacity if size is None else size)
    memory.seal(fd, seals)
    return fd


class Ring(unittest.TestCase):
    def pair(self):
        fd = new_ring()
        w, r = Writer(os.dup(fd), SMALL), Reader(fd, SMALL)
        self.addCleanup(w.close)
        self.addCleanup(r.close)
        return w, r

    def test_random_items(self):
        w, r = self.pair()
        random.seed(5)
        sent, got = [], []
        while len(got) < 3000:
            data = os.urandom(random.choice((0, 1, 7, 8, 100, 3000, w.limit)))
            if random.random() < 0.6 and w.fits(len(data)):
                w.write(data)
                sent.append(data)
            elif random.random() < 0.5:
                view = r.take()
                if view is not None:
                    got.append(bytes(view))
                    view.release()
                if random.random() < 0.5 or view is None:
                    r.free()
            elif r.demand - r.items < 5:
                r.ask(r.items + 20)
            self.assertLessEqual(w.items, r.demand)
            self.assertLessEqual(w.at - r._freed, SMALL)
        self.assertEqual(got, sent[: len(got)])
        self.assertGreater(w.at, 20 * SMALL)

    def test_an_item_too_large(self):
        w, _ = self.pair()
        with self.assertRaises(ItemSizeError) as caught:
            w.fits(SMALL // 2 - 7)
        self.assertEqual((caught.exception.size, caught.exception.limit), (SMALL // 2 - 7, SMALL // 2 - 8))
        w, r = self.pair()
        r.ask(9)
        for _ in range(5):  # the largest fits wherever the ring stands
            self.assertTrue(w.fits(w.limit))
            w.write(b"x" * w.limit)
            self.assertEqual(bytes(r.take()), b"x" * w.limit)
            r.free()

    def test_what_a_writer_may_not_do(self):
        def broken(change):
            w, r = self.pair()
            r.ask(10)
            w.write(b"one")
            self.assertEqual(bytes(r.take()), b"one")
            change(w, r)
            with self.assertRaises(RingError):
                r.take()

        def record(w, size, kind, written):
            w._data[16:24] = size.to_bytes(4, "little") + kind.to_bytes(4, "little")
            w._counters[0] = written

        broken(lambda w, r: record(w, 0, 0, 8))  # shrinks
        broken(lambda w, r: record(w, 0, 0, SMALL + 8))  # more than there is room for
        broken(lambda w, r: record(w, 0, 0, 1 << 63))
        broken(lambda w, r: record(w, 0, 0, 27))
        broken(lambda w, r: record(w, 100, 0, 32))  # past what is written
        broken(lambda w, r: record(w, 0xFFFFFFFF, 0, 32))
        broken(lambda w, r: record(w, 8, 2, 32))
        broken(lambda w, r: record(w, 8, 1, 32))  # a skip that does not reach the end

    def test_what_a_reader_may_not_do(self):
        def broken(word, value):
            w, r = self.pair()
            r.ask(2)
            self.assertTrue(w.fits(10))
            w.write(b"x" * 10)
            w.write(b"x" * 10)
            r.take(), r.take(), r.free(), w.fits(10)
            r._counters[word] = value
            with self.assertRaises(RingError):
                w.fits(10)

        for value in (0, w_at(3), 1 << 63):
            broken(8, value)
        broken(16, 1)

    def test_what_is_no_ring(self):
        r, w = os.pipe()
        os.close(w)
        for fd, capacity in ((new_ring(seals=0), SMALL), (new_ring(size=8192), SMALL), (new_ring(), 2 * SMALL), (new_ring(96 << 10), 96 << 10), (new_ring(32 << 10), 32 << 10), (r, SMALL)):
            with self.assertRaises(RingError):
                Reader(fd, capacity)
            self.assertRaises(OSError, os.fstat, fd)

    def test_flags(self):
        w, r = self.pair()
        self.assertFalse(w.must_wake())
        r.sleep()
        self.assertTrue(w.must_wake())
        self.assertFalse(w.must_wake())
        r.sleep()
        r.rise()
        self.assertFalse(w.must_wake())
        w.sleep()
        self.assertTrue(r.must_wake())


def w_at(items):
    return items * 24


class Broker:
    """Brings the two ends of streams together: executors, or this process."""

    def __init__(self, capacity=SMALL, max_demand=10, min_demand=5, manual=False):
        self.fields = {"capacity": capacity, "max_demand": max_demand, "min_demand": min_demand, "manual": manual}
        self.fd = new_ring(capacity)
        self.wakes = 0

    def ring(self, s, id):
        s.channel.send(Message("stream-ring", stream=99, **self.fields), id, file=self.fd)

    def end(self, s, name="", message="", severity=""):
        s.send("stream-end", stream=99, severity=severity, name=name, message=message)


ROW = (Ref(99, 0, 0, JSON, STREAM),)


class Case(unittest.TestCase):
    def supervisor(self):
        s = Supervisor()
        self.addCleanup(s.__exit__)
        return s

    def broker(self, **fields):
        b = Broker(**fields)
        self.addCleanup(os.close, b.fd)
        return b

    def code(self, s, body):
        lines = "\n".join("    " + line for line in body.strip().split("\n"))
        return s.code(f"import millrace\ndef step(state):\n{lines}\n")


class Producing(Case):
    """The stream's reader is this process."""

    def setUp(self):
        self.s, self.b = self.supervisor(), self.broker()
        self.handed = None
        self.ends, self.items = [], []
        self.s.on = {"stream": self.on_stream, "wake": lambda e: self.read(), "stream-end": self.on_end, "call": self.on_call, "forget": lambda e: None}
        self.stop_after = None

    def on_call(self, e):
        self.s.send("result", e.id, self.s.publish({"n": self.s.document(e.table)["n"] + 1}), step="s")

    def on_stream(self, e):
        self.handed = e
        self.reader = Reader(os.dup(self.b.fd), SMALL)
        self.addCleanup(self.reader.close)
        self.b.ring(self.s, e.id)
        self.reader.sleep()
        self.reader.ask(10)
        if self.reader.must_wake():
            self.s.send("wake", stream=99)

    def on_end(self, e):
        self.read()
        self.ends.append(e.message)

    def read(self):
        r = self.reader
        while True:
            view = r.take()
            if view is None:
                r.free()
                r.ask(r.items + 10)
                if r.must_wake():
                    self.s.send("wake", stream=99)
                r.sleep()
                if not r.has():
                    return
                continue
            self.items.append(bytes(view))
            view.release()
            if len(self.items) == self.stop_after:
                self.b.end(self.s)
            if self.stop_after and len(self.items) >= self.stop_after:
                return

    def run_step(self, body, state=None):
        return self.s.run(self.code(self.s, body), {} if state is None else state)

    def test_hand_over_and_items(self):
        table = self.s.table({"a": [1], "configuration": 1})
        e = self.run_step("state['b'] = [2]\nstate['items'] = ({'n': i} for i in range(500))", table)
        self.assertEqual((e.message.type, e.table.kind, e.message.blocks), ("done", 0, []), e.message)
        m = self.handed.message
        self.assertEqual((m.key, m.encoding, m.capacity, len(m.blocks)), ("items", JSON, 0, 1))
        self.assertEqual(self.s.document(self.handed.table), {"a": [1], "b": [2]})
        self.assertEqual(self.handed.table.rows[0], table.rows[0])
        self.assertEqual(self.items, [b'{"n":%d}' % i for i in range(500)])
        self.assertEqual([m.name for m in self.ends], [""])

    def test_what_yields(self):
        for body in (
            "return {'x': iter([1, 2])}",
            "state['x'] = map(int, '12')",
            "async def f():\n    for i in (1, 2): yield i\nreturn {'x': f()}",
            "return {'x': millrace.Stream([1, 2])}",
            "yield 1\nyield 2",
        ):
            with self.subTest(body):
                self.items.clear()
                e = self.run_step(body)
                self.assertEqual(e.message.type, "done", e.message)
                self.assertEqual((self.items, self.handed.message.key), ([b"1", b"2"], "data" if "yield 1" in body else "x"))
                self.reader.close()
                os.pwrite(self.b.fd, bytes(HEADER_SIZE), 0)

    def test_raw_items_of_any_size(self):
        e = self.run_step("return {'x': millrace.Stream((bytes([i % 251]) * (i * 97 % 30_000) for i in range(300)), 'raw', capacity=1 << 16)}")
        self.assertEqual(e.message.type, "done", e.message)
        self.assertEqual((self.handed.message.encoding, self.handed.message.capacity), (RAW, 1 << 16))
        self.assertEqual(self.items, [bytes([i % 251]) * (i * 97 % 30_000) for i in range(300)])

    def test_calls_while_feeding(self):
        e = self.run_step("return {'x': (state.call('s', {'n': i})['n'] for i in range(30))}")
        self.assertEqual(e.message.type, "done", e.message)
        self.assertEqual(self.items, [b"%d" % i for i in range(1, 31)])

    def test_the_reader_wants_no_more(self):
        self.stop_after = 25
        e = self.run_step("def f():\n    try:\n        for i in range(10**9): yield i\n    finally:\n        print('closed')\nreturn {'x': f()}")
        self.assertEqual(e.message.type, "done", e.message)
        self.assertLess(len(self.items), 30)  # a wake may have crossed the end
        self.assertEqual(self.ends, [])
        self.assertIn(("info", "job", "closed"), self.s.logs)

    def test_the_reader_fails(self):
        def on_stream(e):
            self.on_stream(e)
            self.b.end(self.s, "OOMError", "it was too much", "kill")

        self.s.on["stream"] = on_stream
        m = self.run_step("import itertools\nreturn {'x': itertools.count()}").message
        self.assertEqual((m.severity, m.name, m.message), ("kill", "OOMError", "it was too much"))

    def test_failures(self):
        for body, severity, name, words in (
            ("def f():\n    yield 1\n    raise KeyError('k')\nreturn {'x': f()}", "fail", "JobError", "KeyError: 'k'"),
            ("return {'x': iter([object()])}", "fail", "RuntimeError", "state.x[0] is of type object"),
            ("return {'x': iter(['x' * 40_000])}", "kill", "StateTooLargeError", "a stream's item of 40002 bytes"),
            ("return {'x': millrace.Stream([1], 'raw')}", "fail", "RuntimeError", "are bytes"),
            ("return {'x': iter([]), 'y': iter([])}", "fail", "RuntimeError", "state.y is a second stream"),
        ):
            with self.subTest(body):
                m = self.run_step(body).message
                self.assertEqual((m.type, m.severity, m.name), ("fail", severity, name), m)
                self.assertIn(words, m.message)
                os.pwrite(self.b.fd, bytes(HEADER_SIZE), 0)
        self.assertEqual(self.ends, [])

    def test_refused(self):
        self.s.on["stream"] = lambda e: self.s.send("fail", e.id, started=0, finished=0, severity="exception", name="StreamError", message="no", details="")
        m = self.run_step("return {'x': iter([])}").message
        self.assertEqual((m.severity, m.name, m.message), ("exception", "StreamError", "no"))
        with Supervisor(capabilities=("calls",)) as s:
            self.assertIn("does not offer streams", s.failure("def step(state): return {'x': iter([])}").message)

    def test_cancelled_while_it_waits_for_demand(self):
        def on_stream(e):
            self.b.ring(self.s, e.id)
            self.s.send("cancel", self.s._last_id, reason="enough")

        self.s.on["stream"] = on_stream
        m = self.run_step("return {'x': iter([1])}").message
        self.assertEqual((m.severity, m.message), ("cancel", "the step was cancelled: enough"))

    def test_a_reader_that_breaks_the_rules(self):
        def on_stream(e):
            self.on_stream(e)
            self.reader._counters[8] = 1 << 40

        self.s.on.update(stream=on_stream, wake=lambda e: None)
        m = self.run_step("import itertools\nreturn {'x': itertools.count()}").message
        self.assertEqual((m.severity, m.name), ("exception", "StreamError"))
        self.assertIn("counts 1099511627776 bytes read", m.message)


class Consuming(Case):
    """The stream's writer is this process."""

    def setUp(self):
        self.s, self.b = self.supervisor(), self.broker()
        self.todo, self.ends = [], []
        self.finish = lambda: self.b.end(self.s)
        self.most = 0
        self.s.on = {"consume": self.on_consume, "wake": lambda e: self.write(), "stream-end": lambda e: self.ends.append(e.message), "call": self.on_call, "forget": lambda e: None}
        self.calls = []

    def on_call(self, e):
        self.calls.append(e)
        self.s.send("result", e.id, self.s.publish({"n": sum(self.s.document(e.table)["data"])}), step="s")

    def on_consume(self, e):
        self.assertEqual(e.message.stream, 99)
        self.w = Writer(os.dup(self.b.fd), self.b.fields["capacity"])
        self.addCleanup(self.w.close)
        self.b.ring(self.s, e.id)
        self.write()

    def write(self):
        w = self.w
        while self.todo:
            data = self.todo[0]
            if not w.fits(len(data)):
                w.sleep()
                if not w.fits(len(data)):
                    return
                continue
            w.write(data)
            self.most = max(self.most, w.items)
            del self.todo[0]
            if w.must_wake():
                self.s.send("wake", stream=99)
        if self.finish:
            self.finish()
            self.finish = None

    def run_step(self, body, items=(), encoding=JSON, **state):
        self.todo = list(items)
        rows = self.s.table(state).rows + (("items", (ROW[0]._replace(encoding=encoding),)),)
        return self.s.run(self.code(self.s, body), Table(OBJECT, rows))

    def test_items(self):
        e = self.run_step("state['sum'] = sum(x['n'] for x in state['items'])", (b'{"n":%d}' % i for i in range(1000)), a=1)
        self.assertEqual(e.message.type, "done", e.message)
        self.assertEqual(self.s.document(e.table), {"a": 1, "sum": 499500})  # what was read is gone
        self.assertEqual(self.ends, [])

    def test_large_items(self):
        items = [bytes([65 + i % 26]) * (i * 331 % 32_000) for i in range(200)]
        e = self.run_step("return [[len(v), bytes(v[:1]).decode()] for v in state['items'].raw()]", items, RAW)
        self.assertEqual(self.s.document(e.table), [[len(i), i[:1].decode()] for i in items])
        self.setUp()
        e = self.run_step("return [type(v).__name__ for v in state['items']]", [b"a"], RAW)
        self.assertEqual(self.s.document(e.table), ["bytes"])

    def test_raw_views_end(self):
        e = self.run_step("last = None\nfor v in state['items'].raw():\n    if last is not None:\n        try:\n            bytes(last)\n        except ValueError as e:\n            return str(e)\n    last = v", [b"1", b"2"])
        self.assertIn("released", self.s.document(e.table))

    def test_untouched_it_is_passed_on(self):
        for body in ("pass", "repr(state)", "str(state['items']), state.encoding('items')", "state['items'].ask(5)", "return {'items': state['items']}"):
            e = self.run_step(body, a=1)
            self.assertEqual(dict(e.table.rows)["items"], ROW, body)
        self.assertIn("iterate over", self.run_step("state.raw('items')").message.message)

    def test_demand_is_kept(self):
        self.finish = None
        seen = []
        self.s.on["log"] = None
        body = "for i, x in enumerate(state['items']):\n    if i == 2:\n        state.call('s', {'data': [1]})\n        break"
        self.s.on["call"] = lambda e: (seen.append(self.w.items), self.on_call(e))
        e = self.run_step(body, [b"0"] * 100)
        self.assertEqual((e.message.type, seen), ("done", [10]))

    def test_manual_demand(self):
        self.b.fields["manual"] = True
        body = """
items = state['items']
got = [next(items)]
state.call('s', {'data': [1]})
items.ask(3)
got += [next(items) for _ in range(3)]
state.call('s', {'data': [1]})
return got
"""
        seen = []
        self.s.on["call"] = lambda e: (seen.append(self.w.items), self.on_call(e))
        e = self.run_step(body, [b"%d" % i for i in range(10)])
        self.assertEqual((self.s.document(e.table), seen), ([0, 1, 2, 3], [1, 4]))

    def test_wants_no_more(self):
        for body in ("for x in state['items']:\n    break\nreturn x", "i = state['items']; x = next(i); i.close(); assert list(i) == []; return x"):
            e = self.run_step(body, [b"7"] * 100)
            self.assertEqual((self.s.document(e.table), [m.name for m in self.ends]), (7, [""]))
            self.ends.clear()
            self.w.close()
            os.pwrite(self.b.fd, bytes(HEADER_SIZE), 0)

    def test_the_writer_fails(self):
        self.finish = lambda: self.b.end(self.s, "JobError", "no such file", "fail")
        m = self.run_step("return list(state['items'])", [b"1"]).message
        self.assertEqual((m.severity, m.name, m.message), ("fail", "JobError", "no such file"))
        self.setUp()
        self.finish = lambda: self.b.end(self.s, "ExecutorLostError", "it died", "crash")
        e = self.run_step("try:\n    list(state['items'])\nexcept millrace.StreamError as e:\n    return [e.name, e.severity]", [b"1"])
        self.assertEqual(self.s.document(e.table), ["ExecutorLostError", "crash"])

    def test_bad_items_and_bad_rings(self):
        m = self.run_step("return list(state['items'])", [b"1", b"[2"]).message
        self.assertEqual((m.name, "item 2 of state.items is no valid JSON" in m.message), ("RuntimeError", True), m)
        self.setUp()

        def finish():
            self.w._counters[0] = 1 << 50
            self.b.end(self.s)

        self.finish = finish
        m = self.run_step("return list(state['items'])", [b"1"]).message
        self.assertEqual((m.severity, m.name), ("exception", "StreamError"))
        self.setUp()
        self.b.fields["capacity"] *= 2
        self.s.on["consume"] = lambda e: self.b.ring(self.s, e.id)
        self.assertEqual(self.run_step("return list(state['items'])").message.name, "StreamError")

    def test_refused(self):
        self.s.on["consume"] = lambda e: self.s.send("fail", e.id, started=0, finished=0, severity="exception", name="StreamError", message="it has a reader", details="")
        m = self.run_step("return list(state['items'])").message
        self.assertEqual((m.name, m.message), ("StreamError", "it has a reader"))

    def test_cancelled_while_it_waits(self):
        self.finish = lambda: self.s.send("cancel", self.s._last_id, reason="enough")
        m = self.run_step("return list(state['items'])", [b"1"]).message
        self.assertEqual((m.severity, m.message), ("cancel", "the step was cancelled: enough"))

    def test_each_page_of_a_stream(self):
        pages = [b"[%d, 1]" % i for i in range(50)]
        e = self.run_step("return sorted(r['n'] for r in state.each(state['items'], 's', 4))", pages)
        self.assertEqual(self.s.document(e.table), [i + 1 for i in range(50)])
        self.assertEqual((e.message.decoded > 0, self.s.bytes(dict(self.calls[0].table.rows)["data"])), (True, b"[0, 1]"))

    def test_results_do_not_wait_for_pages(self):
        """The next page comes only when the first one's result was taken."""
        self.finish = None

        def on_call(e):
            self.on_call(e)

        def on_done(e):  # the step says that it has the result
            self.todo = [b"[2]"]
            self.finish = lambda: self.b.end(self.s)
            self.write()
            self.on_call(e)

        self.s.on["call"] = lambda e: on_done(e) if e.message.step == "got" else on_call(e)
        e = self.run_step("got = []\nfor r in state.each(state['items'], 's', 4):\n    got.append(r['n'])\n    if len(got) == 1: state.call('got', {'data': []})\nreturn got", [b"[1]"])
        self.assertEqual(self.s.document(e.table), [1, 2])


class Both(Case):
    def test_two_executors(self):
        """A pipeline of Python at both ends, this process between them."""
        a, b, broker = self.supervisor(), self.supervisor(), self.broker(max_demand=50, min_demand=10)
        import selectors

        state = {}
        pass_on = lambda to: lambda e: to.send(e.message.type, **{k: v for k, v in e.message.__dict__.items() if k != "type"})
        a.on = {"wake": pass_on(b), "stream-end": pass_on(b), "stream": lambda e: (state.update(handed=True), broker.ring(a, e.id))}
        b.on = {"wake": pass_on(a), "stream-end": pass_on(a), "consume": lambda e: broker.ring(b, e.id)}
        n = 5000
        source = self.code(a, f"return {{'items': ({{'n': i, 'pad': 'x' * (i % 900)}} for i in range({n}))}}")
        sink = self.code(b, "count = total = 0\nfor x in state['items']:\n    count += 1\n    total += x['n'] + len(x['pad'])\nreturn [count, total]")
        started = {a: a.start(source, {})}
        while "handed" not in state:
            a.take(started[a])
        started[b] = b.start(sink, Table(OBJECT, (("items", ROW),)))
        done = {}
        selector = selectors.DefaultSelector()
        for s in (a, b):
            selector.register(s.channel.sock, selectors.EVENT_READ, s)
        while len(done) < 2:
            ready = [key.data for key, _ in selector.select(10)]
            self.assertTrue(ready, f"stands still: {done}")
            for s in ready:
                while True:
                    e = s.take(started[s])
                    if e is not None:
                        done[s] = e
                    if s.channel._buffer == b"":
                        break
        selector.close()
        self.assertEqual(done[a].message.type, "done", done[a].message)
        self.assertEqual(b.document(done[b].table), [n, sum(i + i % 900 for i in range(n))])


if __name__ == "__main__":
    unittest.main()
