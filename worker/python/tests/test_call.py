"""Calls, each, forward and ropes, in a real executor."""

import json
import os
import unittest

import stub  # first: it sets the path
from stub import Supervisor
from millrace.wire import JSON, NO_TABLE, OBJECT, RAW, STREAM, VALUE, Block, Ref, Table


class Failure(Exception):
    """What a called step fails with."""

    def __init__(self, name="JobError", severity="fail", message="no", details=""):
        self.fields = {"started": 0, "finished": 0, "severity": severity, "name": name, "message": message, "details": details}


class Case(unittest.TestCase):
    """Each step that is called is a function of a document in self.steps."""

    def setUp(self):
        self.s = Supervisor()
        self.addCleanup(self.s.__exit__)
        self.steps = {}
        self.calls, self.forgotten, self.cancelled, self.forwarded = [], [], [], []
        self.held = []  # calls that are answered later
        self.s.on = {"call": self.on_call, "forget": lambda e: self.forgotten.extend(e.message.calls), "cancel": lambda e: self.cancelled.append(e.id), "forward": lambda e: self.forwarded.append((e.id, e.message.step))}

    def on_call(self, e):
        self.calls.append(e)
        step = self.steps[e.message.step]
        if step is None:
            self.held.append(e)
        else:
            self.answer(e, step)

    def answer(self, e, step):
        try:
            result = step(self.s.document(e.table)) if callable(step) else step
        except Failure as f:
            self.s.send("fail", e.id, **f.fields)
            return
        self.s.send("result", e.id, self.s.publish(result), step=e.message.step)

    def step(self, body, state=None, **fields):
        lines = "\n".join("    " + line for line in body.strip().split("\n"))
        code = self.s.code(f"import millrace\ndef step(state, context):\n{lines}\n")
        return self.s.run(code, {} if state is None else state, **fields)

    def gives(self, body, state, want, **fields):
        e = self.step(body, state, **fields)
        self.assertEqual(e.message.type, "done", e.message)
        self.assertEqual(self.s.document(e.table), want)
        return e


