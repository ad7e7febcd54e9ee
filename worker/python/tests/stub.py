"""A supervisor of few words, to drive a real executor process through the
protocol."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from millrace import wire
from millrace.arena import Arena
from millrace.channel import Channel, HangUp
from millrace.memory import Segments
from millrace.wire import JSON, OBJECT, VALUE, Message, Table

WORKER = os.path.join(ROOT, "millrace_worker.py")
TIMEOUT = 20


class Supervisor:
    def __init__(self, argv=None, env=None, retain=64 << 20, prefault=0, drop_keys=("configuration", "response"), executor=7, capabilities=("calls", "streams")):
        local, remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with remote:
            env = {**os.environ, "PYTHONPATH": ROOT, **(env or {}), "MILLRACE_CONTROL_FD": str(remote.fileno())}
            self.process = subprocess.Popen(
                argv or [sys.executable, WORKER], env=env, pass_fds=[remote.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        self.channel = Channel(local)
        local.settimeout(TIMEOUT)
        self.arena = Arena(1, 64 << 20, announce=self._announce, drop=lambda ids: None)
        self.segments = Segments(self.arena)
        self.executor = executor
        self.logs, self.detached, self.attached = [], [], []
        self.on = {}  # message type -> what takes it, in wait
        self._last_id = self._last_code = 0
        self._folder = tempfile.TemporaryDirectory()
        self.hello = self.channel.receive().message
        fields = {"retain_bytes": retain, "prefault_bytes": prefault, "drop_keys": list(drop_keys)}
        self.send("welcome", version=1, executor=executor, capabilities=list(capabilities), ring_size=0, **fields)

    def send(self, type, id=0, table=wire.NO_TABLE, **fields):
        self.channel.send(Message(type, **fields), id, table)

    def _announce(self, id, size, fd):
        self.channel.send(Message("attach", segment=id, size=size), file=fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
        self._folder.cleanup()

    def file(self, source, name="step.py"):
        path = os.path.join(self._folder.name, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(textwrap.dedent(source))
        return path

    def prepare(self, kind, spec):
        self._last_code += 1
        self.send("prepare", code=self._last_code, kind=kind, spec=json.dumps(spec))
        return self._last_code

    def code(self, source, function="step"):
        """Prepares a file of Python."""
        return self.prepare("python", {"path": self.file(source, f"step{self._last_code}.py"), "function": function})

    def row(self, data, encoding=JSON):
        """Spans of data in a segment of the supervisor's."""
        return self.arena.write(data, encoding)

    def table(self, document):
        """The table of a document. Values that are bytes are JSON as it is."""
        encode = lambda v: v if isinstance(v, bytes) else json.dumps(v).encode()
        if isinstance(document, Table):
            return document
        if not isinstance(document, dict):
            return Table(VALUE, (("", self.row(encode(document))),))
        return Table(OBJECT, tuple((k, self.row(encode(v))) for k, v in document.items()))

    def publish(self, document):
        """The table of a document, its segments attached."""
        table = self.table(document)
        self.arena.publish(table)
        return table

    def start(self, code, table, **fields):
        table = self.publish(table)
        self._last_id += 1
        given = {"run": "r1", "step": "s1", "attempt": 1, "timeout": 0, "memory_limit": 0, "budget": 0, "upstream": "", "conditions": [], "after": 0, "needs": []}
        self.send("execute", self._last_id, table, code=code, **{**given, **fields})
        return self._last_id

    def wait(self, id):
        """The answer to a request; logs and segments that come meanwhile are kept."""
        while True:
            e = self.take(id)
            if e is not None:
                return e

    def take(self, id):
        """Receives one message; the answer to a request, or None."""
        e = self.channel.receive()
        m = e.message
        if m.type == "log":
            assert e.id == id, f"log of {e.id} during {id}"
            self.logs.append((m.level, m.source, m.message))
        elif m.type == "attach":
            assert m.segment >> 32 == self.executor, m
            self.attached.append(m.segment)
            self.segments.attach(m.segment, m.size, e.file)
        elif m.type == "detach":
            self.detached += m.segments
            self.segments.detach(m.segments)
        elif m.type in self.on:
            self.on[m.type](e)
        else:
            assert e.id == id, f"{m} answers {e.id}, not {id}"
            return e
        return None

    def run(self, code, table, **fields):
        return self.wait(self.start(code, table, **fields))

    def bytes(self, spans):
        return b"".join(bytes(self.segments.view(s)) for s in spans)

    def document(self, table):
        """What a table stands for: a dict, a bare value, or None for absent."""
        load = lambda spans: json.loads(self.bytes(spans)) if spans[0].encoding == JSON else self.bytes(spans)
        if table.kind == OBJECT:
            return {k: load(spans) for k, spans in table.rows}
        return load(table.rows[0][1]) if table.kind == VALUE else None

    def result(self, source, table, function="step", **fields):
        """Runs a file of Python once; its new state."""
        e = self.run(self.code(source, function), table, **fields)
        assert e.message.type == "done", e.message
        return self.document(e.table)

    def failure(self, source, table=None, function="step", **fields):
        e = self.run(self.code(source, function), {} if table is None else table, **fields)
        assert e.message.type == "fail", (e.message, self.document(e.table))
        m = e.message
        m.details = json.loads(m.details) if m.details else {}
        return m

    def hung_up(self):
        """Waits for the executor's end of the channel to close."""
        try:
            while True:
                self.channel.receive()
        except HangUp:
            return True

    def exit_code(self, within=5):
        return self.process.wait(within)

