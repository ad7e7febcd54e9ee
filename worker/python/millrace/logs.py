"""What a step prints and logs becomes lines of its log."""

import io
import logging
import sys

_MAX_LINE = 256 << 10


class _Lines(io.RawIOBase):
    """Takes bytes, gives lines to log(level, text); without a step to log for
    (log returns False) they go to the process's own stream."""

    def __init__(self, log, level, outside):
        super().__init__()
        self._log, self._level, self._outside = log, level, outside
        self._rest = b""

    def writable(self):
        return True

    def write(self, data):
        data = bytes(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._emit(line)
        return len(data)

    def end_line(self):
        if self._rest:
            rest, self._rest = self._rest, b""
            self._emit(rest)

    def _emit(self, line):
        text = line.decode("utf-8", "replace")
        if not self._log(self._level, text) and self._outside is not None:
            self._outside.write(text + "\n")
            self._outside.flush()


class _Handler(logging.Handler):
    def __init__(self, log):
        super().__init__()
        self._log = log

    def emit(self, record):
        try:
            self._log(_level(record.levelno), self.format(record))
        except Exception:
            self.handleError(record)


def _level(number):
    if number < logging.INFO:
        return "debug"
    if number < logging.WARNING:
        return "info"
    return "warn" if number < logging.ERROR else "error"


class Capture:
    """Puts itself in place of sys.stdout and sys.stderr, and under the root
    logger. log(level, text) returns False when no step is running."""

    def __init__(self, log):
        self._saved = sys.stdout, sys.stderr
        self._lines = []
        self._streams = []
        for name, level in (("stdout", "info"), ("stderr", "error")):
            lines = _Lines(log, level, getattr(sys, name))
            # The stream keeps what is not a whole line yet.
            stream = io.TextIOWrapper(lines, "utf-8", "backslashreplace", line_buffering=True)
            setattr(sys, name, stream)
            self._lines.append(lines)
            self._streams.append(stream)
        self._handler = _Handler(log)
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(logging.INFO)

    def flush(self):
        """Sends lines that have not ended yet: the step is over."""
        for stream, lines in zip(self._streams, self._lines):
            try:
                stream.flush()
            except ValueError:
                continue  # the step has closed it
            lines.end_line()

    def restore(self):
        """Gives the process its own streams back."""
        sys.stdout, sys.stderr = self._saved
        logging.getLogger().removeHandler(self._handler)
