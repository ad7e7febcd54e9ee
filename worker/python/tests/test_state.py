"""What becomes of a state, in a real executor."""

import importlib.util
import json
import os
import sys
import unittest

import stub  # first: it sets the path
from stub import Supervisor
from millrace.wire import ARROW, JSON, NO_TABLE, OBJECT, RAW, VALUE, Table

SIGN = {"a": 1, "list": [1, {"x": 2}], "text": "é", "configuration": {"p": 1}, "_private": 2, "none": None}


class Case(unittest.TestCase):
    env = {}

    @classmethod
    def setUpClass(cls):
        cls.s = Supervisor(env=cls.env)

    @classmethod
    def tearDownClass(cls):
        cls.s.__exit__()

    def setUp(self):
        self.s.logs.clear()

    def step(self, body, state, **fields):
        """Runs a step of which body is the code."""
        lines = "\n".join("    " + line for line in body.strip().split("\n"))
        return self.s.run(self.s.code(f"import millrace\ndef step(state):\n{lines}\n"), state, **fields)

    def becomes(self, body, state, want):
        e = self.step(body, state)
        self.assertEqual(e.message.type, "done", e.message)
        got = self.s.document(e.table)
        self.assertEqual(got, want)
        if isinstance(want, dict):
            self.assertEqual(list(got), list(want))
        return e


