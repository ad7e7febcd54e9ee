"""How steps fail, what they print, and how an executor ends."""

import os
import socket
import subprocess
import sys
import textwrap
import time
import unittest

import stub  # first: it sets the path
from stub import ROOT, WORKER, Supervisor
from millrace.wire import OBJECT, Block, Message, Ref, Table


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = Supervisor()

    @classmethod
    def tearDownClass(cls):
        cls.s.__exit__()

    def setUp(self):
        self.s.logs.clear()


class Failures(Case):
    def fails(self, source, severity, name, *words, **fields):
        m = self.s.failure(source, **fields)
        self.assertEqual((m.severity, m.name), (severity, name), m)
        for word in words:
            self.assertIn(word, m.message)
        # and the next one runs
        self.assertEqual(self.s.result("def step(state): return 1", {}), 1)
        return m

    def test_exceptions(self):
        source = """
        def step(state):
            return inner(state)
        def inner(state):
            raise ValueError("no good")
        """
        m = self.fails(source, "fail", "JobError", "ValueError: no good")
        d = m.details
        self.assertEqual((d["type"], d["line"], d["function"]), ("ValueError", 5, "inner"))
        self.assertTrue(os.path.basename(d["file"]).startswith("step"))
        text = "\n".join(d["traceback"])
        self.assertIn("in step", text)
        self.assertIn('raise ValueError("no good")', text)
        self.assertNotIn("millrace/", text)
        self.assertLessEqual(m.started, m.finished)

    def test_the_line_is_the_users(self):
        m = self.fails("import json\ndef step(state):\n    x = 1\n    json.loads('{')\n", "fail", "JobError", "JSONDecodeError")
        self.assertEqual(m.details["line"], 4)
        self.assertIn("json.decoder.JSONDecodeError", m.details["type"])

    def test_causes(self):
        m = self.fails("def step(state):\n    try: {}['a']\n    except KeyError as e: raise Exception('outer') from e\n", "fail", "JobError", "outer")
        self.assertEqual(m.message, "outer")
        self.assertIn("Caused by KeyError: 'a'", m.details["traceback"])

    def test_step_error(self):
        source = """
        import millrace
        def step(state):
            raise millrace.StepError("told", name="AdaptorError", severity="crash", details={"code": 7, "at": {1}})
        """
        m = self.fails(source, "crash", "AdaptorError", "told")
        self.assertIn("details_error", m.details)
        m = self.fails(source.replace(', "at": {1}', ""), "crash", "AdaptorError")
        self.assertEqual((m.details["code"], m.details["line"]), (7, 4))

    def test_syntax_error(self):
        m = self.fails("def step(state):\n    x = = 1\n", "crash", "SyntaxError", "line 2, column 9")
        self.assertEqual((m.details["line"], m.details["column"], m.details["text"]), (2, 9, "    x = = 1"))
        self.fails("def step(state):\n  if 1:\n pass\n", "crash", "SyntaxError", "IndentationError", "line 3")

    def test_import_errors(self):
        m = self.fails("import os\nimport no_such_module_at_all\n", "crash", "ImportError", "no_such_module_at_all", "line 2")
        self.assertEqual((m.details["module"], m.details["line"]), ("no_such_module_at_all", 2))
        m = self.fails("x = 1\ny = x + 'a'\n", "crash", "ImportError", "could not be loaded", "TypeError", "line 2")
        m = self.fails("def other(state): pass\n", "crash", "ValidationError", "no function 'step'", "it has other")
        code = self.s.prepare("python", {"path": "/no/such/step.py", "function": "step"})
        m = self.s.run(code, {}).message
        self.assertEqual((m.severity, m.name), ("crash", "ImportError"))
        self.assertIn("/no/such/step.py", m.message)

    def test_exit(self):
        for call, code in (("3", 3), ("", 0), ("'bye'", 1)):
            m = self.fails(f"import sys\ndef step(state): sys.exit({call})\n", "crash", "ExitError", f"exited with code: {code}")
            self.assertEqual(m.details["code"], code)
        self.fails("raise SystemExit(2)\n", "crash", "ExitError")

    def test_base_exceptions(self):
        self.fails("def step(state): raise KeyboardInterrupt\n", "fail", "JobError", "KeyboardInterrupt")
        self.fails("class Own(BaseException): pass\ndef step(state): raise Own('x')\n", "fail", "JobError", "Own: x")
        self.fails("class Bad(Exception):\n  def __str__(self): return 1/0\ndef step(state): raise Bad\n", "fail", "JobError", "Bad")
        self.fails("async def step(state): raise ValueError('later')\n", "fail", "JobError", "ValueError: later")
        self.fails("def step(state): return step(state)\n", "fail", "JobError", "RecursionError")

    def test_out_of_memory(self):
        self.fails("def step(state): return ' ' * (1 << 60)\n", "kill", "OOMError", "100 MB", memory_limit=100 << 20)

    def test_unserialisable(self):
        m = self.fails("def step(state): state['a'] = {'b': [1, {2}]}\n", "fail", "RuntimeError", "state.a.b[1]", "set")
        self.assertEqual((m.details["path"], m.details["key"]), ("state.a.b[1]", "a"))
        self.fails("def step(state):\n    state['a'] = a = []\n    a.append({'in': a})\n", "fail", "RuntimeError", "state.a[0].in refers back to state.a")
        self.fails("def step(state): return object()\n", "fail", "RuntimeError", "state is of type object")
        self.fails("def step(state): state[(1, 2)] = 3\n", "fail", "RuntimeError", "key of type tuple")
        self.fails("def step(state): state['\\ud800'] = 3\n", "fail", "JobError", "not Unicode")

    def test_budget(self):
        m = self.fails("def step(state):\n    state['small'] = 'x'\n    state['big'] = ['y' * 998]\n", "kill", "StateTooLargeError", "'big'", budget=1000)
        self.assertEqual(m.details, {"key": "big", "size": 1002, "used": 3, "limit": 1000})
        self.fails("def step(state): state.set_raw('r', 'raw', b'x' * 1001)\n", "kill", "StateTooLargeError", budget=1000)
        # what failed steps wrote is not held
        self.assertEqual(len(self.s.result("def step(state): return 'x' * 990", {}, budget=1000)), 990)

    def test_too_many_keys(self):
        m = self.fails("def step(state): return {'key%d' % i: 0 for i in range(200_000)}\n", "kill", "StateTooLargeError", "top-level keys")
        self.assertEqual(m.details["limit"], 8 << 20)

    def test_bad_input(self):
        table = Table(OBJECT, (("a", self.s.row(b"{oops")),))
        m = self.fails("def step(state): state['a']\n", "fail", "RuntimeError", "state['a'] is no valid JSON", table=table)
        self.assertEqual(self.s.run(self.s.code("def step(state): pass"), table).table, table)  # not its business
        table = Table(OBJECT, (("a", (Ref(12345, 0, 10),)),))
        m = self.fails("def step(state): state['a']\n", "exception", "ProtocolError", "12345", table=table)
        self.assertEqual(m.details["line"], 1)

    def test_what_cannot_be_run(self):
        m = self.s.run(99, {}).message
        self.assertEqual((m.severity, m.name), ("exception", "ProtocolError"))
        for kind, spec, severity in (("javascript", {}, "exception"), ("python", {}, "exception"), ("python", 5, "exception"), ("function", {"function": "f"}, "crash")):
            m = self.s.run(self.s.prepare(kind, spec), {}).message
            self.assertEqual((m.severity, m.name), (severity, "ValidationError"), kind)