class Call(Case):
    def test_argument_and_result(self):
        self.steps["double"] = lambda d: {"data": [2 * x for x in d["data"]], "note": "é"}
        self.gives("r = state.call('double', {'data': [1, 2]}); return {'a': r['data'], 'n': r['note'], 'k': list(r)}", {}, {"a": [2, 4], "n": "é", "k": ["data", "note"]})
        self.gives("return state.call('double', until='leaf', timeout=1.5)", {"data": [3]}, {"data": [6], "note": "é"})
        first, second = self.calls
        self.assertEqual((first.message.until, first.message.timeout), ("step", 0))
        self.assertEqual((second.message.until, second.message.timeout), ("leaf", 1_500_000_000))
        self.assertLess(first.id, second.id)

    def test_references_both_ways(self):
        big = self.s.table({"big": ["x" * 1000], "small": 1})
        result = {}

        def callee(document):
            result["table"] = self.s.table({"made": [1, 2, 3], "more": {"a": 1}})
            return result["table"]

        self.steps["s"] = callee
        for body in (
            "return state | state.call('s', state)",
            "r = state.call('s', state); state['made'] = r['made']; state['more'] = r['more']",
            "r = state.call('s'); return {'big': state['big'], 'small': state['small'], 'made': r['made'], 'more': r['more']}",
            "state.update(state.call('s'))",
        ):
            with self.subTest(body):
                e = self.step(body, big)
                self.assertEqual(e.message.type, "done", e.message)
                rows = dict(e.table.rows)
                self.assertEqual(dict(self.calls[-1].table.rows)["big"], big.rows[0][1])
                for key, spans in (*big.rows[:1], *result["table"].rows):
                    self.assertEqual(rows[key], spans, key)
                self.assertEqual(self.calls[-1].message.blocks, [])

    def test_the_value_of_a_result_that_is_gone(self):
        self.steps["s"] = lambda d: {"data": d["n"]}
        self.gives("state['a'] = state.call('s', {'n': [1]})['data']; state['b'] = state.call('s', {'n': [2]})['data']", {}, {"a": [1], "b": [2]})
        self.gives("r = [state.call('s', {'n': [i]})['data'] for i in range(20)]; return {'r': r}", {}, {"r": [[i] for i in range(20)]})

    def test_bare_and_absent(self):
        self.steps.update(len=lambda d: len(d), list=lambda d: [1, d], none=lambda d: NO_TABLE)
        self.gives("return context.call('len', [1, 2, 3])", {}, 3)
        self.gives("return state.call('list', 7)", {}, [1, 7])
        self.gives("r = state.call('none'); return {'n': len(r), 'kind': type(r).__name__}", {"a": 1}, {"n": 0, "kind": "State"})
        self.assertEqual(self.calls[0].table.kind, VALUE)

    def test_raw_values(self):
        self.steps["s"] = lambda d: Table(OBJECT, (("r", self.s.row(b"\0\1", RAW)),))
        self.gives("r = state.call('s'); return {'n': bytes(r['r'])[1], 'm': bytes(r.raw('r'))[0]}", {}, {"n": 1, "m": 0})
        source = "v = state.call('s').raw('r'); state.call('s')\ntry:\n    bytes(v)\nexcept ValueError as e:\n    return str(e)"
        self.assertIn("released", self.s.document(self.step(source).table))
        self.steps["bare"] = lambda d: Table(VALUE, (("", self.s.row(b"\2", RAW)),))
        self.gives("v = state.call('bare'); state.call('s'); return v[0]", {}, 2)

    def test_cleaning_and_errors_of_arguments(self):
        self.steps["s"] = lambda d: d
        self.gives("return state.call('s', {'a': 1, '_p': 2, 'configuration': 3, 'f': print})", {}, {"a": 1})
        for body, name, words in (
            ("state.call('s', {'a': object()})", "RuntimeError", "state.a is of type object"),
            ("state.call('s', {'a': (x for x in ())})", "RuntimeError", "only with its result"),
            ("state.call('s', until='end')", "JobError", "until='end'"),
            ("state.call('s', timeout=0)", "JobError", "timeout=0"),
        ):
            m = self.step(body).message
            self.assertEqual((m.type, m.name), ("fail", name), m)
            self.assertIn(words, m.message)

    def test_errors(self):
        def fails(_):
            raise Failure("AdaptorError", "crash", "no such patient", '{"code": 404}')

        self.steps["s"] = fails
        self.gives("try:\n    state.call('s')\nexcept millrace.CallError as e:\n    return [e.name, e.severity, e.message, e.details, e.step]", {}, ["AdaptorError", "crash", "no such patient", {"code": 404}, "s"])
        m = self.step("state.call('s')").message
        self.assertEqual((m.severity, m.name, m.message), ("crash", "AdaptorError", "no such patient"))
        self.assertEqual(json.loads(m.details)["code"], 404)

        def odd(_):
            raise Failure("X", "odd", "m", "[1")

        self.steps["s"] = odd
        m = self.step("state.call('s')").message
        self.assertEqual((m.severity, json.loads(m.details)["details"]), ("exception", "[1"))

    def test_every_answered_call_is_forgotten(self):
        self.steps["s"] = lambda d: {"data": [1]}

        def fails(_):
            raise Failure()

        self.steps["f"] = fails
        body = """
kept = state.call('s')
for i in range(5):
    state.call('s', {'i': i})
    try:
        state.call('f')
    except millrace.CallError:
        pass
state.call('s')
"""
        self.step(body)
        ids = [e.id for e in self.calls]
        self.assertEqual(self.forgotten, ids[1:-1])

    def test_own_bytes_stay_while_something_refers_to_them(self):
        """What a call has published is good until the call is forgotten."""
        self.steps["s"] = lambda d: {"n": len(d["r"])}
        body = """
state.set_raw('r', 'raw', b'x' * 1000)
for _ in range(4):
    state.call('s')
del state['r']
state.set_raw('q', 'raw', b'y')
state.call('s', {'r': 'abc'})
"""
        self.step(body)
        first, *rest = self.calls
        self.assertNotIn(first.id, self.forgotten[:2])
        self.assertEqual(len(first.message.blocks), 1)
        self.assertTrue(all(e.message.blocks == [] for e in rest[:3]))
        self.assertEqual(sorted(self.forgotten), [e.id for e in self.calls[:4]])
        e = self.step("state.set_raw('r', 'raw', b'z' * 10); state.call('s')")
        self.assertEqual(e.message.blocks, [])
        self.assertEqual(self.s.bytes(dict(e.table.rows)["r"]), b"z" * 10)

    def test_released_memory_is_used_again_during_the_step(self):
        def callee(_):
            self.s.send("release", blocks=self.calls[-1].message.blocks)
            return {}

        self.steps["s"] = callee
        self.step("for i in range(30):\n    state.call('s', {'d': 'x' * 600_000})")
        self.assertLessEqual(len({e.message.blocks[0].segment for e in self.calls}), 2)

    def test_not_offered(self):
        with Supervisor(capabilities=()) as s:
            m = s.failure("def step(state): state.call('s')")
            self.assertIn("does not offer calls", m.message)
            self.assertEqual(s.hello.capabilities, ["calls", "streams"])

    def test_after_the_step(self):
        source = "kept = []\ndef step(state):\n    if kept:\n        kept[0].call('s')\n    kept.append(state)"
        code = self.s.code(source)
        self.s.run(code, {})
        m = self.s.run(code, {}).message
        self.assertIn("the step is over", m.message)

    def test_from_threads(self):
        self.steps["s"] = lambda d: {"n": d["n"] + 1}
        body = """
from concurrent.futures import ThreadPoolExecutor
import time
with ThreadPoolExecutor(8) as pool:
    got = list(pool.map(lambda n: state.call('s', {'n': n})['n'], range(200)))
time.sleep(0.01)
return got + [state.call('s', {'n': -1})['n']]
"""
        self.gives(body, {}, [*range(1, 201), 0])

    def test_after_a_while(self):
        """The watching thread gives the channel back."""
        self.steps["s"] = lambda d: d
        self.gives("import time\nfor i in range(4):\n    time.sleep(0.012)\n    state = state.call('s')\nreturn state", {"a": 1}, {"a": 1})

    def test_cancelled_while_waiting(self):
        self.steps["s"] = None
        self.s.on["call"] = lambda e: self.s.send("cancel", self.s._last_id, reason="enough")
        for body in ("state.call('s')", "import time; time.sleep(0.02); state.call('s')", "from threading import Thread\nt = Thread(target=state.call, args=('s',)); t.start(); t.join()"):
            m = self.step(body).message
            self.assertEqual((m.severity, m.message), ("cancel", "the step was cancelled: enough"), m)
        self.assertEqual(self.s.result("def step(state): return 1", {}), 1)

    def test_answers_that_were_not_asked_for(self):
        self.s.send("result", 5, self.s.publish({}), step="s")
        self.assertTrue(self.s.hung_up())
        self.assertEqual(self.s.exit_code(), 1)

    def test_late_answers(self):
        """A step that ends does not wait for its calls."""
        self.steps["s"] = None
        self.step("from threading import Thread\nThread(target=lambda: state.call('s'), daemon=True).start()\nimport time; time.sleep(0.05)")
        self.answer(self.held[0], {"a": 1})
        self.assertEqual(self.s.result("def step(state): return 1", {}), 1)

    def test_hang_up_while_waiting(self):
        self.steps["s"] = lambda d: self.s.channel.close() or os._exit
        self.s.on["call"] = lambda e: self.s.channel.close()
        with self.assertRaises(OSError):
            self.step("state.call('s')")
        self.assertEqual(self.s.exit_code(), 0)

    def test_in_a_child(self):
        self.steps["s"] = lambda d: d
        body = """
import os
r, w = os.pipe()
if os.fork() == 0:
    try:
        state.call('s')
    except BaseException as e:
        os.write(w, f'{type(e).__name__}: {e}'.encode())
    os._exit(0)
os.wait()
return os.read(r, 1000).decode()
"""
        self.assertIn("RuntimeError: the step is over", self.s.document(self.step(body).table))


