"""The executor: one control channel, one step at a time, on the main thread."""

import os
import signal
import socket
import sys
import threading
import time

from . import wire
from .arena import Arena
from .channel import Channel, HangUp
from .errors import classify, cut, details_text
from .flow import Flow, Requests
from .memory import Segments
from .result import Tabulation
from .ring import ORDERED
from .runners import prepare
from .shield import Shield
from .state import Input, open_state
from .steperror import Cancelled, StepError
from .streams import feed
from .watch import Watch
from .wire import FrameSizeError, ProtocolError

VERSION = 1
CAPABILITIES = ["calls", "streams"] if ORDERED else ["calls"]
FD_VARIABLE = "MILLRACE_CONTROL_FD"
#: How long a cancelled step may take to end by itself, in seconds.
CANCEL_GRACE = 0.2


class Context:
    """What a step's function gets beside the state."""

    def __init__(self, message, log, flow):
        self.run, self.step = message.run, message.step
        #: Counts from 1; more than 1 is a retry.
        self.attempt = message.attempt
        #: The id of the step that the state comes from, "" for the first.
        self.upstream = message.upstream
        #: Seconds the step may take, or None.
        self.timeout = message.timeout / 1e9 if message.timeout else None
        #: Bytes that the process may use, and that the step may write; 0 is no limit.
        self.memory_limit, self.budget = message.memory_limit, message.budget
        self._log, self._flow = log, flow

    def call(self, step, argument, *, until="step", timeout=None):
        """Like state.call, for steps whose state is no object."""
        return self._flow.call(step, argument, until, timeout)

    def each(self, pages, step, concurrency=8, *, until="step", key="data", errors="first", timeout=None):
        """Like state.each."""
        return self._flow.each(pages, step, concurrency, until, key, errors, timeout)

    def forward(self, step):
        """Like state.forward."""
        self._flow.forward(step)

    def log(self, message, level="info"):
        """Sends a line of the step's log. level: debug, info, warn or error."""
        self._log(level, str(message))


class _Job:
    """One execution."""

    def __init__(self, envelope):
        self.id, self.message, self.table = envelope.id, envelope.message, envelope.table
        self.started = self.finished = 0  # CLOCK_MONOTONIC, ns
        self.cancelled = None  # the reason
        self.answered = False
        self.lock = threading.Lock()  # for answered
        self.flow = None  # once it runs

    def stopped(self):
        """The message that it was cancelled with, or None."""
        if self.cancelled is None:
            return None
        return f"the step was cancelled: {self.cancelled}" if self.cancelled else "the step was cancelled"


