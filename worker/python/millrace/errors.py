"""How a step fails: names and severities in OpenFn's words.

- fail: the step; the run goes on along the edges that allow it
- crash: the run; the user's code is at fault
- kill: the run; a limit was passed
- exception: the run; the platform is at fault
- cancel: the run; somebody asked for it
"""

import json
import os

from .arena import BudgetError
from .memory import RefError
from .plain import PlainError, to_plain
from .result import KeyFailure
from .ring import ItemSizeError, RingError
from .state import DecodeError
from .steperror import Cancelled, StepError
from .wire import FrameSizeError, ProtocolError

_MAX_MESSAGE = 64 << 10
_MAX_DETAILS = 256 << 10
_MAX_LINES = 60
_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


def classify(error, path="", memory_limit=0, held=0):
    """Gives what a step's code raised its name and severity. path is the file
    that the step's function is in, held the bytes that the executor holds of
    earlier steps."""
    key = None
    if isinstance(error, KeyFailure):
        key, error = error.key, error.__cause__
    found = _known(error, key, memory_limit, held)
    if found is None:
        found = StepError(_message(error))
    e = StepError(str(found), found.name, found.severity, found.details)
    if key is not None:
        e.details.setdefault("key", key)
    if not isinstance(error, (FrameSizeError, BudgetError, ItemSizeError, PlainError)):
        known = trace(error, path)
        # One of this library's own says nothing by its type and place.
        if "file" in known or not isinstance(error, StepError):
            e.details = {**known, **e.details}
    return e


def _known(error, key, memory_limit, held):
    if isinstance(error, StepError):
        return error
    if isinstance(error, Cancelled):
        return StepError(_text(error) or "the step was cancelled", "CancelError", "cancel")
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        message = f"Process exited with code: {code}"
        if error.code is not None and not isinstance(error.code, int):
            message += f" ({_text(error.code)})"
        return StepError(message, "ExitError", "crash", {"code": code})
    if isinstance(error, BudgetError):
        return _too_large(error, key, held)
    if isinstance(error, FrameSizeError):
        return StepError(str(error), "StateTooLargeError", "kill", {"size": error.size, "limit": error.limit})
    if isinstance(error, ItemSizeError):
        return StepError(str(error), "StateTooLargeError", "kill", {"size": error.size, "limit": error.limit})
    if isinstance(error, PlainError):
        return StepError(str(error), "RuntimeError", "fail", {"subtype": "TypeError", "path": error.path})
    if isinstance(error, MemoryError):
        limit = f" (its memory limit is {memory_limit >> 20} MB)" if memory_limit else ""
        return StepError(f"the step ran out of memory{limit}", "OOMError", "kill", {"memory_limit": memory_limit})
    if isinstance(error, DecodeError):
        return StepError(str(error), "RuntimeError", "fail")
    if isinstance(error, RingError):
        return StepError(f"the other end of the stream broke its rules: {error}", "StreamError", "exception")
    if isinstance(error, (RefError, ProtocolError)):
        return StepError(str(error), "ProtocolError", "exception")
    return None


def _too_large(error, key, held):
    used, limit = max(error.used - held, 0), max(error.limit - held, 0)
    details = {"size": error.size, "used": used, "limit": limit}
    what = "the state"
    if key is not None:
        details["key"] = key
        what = f"key {key!r}"
    message = f"state too large: {what} needs {error.size} bytes more"
    if used:
        message += f" beside {used} bytes of other values"
    message += f", and the step may write {limit}: raise the run's memory option, or write less"
    return StepError(message, "StateTooLargeError", "kill", details)


def _text(value):
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def type_name(error):
    t = type(error)
    return t.__qualname__ if t.__module__ in ("builtins", "__main__") else f"{t.__module__}.{t.__qualname__}"


def _message(error):
    text = _text(error)
    if type(error) is Exception and text:
        return text
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def trace(error, path):
    """The type, the lines of the traceback without this library's own frames,
    and the place in the user's file."""
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_OWN, "<frozen"))]
    lines = []
    if frames:
        lines.append("Traceback (most recent call last):")
        lines += (line for part in traceback.format_list(frames) for line in part.rstrip("\n").split("\n"))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines += (line for part in traceback.format_exception_only(type(error), error) for line in part.rstrip("\n").split("\n"))
    if cause is not None:
        lines.append(f"Caused by {type_name(cause)}: {_text(cause)[:1000]}")
    if len(lines) > _MAX_LINES:
        lines = lines[: _MAX_LINES // 2] + ["  ..."] + lines[-_MAX_LINES // 2 :]
    details = {"type": type_name(error), "traceback": lines}
    own = [f for f in frames if f.filename == path] or frames
    if own:
        details.update(file=own[-1].filename, line=own[-1].lineno, function=own[-1].name)
    return details


def details_text(details):
    """The details as a JSON object, or "" when there are none."""
    if not details:
        return ""
    try:
        text = json.dumps(to_plain(details, "details"), allow_nan=False)
    except Exception as e:
        text = json.dumps({"details_error": _text(e)[:1000]})
    return text if len(text) <= _MAX_DETAILS else json.dumps({"details_error": f"{len(text)} characters of details were left out"})


def cut(text, limit=_MAX_MESSAGE):
    return text if len(text) <= limit else text[: limit - 6] + " [cut]"