class Forward(Case):
    def test_forward(self):
        table = self.s.table({"big": [1, 2]})
        e = self.step("return state.forward('next', attempt=2)", table)
        self.assertEqual(self.forwarded, [(self.s._last_id, "next")])
        self.assertEqual(self.s.document(e.table), {"big": [1, 2], "attempt": 2})
        self.assertEqual((e.table.rows[0], e.message.decoded), (table.rows[0], 0))
        self.step("context.forward('a'); context.forward('b')")
        self.assertEqual([step for _, step in self.forwarded], ["next", "a", "b"])


class Each(Case):
    def test_results_in_the_order_of_arrival(self):
        self.steps["s"] = None
        most = 0

        def on_call(e):
            nonlocal most
            self.calls.append(e)
            self.held.append(e)
            most = max(most, len(self.held))
            if len(self.held) == 3 or len(self.calls) > 8:
                while self.held:
                    h = self.held.pop()
                    self.answer(h, {"n": self.s.document(h.table)["data"]})

        self.s.on["call"] = on_call
        body = """
pages = state.each(range(10), 's', 3)
return [[pages.index, r['n']] for r in pages]
"""
        e = self.step(body)
        got = self.s.document(e.table)
        self.assertEqual(sorted(got), [[i, i] for i in range(10)])
        self.assertEqual(got[:3], [[2, 2], [1, 1], [0, 0]])
        self.assertEqual(most, 3)

    def test_pages(self):
        self.steps["s"] = lambda d: d
        self.gives("return [dict(r) for r in state.each([1, [2]], 's', key='page')]", {}, [{"page": 1}, {"page": [2]}])
        self.gives("return [dict(r) for r in state.each([state | {'i': i} for i in range(2)], 's', until='leaf')]", {"a": 1}, [{"a": 1, "i": 0}, {"a": 1, "i": 1}])
        self.assertEqual(self.calls[-1].message.until, "leaf")
        self.gives("return [dict(r) for r in context.each([], 's')]", {}, [])
        for call, words in (("[1], 's', 0", "concurrency=0"), ("[1], 's', errors='all'", "errors='all'"), ("'abc', 's'", "not a str"), ("5, 's'", "not a int")):
            self.assertIn(words, self.step(f"state.each({call})").message.message)

    def test_results_are_forgotten_unless_kept(self):
        self.steps["s"] = lambda d: {"data": d["data"]}
        self.step("for r in state.each(range(50), 's', 2): pass\nstate.call('s', {'data': 1})")
        ids = [e.id for e in self.calls]
        self.assertEqual(sorted(self.forgotten), ids[:49])  # r holds the last
        self.forgotten.clear()
        self.calls.clear()
        self.gives("return [r['data'] for r in list(state.each(range(50), 's', 2))]", {}, list(range(50)))
        self.assertEqual(self.forgotten, [])

    def some_fail(self, d):
        if d["data"] % 4 == 1:
            raise Failure("E", message=f"page {d['data']}")
        return d

    def test_the_first_error(self):
        self.steps["s"] = self.some_fail
        body = """
pages = state.each(range(100), 's', 1)
got = []
try:
    for r in pages:
        got.append(r['data'])
except millrace.CallError as e:
    return [got, e.message, pages.index, list(pages)]
"""
        self.gives(body, {}, [[0], "page 1", 1, []])

    def test_errors_collected(self):
        self.steps["s"] = self.some_fail
        body = """
got = []
pages = state.each(range(10), 's', 3, errors='collect')
for r in pages:
    if isinstance(r, millrace.CallError):
        got.append([pages.index, r.name, r.message, r.step])
    else:
        got.append([pages.index, r['data']])
return sorted(got)
"""
        want = [[i, "E", f"page {i}", "s"] if i % 4 == 1 else [i, i] for i in range(10)]
        self.gives(body, {}, want)
        for use in ("r['data']", "state.append('all', r, 'data')"):
            m = self.step(f"for r in state.each([1], 's', 1, errors='collect'): {use}").message
            self.assertEqual((m.name, m.message), ("E", "page 1"))
        m = self.step("""
def pages():
    yield 1
    raise OSError('the source')
for r in state.each(pages(), 's', 1, errors='collect'): pass
""").message
        self.assertIn("the source", m.message)

    def test_the_others_are_cancelled(self):
        def on_call(e):
            self.calls.append(e)
            if len(self.calls) == 3:
                self.answer(e, {"n": 3})
            elif len(self.calls) == 5:
                for c in self.calls[:2] + self.calls[3:4]:
                    self.answer(c, {"late": 1})
                self.answer(e, {})

        self.s.on["call"] = on_call
        body = "with state.each(range(100), 's', 3) as pages:\n    r = next(pages)\ndel r\nstate.call('s')\nstate.call('s')"
        self.s.on["cancel"] = lambda e: self.cancelled.append(e.id)
        self.steps["s"] = None
        code = self.s.code("def step(state):\n" + "\n".join("    " + line for line in body.split("\n")))
        id = self.s.start(code, {})
        # The fourth page is begun when the third has answered; the fifth call waits for the sixth's.
        while len(self.calls) < 5:
            self.s.take(id)
        self.assertEqual(self.cancelled, [self.calls[i].id for i in (0, 1, 3)])
        while len(self.calls) < 6:
            self.s.take(id)
        self.answer(self.calls[5], {})
        self.s.wait(id)
        self.assertEqual(sorted(self.forgotten), [c.id for c in self.calls[:5]])