class Executor:
    def __init__(self, sock, functions, release):
        self._functions = functions
        self.channel = Channel(sock)
        self._capture = None
        self._job = None
        self._codes = {}
        self._stopping = False
        self.requests = Requests()
        self.granted = frozenset()
        self._shield = Shield()
        self.watch = Watch(self.channel, self._during, self._die, self._overdue)
        # The terminal's Ctrl-C is the supervisor's to act on. Caught, not
        # ignored: a child would inherit that.
        signal.signal(signal.SIGINT, self._interrupted)
        os.register_at_fork(after_in_child=self._forked)
        hello = {"min_version": VERSION, "max_version": VERSION, "pid": os.getpid(), "language": "python", "release": release}
        self._send("hello", **hello, capabilities=CAPABILITIES, functions=sorted(functions))

    def _send(self, type, id=0, table=wire.NO_TABLE, file=-1, **fields):
        self.channel.send(wire.Message(type, **fields), id, table, file)

    def run(self):
        """Serves until the supervisor hangs up or asks for a shutdown."""
        try:
            from .logs import Capture  # takes a while; the supervisor has the hello

            self._capture = Capture(self.log)
            self.watch.start()
            self._greeted(self.channel.receive())
            while not self._stopping:
                self.drain()
                if not self._stopping:
                    self._receive(self.channel.receive())
        except BaseException as e:
            self._die(e)
        self._exit(0)

    def _die(self, error):
        """The channel is gone: nothing that this process does matters any more."""
        if isinstance(error, HangUp):
            self._exit(0)
        import traceback

        own = error if isinstance(error, ProtocolError) else "".join(traceback.format_exception(type(error), error, error.__traceback__))
        print(f"millrace-python-worker: {own}", file=sys.__stderr__)
        self._exit(1)

    def _exit(self, code):
        for stream in (sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()
            except Exception:
                pass
        # No clean-up of the user's may hold the process up.
        os._exit(code)

    def _forked(self):
        """A child of the user's has nothing to do with the channel."""
        if self.channel.fileno() >= 0:
            self.channel.close()
            if self._job is not None:
                self._job.flow.leave()
            self._job = None
            if self._capture is not None:
                self._capture.restore()
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _greeted(self, e):
        m = e.message
        if m.type == "fail":
            raise ProtocolError(f"refused: {m.name}: {m.message}")
        if m.type != "welcome" or e.file >= 0 or not set(m.capabilities) <= set(CAPABILITIES):
            raise ProtocolError(f"{m} is not the welcome expected")
        if m.version != VERSION:
            raise ProtocolError(f"the supervisor speaks protocol version {m.version}, this worker {VERSION}: upgrade the older of the two")
        self.granted = frozenset(m.capabilities)
        self.drop_keys = frozenset(m.drop_keys)
        self._arena = Arena(
            m.executor,
            m.retain_bytes,
            announce=lambda id, size, fd: self._send("attach", file=fd, segment=id, size=size),
            drop=lambda ids: self._send("detach", segments=ids),
        )
        self._segments = Segments(self._arena)
        if m.prefault_bytes:
            import select

            poll = select.poll()
            poll.register(self.channel.fileno(), select.POLLIN)
            self._arena.prefault(m.prefault_bytes, lambda: poll.poll(0))

    def drain(self):
        """Acts on the messages that came during a step, in order."""
        deferred = self.watch.deferred
        if not deferred:
            return
        with self._shield:
            try:
                while deferred:
                    self._receive(deferred.popleft())
            except Exception as e:
                self._die(e)

    def _receive(self, e):
        """Acts on a message."""
        m = e.message
        if m.type == "execute":
            self._execute(e)
        elif m.type == "attach":
            self._segments.attach(m.segment, m.size, e.file)
        elif m.type == "detach":
            self._segments.detach(m.segments)
        elif m.type == "release":
            self._arena.release(m.blocks)
        elif m.type == "prepare":
            try:
                self._codes[m.code] = prepare(m.kind, m.spec, self._functions)
            except StepError as error:
                self._codes[m.code] = error
        elif m.type in ("result", "fail", "stream-ring", "wake", "stream-end"):
            self._answered(e)
        elif m.type == "cancel":
            pass  # it crossed the answer
        elif not self._during(e):
            raise ProtocolError(f"{m.type} is not for an executor")

    def _answered(self, e):
        job = self._job
        if job is not None and job.flow is not None and job.flow.receive(e):
            return
        # It is for a step that is over, or was not waited for.
        if e.file >= 0:
            os.close(e.file)
        if e.message.type in ("result", "fail", "stream-ring") and not 0 < e.id <= self.requests.last:
            raise ProtocolError(f"{e.message.type} answers {e.id}, which was not asked")

    def _during(self, e):
        """Acts on a message at any time; False when it has to wait."""
        m = e.message
        if m.type == "ping":
            self._send("pong", e.id)
        elif m.type == "shutdown":
            self._stopping = True
        elif m.type == "cancel":
            job = self._job
            if job is not None and job.id == e.id and job.cancelled is None:
                job.cancelled = m.reason
                self.watch.expect_end(CANCEL_GRACE)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        elif m.type == "execute":
            self._send("fail", e.id, started=0, finished=0, severity="exception", name="ProtocolError", message="execute while another step runs", details="")
        else:
            return m.type == "pong"
        return True

    def _interrupted(self, signum, frame):
        job = self._job
        if job is not None and job.cancelled is not None:
            self._shield.interrupt(job.stopped())

    def _overdue(self):
        """A cancelled step goes on: it cannot be stopped from here."""
        job = self._job
        if job is not None:
            self._fail(job, StepError(job.stopped(), "CancelError", "cancel"))
        self._exit(0)

    def log(self, level, text):
        """Sends a line of the running step's log; False when none runs."""
        job = self._job
        if job is None or job.answered:
            return False
        with self._shield:
            self._send("log", job.id, time=time.time_ns() // 1000, level=level, source="job", message=cut(text, 256 << 10), structured=False)
        return True

    def _execute(self, e):
        job = self._job = _Job(e)
        self.watch.begin(job)
        m = job.message
        code = self._codes.get(m.code)
        input = Input(self._segments, self._arena, self._shield)
        held = self._arena.used
        self._arena.limit = held + m.budget if m.budget else 0
        job.flow = input.flow = Flow(self, job, input)
        try:
            self._run(job, code, input)
        except BaseException as error:
            self._arena.abort()
            if job.cancelled is not None and not isinstance(error, (StepError, SystemExit)):
                error = Cancelled(job.stopped())
            failure = classify(error, getattr(code, "path", ""), m.memory_limit, held)
            job.flow.close(well=False)
            input.close()
            self.watch.end()
            self._fail(job, failure)
        finally:
            self._job = None
            # Rows and input refer to each other: the values are to go now, not
            # when the collector comes.
            input.rows.clear()

    def _run(self, job, code, input):
        if code is None:
            raise StepError(f"code {job.message.code} was never prepared", "ProtocolError", "exception")
        if isinstance(code, StepError):
            raise code
        given = row = None

        def step():
            nonlocal given, row
            code.load()
            context = Context(job.message, self.log, job.flow)
            job.started = time.monotonic_ns()
            given, row = open_state(job.table, input)
            return code(given, context)

        result = self._users_code(job, step)
        work = Tabulation(input, self.drop_keys)
        table = work.result(result, given, row)
        blocks = self._arena.publish(table, last=work.stream is None)
        if work.stream is not None:
            key, stream = work.stream
            self._users_code(job, lambda: feed(job.flow, key, stream, table, blocks))
            table, blocks = wire.NO_TABLE, []
            self._arena.abort()
        done = {"started": job.started, "finished": job.finished, "decoded": input.decoded, "encoded": input.encoded}
        message = wire.Message("done", **done, blocks=blocks, verdicts=[])
        # After the answer the bytes of the input may go at any time.
        job.flow.close(well=True)
        input.close()
        self.watch.end()
        with job.lock:
            job.answered = True
            try:
                self.channel.send(message, job.id, table)
            except (FrameSizeError, ValueError):
                job.answered = False
                self._arena.release(blocks)
                raise

    def _users_code(self, job, run):
        """Calls run, which is a step's own code: it can be cancelled."""
        try:
            self._shield.begin()
            try:
                stopped = job.stopped()
                if stopped is not None:
                    raise Cancelled(stopped)
                return run()
            finally:
                self._shield.end()
        finally:
            job.finished = time.monotonic_ns()
            self._capture.flush()

    def _fail(self, job, error):
        """Answers an execute, once."""
        with job.lock:
            if job.answered:
                return
            job.answered = True
            finished = job.finished or time.monotonic_ns()
            self._send(
                "fail", job.id, started=job.started or finished, finished=finished, severity=error.severity,
                name=error.name, message=cut(str(error)), details=details_text(error.details),
            )  # fmt: skip


def control_socket():
    """The channel that the supervisor left for this process. The variable is
    cleared, so that children do not mistake it for theirs."""
    value = os.environ.pop(FD_VARIABLE, None)
    if value is None:
        raise OSError(
            f"{FD_VARIABLE} is not set: an executor is started by a millrace supervisor, "
            "not by hand; name it in a workflow file and use `millrace run`"
        )
    try:
        fd = int(value)
        if fd < 3:
            raise ValueError
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except (ValueError, OSError):
        raise OSError(f"{FD_VARIABLE}={value!r} is not a socket's descriptor") from None
    if sock.family != socket.AF_UNIX:
        raise OSError(f"{FD_VARIABLE}={value!r} is not a Unix socket")
    return sock