class Logs(Case):
    def lines(self, source, **fields):
        self.s.result(source, {}, **fields)
        return self.s.logs

    def test_levels(self):
        source = """
        import logging, sys, warnings
        log = logging.getLogger("mine")
        def step(state):
            print("one", 2)
            print("a\\nb")
            print("half", end="")
            print(" line")
            print("", file=sys.stderr)
            sys.stdout.buffer.write(b"bytes \\xff\\n")
            log.debug("not shown")
            log.info("info %d", 1)
            log.warning("warn")
            log.error("error")
            log.setLevel(logging.DEBUG)
            log.debug("debug")
            print("\\ud800 end", end="")
        """
        want = [
            ("info", "one 2"), ("info", "a"), ("info", "b"), ("info", "half line"), ("error", ""), ("info", "bytes \ufffd"), ("info", "info 1"),
            ("warn", "warn"), ("error", "error"), ("debug", "debug"), ("info", "\\ud800 end"),
        ]  # fmt: skip
        self.assertEqual(self.lines(source), [(level, "job", text) for level, text in want])

    def test_exceptions_threads_and_imports(self):
        source = """
        import logging, threading
        print("importing")
        def step(state):
            try:
                1 / 0
            except ZeroDivisionError:
                logging.exception("caught")
            t = threading.Thread(target=lambda: [print("thread", i) for i in range(100)])
            t.start()
            t.join()
        """
        lines = self.lines(source)
        self.assertEqual(lines[0], ("info", "job", "importing"))
        self.assertEqual(lines[1][0], "error")
        self.assertIn("ZeroDivisionError", lines[1][2])
        self.assertEqual([line[2] for line in lines[2:]], [f"thread {i}" for i in range(100)])

    def test_lines_come_before_a_failure(self):
        self.s.failure("def step(state):\n    print('last words', end='')\n    raise Exception\n")
        self.assertEqual(self.s.logs, [("info", "job", "last words")])

    def test_children_write_to_the_process_itself(self):
        with Supervisor() as s:
            source = "import os, subprocess\ndef step(state):\n    subprocess.run(['echo', 'child'], check=True)\n    pid = os.fork()\n    if pid == 0:\n        print('forked', flush=True)\n        os._exit(0)\n    os.waitpid(pid, 0)\n    return 'MILLRACE_CONTROL_FD' in os.environ\n"
            self.assertEqual(s.result(source, {}), False)
            self.assertEqual(s.logs, [])
            s.channel.close()
            self.assertEqual(s.process.communicate(timeout=5)[0], b"child\nforked\n")