class Ropes(Case):
    def test_append(self):
        self.steps["s"] = lambda d: Table(OBJECT, (("page", self.s.row(b' [ {"n":%d} , 2]\n' % d["n"])), ("none", self.s.row(b"[ \n ]"))))
        body = """
for i in range(3):
    r = state.call('s', {'n': i})
    state.append('all', r, 'page')
    state.append('all', r, 'none')
    state.append('all', [i, 'own'])
    state.append('all', [])
"""
        want = [x for i in range(3) for x in ({"n": i}, 2, i, "own")]
        e = self.gives(body, {"rest": 1}, {"rest": 1, "all": want})
        self.assertEqual((e.message.decoded, len(e.message.blocks)), (0, 4))
        self.assertEqual(self.forgotten, [])
        self.gives(body + "state['n'] = len(state['all']); state['all'].append('x')", {"all": [0]}, {"all": [0, *want, "x"], "n": 13})
        self.gives(body + "state['all'].append('x')\nstate.append('all', ['y'])", {}, {"all": [*want, "x", "y"]})
        self.gives(body + "return bytes(state.raw('all')).decode()[:9]", {}, '[ {"n":0}')
        self.gives("state.append('a', state, 'b'); state.append('a', state, 'a'); state.append('c', [])", {"a": [1], "b": [2]}, {"a": [1, 2, 1, 2], "b": [2], "c": []})
        self.gives("state['a'] = [1]; state.append('a', (2,)); state.append('a', {'a': [3]}['a'])", {}, {"a": [1, 2, 3]})
        self.gives("o = state.copy(); o['b'].append(3); state.append('a', o, 'b')", {"b": [2]}, {"b": [2, 3], "a": [2, 3]})

    def test_in_calls(self):
        self.steps["s"] = lambda d: {"n": len(d["all"])}
        body = """
counts = []
for i in range(4):
    state.append('all', [i])
    counts.append(state.call('s')['n'])
part = state.copy(); del state['all']
state['counts'] = counts
state['all'] = part['all']
"""
        self.gives(body, {}, {"counts": [1, 2, 3, 4], "all": [0, 1, 2, 3]})
        self.assertEqual(self.forgotten, [])

    def test_what_is_no_array(self):
        self.steps["s"] = lambda d: Table(OBJECT, (("o", self.s.row(b' {"a":[]}')), ("r", self.s.row(b"[]", RAW)), ("e", self.s.row(b"")), ("w", self.s.row(b"  ")), ("x", self.s.row(b"[1}"))))
        for key in "orewx":
            m = self.step(f"state.append('all', state.call('s'), {key!r})").message
            self.assertIn("is no array", m.message)
        for body, words in (("state['a'] = 1; state.append('a', [1])", "is no array to append to"), ("state.append('a', 'text')", "append takes a list or a state"), ("state.append('a', state, 'b')", "KeyError")):
            self.assertIn(words, self.step(body).message.message)

    def test_values_of_many_spans(self):
        spans = self.s.row(b" [1, ") + self.s.row(b"2,") + self.s.row(b"3 ] ")
        self.gives("state.append('b', state, 'a'); state.append('b', [4])", Table(OBJECT, (("a", spans),)), {"a": [1, 2, 3], "b": [1, 2, 3, 4]})
        spans = self.s.row(b" ") + self.s.row(b"[") + self.s.row(b" ") + self.s.row(b"]")
        self.gives("state.append('b', state, 'a'); state.append('b', [4])", Table(OBJECT, (("a", spans),)), {"a": [], "b": [4]})


if __name__ == "__main__":
    unittest.main()