class Meaning(Case):
    def test_results(self):
        kept = {"a": 1, "list": [1, {"x": 2}], "text": "é", "none": None}
        cases = [
            ("pass", SIGN, kept),
            ("return state", SIGN, kept),
            ("state['a'] = [state['a']]", SIGN, {**kept, "a": [1]}),
            ("state['list'][1]['x'] = 'deep'", SIGN, {**kept, "list": [1, {"x": "deep"}]}),
            ("del state['text']", SIGN, {"a": 1, "list": [1, {"x": 2}], "none": None}),
            ("return {'new': state['list'], 'n': len(state)}", SIGN, {"new": [1, {"x": 2}], "n": 6}),
            ("return state | {'a': 2}", SIGN, {**kept, "a": 2}),
            ("return {**state, 'a': 2}", SIGN, {**kept, "a": 2}),
            ("return dict(state)", SIGN, kept),
            ("c = state.copy(); c['b'] = 1; return c", {"a": 1}, {"a": 1, "b": 1}),
            ("c = state.copy(); c['b'] = 1", {"a": 1}, {"a": 1}),
            ("state |= {'z': 1}", {"a": 1}, {"a": 1, "z": 1}),
            ("return {'z': 1} | state", {"a": 1}, {"z": 1, "a": 1}),
            ("state.clear()", SIGN, {}),
            ("return {}", SIGN, {}),
            ("return {'_x': 1, 'response': 2, 'y': 3}", {}, {"y": 3}),
            ("return {1: 'a', True: 'b', None: 'c'}", {}, {"1": "b", "null": "c"}),
            ("state['f'] = print; state['c'] = int; state['m'] = millrace", {"a": 1}, {"a": 1}),
            ("state['f'] = open(__file__)", {}, {"f": "[stream]"}),
            ("state['s'] = state.copy()", {"a": [1]}, {"a": [1], "s": {"a": [1]}}),
            ("state['b'] = state['a']; state['a'].append(2)", {"a": [1]}, {"a": [1, 2], "b": [1, 2]}),
            ("state['d'] = state.pop('a')", {"a": [1]}, {"d": [1]}),
            ("state.setdefault('a', 2); state.setdefault('b', 3)", {"a": 1}, {"a": 1, "b": 3}),
            ("return [k for k in state if k in state and state.get('x') is None]", {"a": 1, "b": 2}, ["a", "b"]),
            ("return len(state['a'])", {"a": [1, 2]}, 2),
            ("return 'text'", {}, "text"),
            ("return False", {"a": 1}, False),
            ("return 0.5", {}, 0.5),
            ("return (1, 2)", {}, [1, 2]),
            ("assert isinstance(state, list), state", [1, 2], [1, 2]),
            ("state.append(3)", [1, 2], [1, 2, 3]),
            ("assert state == 'x'", "x", "x"),
            ("return {'was': state}", 7, {"was": 7}),
            ("assert state == {'a': 1, 'b': [2]} == dict(state)", {"a": 1, "b": [2]}, {"a": 1, "b": [2]}),
            ("import copy; copy.deepcopy(state)['a'].append(1); copy.copy(state)['b'] = 1", {"a": []}, {"a": []}),
            ("state['big'] += 1", {"big": 2**60}, {"big": 2**60 + 1}),
            ("assert list(reversed(state)) == ['b', 'a']", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
            ("import pickle; state['p'] = pickle.loads(pickle.dumps(state))", {"a": [1]}, {"a": [1], "p": {"a": [1]}}),
            ("pass", {}, {}),
        ]
        for body, state, want in cases:
            with self.subTest(body):
                self.becomes(body, state, want)

    def test_absent(self):
        self.assertEqual(self.step("assert len(state) == 0", NO_TABLE).table, NO_TABLE)
        e = self.step("return state | {'a': 1}", NO_TABLE)
        self.assertEqual(self.s.document(e.table), {"a": 1})
        self.assertEqual(self.step("state.clear()", NO_TABLE).table, Table(OBJECT))

    def test_untouched_and_read_keys_pass_as_references(self):
        document = {"big": b' [ {"x" : 1.50, "\\u00e9": 1e2} , 2 ]', "flat": b' 12 ', "text": json.dumps("x" * 5000).encode(), "more": {"a": 1}}
        table = self.s.table(document)
        for body in (
            "pass",
            "state['big'][0]['x'], state['flat'], state['text']",
            "return {k: state[k] for k in state}",
            "for v in state.values(): pass",
            "state['big'].append(1); state['big'].pop()",
            "state['text'] = state['text']",
            "repr(state), str(state)",
        ):
            with self.subTest(body):
                e = self.step(body, table)
                rows = dict(e.table.rows)
                for key, spans in table.rows:
                    if key != "flat" or "return" not in body:  # a small scalar is written anew
                        self.assertEqual(rows[key], spans, key)
        self.assertEqual(self.step("pass", table).message.decoded, 0)
        e = self.step("state['moved'] = state.pop('big')", table)
        self.assertEqual((dict(e.table.rows)["moved"], e.message.encoded), (table.rows[0][1], 0))

    def test_a_bare_value_passes_as_a_reference(self):
        table = self.s.table([1, 2])
        self.assertEqual(self.step("len(state)", table).table, table)
        self.assertEqual(self.step("return state", table).table, table)

    def test_counts(self):
        e = self.step("state['n'] = state['a']", {"a": [1, 2], "b": [3]})
        self.assertEqual((e.message.decoded, e.message.encoded, e.message.blocks), (6, 0, []))
        e = self.step("state['n'] = [state['b'][0]]", {"a": [1, 2], "b": [3]})
        self.assertEqual((e.message.decoded, e.message.encoded, len(e.message.blocks)), (3, 3, 1))

    def test_ropes(self):
        parts = (b'[1,"', "é".encode(), b'"]')
        rope = tuple(self.s.row(p)[0] for p in parts)
        table = Table(OBJECT, (("r", rope),))
        self.assertEqual(self.step("assert state['r'] == [1, 'é']; assert bytes(state.raw('r'))[:2] == b'[1'", table).table, table)

    def test_large_values(self):
        rows = [{"i": i, "text": "x" * 200} for i in range(20_000)]
        e = self.becomes("state['rows'][-1]['i'] = -1; state['copy'] = [1]", {"rows": rows}, {"rows": rows[:-1] + [{**rows[-1], "i": -1}], "copy": [1]})
        self.assertGreater(max(b.length for b in e.message.blocks), 4_000_000)

    def test_async(self):
        source = """
        import asyncio
        async def step(state):
            await asyncio.sleep(0.001)
            asyncio.get_running_loop().create_task(asyncio.sleep(60))
            state["n"] = await asyncio.gather(one(), one())
        async def one():
            return 1
        """
        for _ in range(2):
            self.assertEqual(self.s.result(source, {"a": 1}), {"a": 1, "n": [1, 1]})

    def test_context(self):
        source = """
        def step(state, context):
            context.log("seen", "warn")
            return vars(context) | {"_log": None}
        """
        want = {"run": "R", "step": "S", "attempt": 3, "upstream": "U", "timeout": 1.5, "memory_limit": 1 << 40, "budget": 5000}
        got = self.s.result(source, {}, run="R", step="S", attempt=3, upstream="U", timeout=1_500_000_000, memory_limit=1 << 40, budget=5000)
        self.assertEqual(got, want)
        self.assertEqual(self.s.logs, [("warn", "job", "seen")])

    def test_who_gets_a_context(self):
        source = """
        from functools import partial
        def has(c): return type(c).__name__
        def second(state, c): return has(c)
        def default(state, limit=5): return has(limit)
        def named(state, context=None): return has(context)
        def stars(state, *more): return len(more)
        class Call:
            def __call__(self, state, c): return has(c)
        call = Call()
        part = partial(second, c=0)
        """
        want = {"second": "Context", "default": "int", "named": "Context", "stars": 0, "call": "Context", "part": "int"}
        for name, result in want.items():
            with self.subTest(name):
                self.assertEqual(self.s.result(source, {}, name), result)

    def test_files_beside_a_step_and_shared_modules(self):
        self.s.file("def double(x): return 2 * x\n", "beside_the_step.py")
        path = self.s.file("import beside_the_step, __main__\ncount = 0\ndef step(state):\n    global count\n    count += 1\n    return beside_the_step.double(count)\ndef other(state): return count\n", "main_step.py")
        code = self.s.prepare("python", {"path": path, "function": "step"})
        self.assertEqual([self.s.document(self.s.run(code, {}).table) for _ in range(2)], [2, 4])
        self.assertEqual(self.s.document(self.s.run(self.s.prepare("python", {"path": path, "function": "other"}), {}).table), 2)
        left = [name for _, _, names in os.walk(os.path.dirname(path)) for name in names]
        self.assertEqual([name for name in left if name.startswith("main_step")], ["main_step.py"])

    def test_the_times_surround_the_step(self):
        m = self.step("import time; time.sleep(0.02)", {}).message
        self.assertGreaterEqual(m.finished - m.started, 20_000_000)


class MeaningWithoutOrjson(Meaning):
    env = {"MILLRACE_PYTHON_JSON": "stdlib"}


class Bytes(Case):
    def test_raw(self):
        e = self.becomes("state['n'] = [type(state.raw('a')).__name__, bytes(state.raw('a')).decode(), state.raw('a').readonly]", {"a": b"[1, 2]"}, {"a": [1, 2], "n": ["memoryview", "[1, 2]", True]})
        self.assertEqual(e.message.decoded, 0)
        self.becomes("state['a'].append(2); state['n'] = bytes(state.raw('a')).decode()", {"a": [1]}, {"a": [1, 2], "n": "[1,2]"})
        self.becomes("state['a'] = {'x': 1}; state['n'] = bytes(state.raw('a')).decode()", {}, {"a": {"x": 1}, "n": '{"x":1}'})

    def test_set_raw(self):
        e = self.becomes("state.set_raw('r', 'raw', bytearray(b'\\x00\\xff')); state.set_raw('j', 'json', b' [1] '); state.set_raw('e', 'raw', b'')", {}, {"r": b"\x00\xff", "j": [1], "e": b""})
        self.assertEqual([spans[0].encoding for _, spans in e.table.rows], [RAW, JSON, RAW])
        self.assertEqual(len(e.message.blocks), 2)
        self.becomes("state.set_raw('r', 'raw', b'1'); state.set_raw('r', 'raw', b'2'); assert bytes(state['r']) == b'2'; state['n'] = state.encoding('r')", {}, {"r": b"2", "n": "raw"})
        for call, why in (("'x', 'json', b'[1'", "Expecting"), ("'x', 'xml', b''", "unknown encoding")):
            m = self.s.failure(f"def step(s): s.set_raw({call})")
            self.assertIn(why, m.message)

    def test_a_replaced_raw_value_is_not_published(self):
        e = self.step("state.set_raw('r', 'raw', b'x' * 1000); state['r'] = 1", {})
        self.assertEqual([b.length for b in e.message.blocks], [1])

    def test_raw_keys_are_memoryviews_and_pass(self):
        table = Table(OBJECT, (("r", self.s.row(b"\0\1", RAW)), ("s", self.s.row(b"arrow", ARROW))))
        e = self.step("assert bytes(state['r']) == b'\\0\\1' and state['r'].readonly; return {'r': state['r'], 's': state['s']}", table)
        self.assertEqual(e.table, table)

    def test_bare_raw_value(self):
        table = Table(VALUE, (("", self.s.row(b"\0\1", RAW)),))
        self.assertEqual(self.step("assert bytes(state) == b'\\0\\1'", table).table, table)
        self.assertEqual(self.step("return state", table).table, table)

    def test_views_end_with_the_step(self):
        source = """
        kept = []
        def step(state):
            for v in kept:
                try:
                    bytes(v)
                except ValueError as e:
                    return str(e)
            kept.append(state.raw("a"))
        """
        code = self.s.code(source)
        self.s.run(code, {"a": 1})
        self.assertIn("released", self.s.document(self.s.run(code, {"a": 1}).table))

    def test_arrow_calls(self):
        """Without pyarrow: a stand-in that makes the same calls."""
        source = """
        import sys, types
        class Writer:
            def __init__(self, sink, schema): self.sink = sink; sink.write(schema)
            def __enter__(self): return self
            def __exit__(self, *_): self.sink.close()
            def write(self, table): self.sink.write(memoryview(table.data)); assert self.sink.tell() == 2 + len(table.data)
            def write_batch(self, b): self.sink.write(b)
        class Reader(list):
            schema = b"S:"
        class Table:
            schema = b"S:"
            data = b"x" * 300_000
        pa = types.SimpleNamespace(
            py_buffer=lambda v: ("buffer", v), PythonFile=lambda sink, mode: sink, RecordBatchReader=Reader,
            ipc=types.SimpleNamespace(new_stream=Writer, open_stream=lambda b: ("reader", b)),
        )
        def step(state):
            sys.modules["pyarrow"] = pa
            try:
                state.set_arrow("table", Table)
                state.set_arrow("batches", Reader([b"one", b"two"]))
                reader, (buffer, view) = state.arrow("batches")
                assert (reader, buffer, bytes(view), view.readonly) == ("reader", "buffer", b"S:onetwo", True)
                try:
                    state.arrow("json")
                except TypeError as e:
                    state["why"] = str(e)
            finally:
                del sys.modules["pyarrow"]
        """
        e = self.s.run(self.s.code(source), {"json": [1]})
        self.assertEqual(e.message.type, "done", e.message)
        rows = dict(e.table.rows)
        self.assertEqual([rows[k][0].encoding for k in ("table", "batches")], [ARROW, ARROW])
        self.assertEqual(self.s.bytes(rows["table"]), b"S:" + b"x" * 300_000)
        self.assertIn("not an Arrow stream", self.s.document(e.table)["why"])

    @unittest.skipUnless(importlib.util.find_spec("pyarrow"), "pyarrow is not installed")
    def test_arrow(self):
        e = self.step("import pyarrow as pa; state.set_arrow('t', pa.table({'x': [1, 2, 3]}))", {})
        self.assertEqual(e.message.type, "done", e.message)
        self.assertEqual(dict(e.table.rows)["t"][0].encoding, ARROW)
        table = Table(OBJECT, (("t", self.s.row(self.s.bytes(e.table.rows[0][1]), ARROW)),))
        e = self.step("t = state.arrow('t').read_all(); state['sum'] = sum(t['x'].to_pylist())", table)
        self.assertEqual(self.s.document(e.table)["sum"], 6)
        self.assertEqual(e.table.rows[0], table.rows[0])


class Large(unittest.TestCase):
    def test_released_memory_is_used_again(self):
        with Supervisor() as s:
            code = s.code("def step(state):\n    state['n'] = 'x' * 600_000")
            for _ in range(5):
                e = s.run(code, {})
                s.send("release", blocks=e.message.blocks)
            self.assertEqual(len(s.attached), 1)
            self.assertEqual(s.detached, [])

    def test_nothing_retained(self):
        with Supervisor(retain=0) as s:
            code = s.code("def step(state):\n    state['n'] = 'x' * 600_000")
            for _ in range(3):
                e = s.run(code, {})
                s.send("release", blocks=e.message.blocks)
            s.run(code, {})
            self.assertEqual(len(s.detached), 3)

    def test_prefault(self):
        with Supervisor(prefault=8 << 20) as s:
            self.assertEqual(s.result("def step(state): return 'x' * 600_000", {}), "x" * 600_000)

    def test_threads_of_a_step(self):
        source = """
        from threading import Thread
        def step(state):
            def work(n):
                for i in range(50):
                    state.set_raw(f"{n}", "raw", bytes([n]) * (i * 7000))
                    print(n, i)
            threads = [Thread(target=work, args=(n,)) for n in range(4)]
            for t in threads: t.start()
            for t in threads: t.join()
        """
        with Supervisor() as s:
            for _ in range(3):
                e = s.run(s.code(source), {})
                self.assertEqual(s.document(e.table), {str(n): bytes([n]) * 343_000 for n in range(4)})
                self.assertEqual(len(e.message.blocks), 4)
                s.send("release", blocks=e.message.blocks)

    def test_isolated_python(self):
        with Supervisor([sys.executable, "-I", stub.WORKER]) as s:
            self.assertEqual(s.result("import millrace\ndef step(state): return millrace.__file__", {}), os.path.join(stub.ROOT, "millrace", "__init__.py"))

    def test_detach(self):
        with Supervisor() as s:
            count = s.code("def step(state): return open('/proc/self/maps').read().count('memfd:millrace')")
            mapped = lambda: s.document(s.run(count, NO_TABLE).table)
            mapped()  # from now on the executor's own is there
            before = mapped()
            table = s.table({"a": [1]})
            s.run(s.code("def step(state):\n    assert state['a'] == [1]\n    return {}"), table)
            self.assertEqual(mapped(), before + 1)
            s.send("detach", segments=[table.rows[0][1][0].segment])
            self.assertEqual(mapped(), before)


if __name__ == "__main__":
    unittest.main()