class Ends(unittest.TestCase):
    def start(self, body, **fields):
        """An executor whose step runs by now."""
        s = Supervisor(**fields)
        self.addCleanup(s.__exit__)
        code = s.code("import time\ndef step(state):\n    print('runs')\n" + textwrap.indent(body, "    "))
        id = s.start(code, {})
        self.assertEqual(s.channel.receive().message.type, "log")
        return s, id

    def test_hang_up(self):
        for body in ("time.sleep(60)", "while True: pass", "try: time.sleep(60)\nfinally: time.sleep(60)"):
            with self.subTest(body):
                s, _ = self.start(body)
                time.sleep(0.02)
                s.channel.close()
                self.assertEqual(s.exit_code(2), 0)

    def test_hang_up_when_idle(self):
        s = Supervisor()
        self.addCleanup(s.__exit__)
        s.channel.close()
        self.assertEqual(s.exit_code(2), 0)

    def test_supervisor_messages_during_a_step(self):
        s, id = self.start("time.sleep(0.15)\nreturn 5")
        s.send("ping", 77)
        start = time.monotonic()
        e = s.channel.receive()
        self.assertEqual((e.message.type, e.id), ("pong", 77))
        self.assertLess(time.monotonic() - start, 0.14)
        s.start(1, {})  # one at a time
        e = s.wait(id + 1)
        self.assertEqual((e.message.type, e.message.name), ("fail", "ProtocolError"))
        e = s.wait(id)
        self.assertEqual(s.document(e.table), 5)
        s.send("release", blocks=e.message.blocks)
        self.assertEqual(s.result("def step(state): return [state['x']]", {"x": 1}), [1])

    def test_messages_kept_for_the_main_thread(self):
        with Supervisor() as s:
            e = s.run(s.code("def step(state): return 'x' * 300_000"), {})
            id = s.start(s.code("import time\ndef step(state):\n    time.sleep(0.05)\n    return state['a']"), {"a": 1})
            time.sleep(0.02)
            s.send("release", blocks=e.message.blocks)
            s.prepare("python", {"path": s.file("def step(state): return state['b']", "late.py"), "function": "step"})
            self.assertEqual(s.document(s.wait(id).table), 1)
            self.assertEqual(s.document(s.run(s._last_code, {"b": 2}).table), 2)

    def cancelled(self, body, exits):
        s, id = self.start(body)
        time.sleep(0.02)
        s.send("cancel", id, reason="enough")
        start = time.monotonic()
        e = s.wait(id)
        self.assertLess(time.monotonic() - start, 1.5)
        if exits:
            self.assertTrue(s.hung_up())
            self.assertEqual(s.exit_code(), 0)
        else:
            self.assertEqual(s.result("def step(state): return 1", {}), 1)
        return e

    def test_cancel(self):
        endless = "while True:\n    try: time.sleep(1)\n    except BaseException: pass"
        cases = [
            ("time.sleep(60)", False),
            ("while True: pass", False),
            ("import threading; threading.Event().wait()", False),
            ("while True: print('x' * 1000)", False),
            ("while True: state.set_raw('a', 'raw', b'x' * 5000)", False),
            ("try: time.sleep(60)\nfinally: print('cleaned up')", False),
            ("try: time.sleep(60)\nexcept KeyboardInterrupt: raise ValueError('converted')", False),
            ("import asyncio\nasync def f():\n    await asyncio.sleep(60)\nreturn f()", False),
            (endless, True),
        ]
        for body, exits in cases:
            with self.subTest(body):
                m = self.cancelled(body, exits).message
                self.assertEqual((m.type, m.severity, m.name), ("fail", "cancel", "CancelError"), m)
                self.assertIn("enough", m.message)

    def test_a_cancelled_step_may_finish(self):
        self.assertEqual(self.cancelled("try: time.sleep(60)\nexcept KeyboardInterrupt: return 1", False).message.type, "done")

    def test_cancel_that_crosses_the_answer(self):
        with Supervisor() as s:
            code = s.code("def step(state): return 1")
            for _ in range(20):
                id = s.start(code, {})
                s.send("cancel", id, reason="late")
                self.assertIn(s.wait(id).message.type, ("done", "fail"))
            self.assertEqual(s.result("def step(state): return 1", {}), 1)

    def test_interrupt_of_the_terminal_is_ignored(self):
        import signal

        s, id = self.start("time.sleep(0.2)\nreturn 1")
        s.process.send_signal(signal.SIGINT)
        self.assertEqual(s.document(s.wait(id).table), 1)
        s.process.send_signal(signal.SIGINT)
        self.assertEqual(s.result("def step(state): return 1", {}), 1)

    def test_shutdown(self):
        s, id = self.start("time.sleep(0.1)\nreturn 1")
        s.send("shutdown")
        self.assertEqual(s.document(s.wait(id).table), 1)
        self.assertEqual(s.exit_code(), 0)
        with Supervisor() as s:
            s.send("shutdown")
            self.assertEqual(s.exit_code(), 0)

    def test_breaches_end_the_executor(self):
        bad = [
            lambda s: s.channel.sock.sendall(b"\xff" * 24),
            lambda s: s.send("release", blocks=[Block(1, 0, 64)]),
            lambda s: s.send("hello", min_version=1, max_version=1, pid=1, language="", release="", capabilities=[], functions=[]),
            lambda s: s.channel.send(Message("attach", segment=5, size=4096), file=s.channel.fileno()),
        ]
        for i, breach in enumerate(bad):
            with self.subTest(i), Supervisor() as s:
                breach(s)
                self.assertTrue(s.hung_up())
                self.assertEqual(s.exit_code(), 1)
                self.assertIn(b"millrace-python-worker: ", s.process.stderr.read())

    def test_death_leaves_what_was_published(self):
        with Supervisor() as s:
            e = s.run(s.code("def step(state): return 'x' * 500_000"), {})
            s.process.kill()
            s.process.wait()
            self.assertEqual(s.document(e.table), "x" * 500_000)


class Program(unittest.TestCase):
    """A program with functions of its own."""

    source = """
    import millrace
    def add(state):
        state["sum"] = state["a"] + state["b"]
    async def late(state, context):
        return context.step
    millrace.main({"add": add, "late": late})
    """

    def argv(self):
        import tempfile

        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "worker.py")
        with open(path, "w") as f:
            f.write(textwrap.dedent(self.source))
        return [sys.executable, path]

    def test_functions(self):
        with Supervisor(self.argv()) as s:
            self.assertEqual(s.hello.functions, ["add", "late"])
            self.assertEqual((s.hello.language, s.hello.min_version, s.hello.pid), ("python", 1, s.process.pid))
            e = s.run(s.prepare("function", {"function": "add"}), {"a": 1, "b": 2})
            self.assertEqual(s.document(e.table), {"a": 1, "b": 2, "sum": 3})
            e = s.run(s.prepare("function", {"function": "late"}), {}, step="here")
            self.assertEqual(s.document(e.table), "here")
            m = s.run(s.prepare("function", {"function": "nope"}), {}).message
            self.assertEqual((m.severity, m.name), ("crash", "ValidationError"))
            self.assertIn("it has add, late", m.message)

    def test_by_hand(self):
        env = {**os.environ, "PYTHONPATH": ROOT}
        p = subprocess.run([*self.argv(), "--functions"], env=env, capture_output=True, text=True)
        self.assertEqual((p.returncode, p.stdout), (0, "add\nlate\n"))
        p = subprocess.run(self.argv(), env=env, capture_output=True, text=True)
        self.assertEqual(p.returncode, 2)
        self.assertIn("MILLRACE_CONTROL_FD is not set", p.stderr)
        self.assertIn("functions: add, late", p.stderr)
        for value in ("x", "0", "99"):
            p = subprocess.run([sys.executable, WORKER], env={**env, "MILLRACE_CONTROL_FD": value}, capture_output=True, text=True)
            self.assertEqual(p.returncode, 2)
            self.assertIn("is not a socket's descriptor", p.stderr)

    def test_a_refused_hello(self):
        local, remote = socket.socketpair()
        with local, remote:
            env = {**os.environ, "MILLRACE_CONTROL_FD": str(remote.fileno())}
            p = subprocess.Popen([sys.executable, WORKER], env=env, pass_fds=[remote.fileno()], stderr=subprocess.PIPE)
            remote.close()
            from millrace.channel import Channel

            c = Channel(local)
            c.receive()
            c.send(Message("fail", started=0, finished=0, severity="exception", name="VersionError", message="too old", details=""))
            self.assertIn(b"refused: VersionError: too old", p.communicate(timeout=10)[1])
            self.assertEqual(p.returncode, 1)


if __name__ == "__main__":
    unittest.main()
