"""The kinds of step that this executor runs: "function" and "python". Both end
up as a call of a Python function."""

import json
import os
import sys
import types

from .errors import trace, type_name
from .steperror import StepError


class Code:
    """A step's function, found when the step first runs."""

    def __init__(self, find):
        self._find = find
        self._function = None
        self.path = ""  # the file that the function is in

    def load(self):
        if self._function is None:
            f = self._find()
            self.path = getattr(getattr(f, "__code__", None), "co_filename", "")
            self._wants_context = _wants_context(f)
            self._function = f

    def __call__(self, state, context):
        f = self._function
        result = f(state, context) if self._wants_context else f(state)
        if isinstance(result, types.CoroutineType) or hasattr(type(result), "__await__"):
            result = _run(result)
        return result


def prepare(kind, spec_text, functions):
    """The code of a prepare message. StepError: it can never run."""
    try:
        spec = json.loads(spec_text)
        if kind == "function":
            name = spec["function"]
            if name not in functions:
                have = ", ".join(sorted(functions)) or "none"
                raise StepError(f"this worker has no function {name!r}; it has {have}", "ValidationError", "crash", {"function": name, "functions": sorted(functions)})
            return Code(lambda: functions[name])
        if kind == "python":
            path, name = spec["path"], spec.get("function") or "step"
            return Code(lambda: load(path, name))
    except (ValueError, KeyError, TypeError) as e:
        raise StepError(f"the step's specification: {type_name(e)}: {e}", "ValidationError", "exception") from None
    raise StepError(f"this worker does not run steps of kind {kind!r}", "ValidationError", "exception")


_modules = {}  # absolute path -> module: two steps of one file share it


def load(path, name):
    """The function of a user's file. StepError, crash: the file has no such."""
    path = os.path.abspath(path)
    module = _modules.get(path)
    if module is None:
        module = _modules[path] = _import(path)
    f = getattr(module, name, None)
    if not callable(f):
        have = [k for k, v in vars(module).items() if isinstance(v, types.FunctionType) and v.__module__ == module.__name__]
        raise StepError(f"{path} has no function {name!r}; it has {', '.join(have) or 'none'}", "ValidationError", "crash", {"file": path, "functions": have})
    return f


def _import(path):
    try:
        with open(path, "rb") as f:
            source = f.read()
    except OSError as e:
        raise StepError(f"cannot read {path}: {e.strerror}", "ImportError", "crash", {"file": path}) from None
    folder, stem = os.path.dirname(path), os.path.splitext(os.path.basename(path))[0]
    name = stem if stem.isidentifier() and stem not in sys.modules else f"_millrace_step_{len(_modules)}"
    module = types.ModuleType(name)
    module.__file__ = path
    if folder not in sys.path:
        sys.path.insert(0, folder)  # the files beside it, as for a script
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)
    except BaseException as e:
        del sys.modules[name]
        if isinstance(e, (StepError, KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        raise _import_error(e, path) from e
    return module


def _import_error(e, path):
    details = trace(e, path)
    if isinstance(e, SyntaxError):
        file, line, column = e.filename or path, e.lineno, e.offset
        details.update(file=file, line=line, column=column, text=(e.text or "").rstrip())
        kind = "" if type(e) is SyntaxError else f"{type(e).__name__}: "
        return StepError(f"{kind}{e.msg} ({file}, line {line}, column {column})", "SyntaxError", "crash", details)
    message = f"{type_name(e)}: {e}"
    if "line" in details:
        message += f" ({details['file']}, line {details['line']})"
    if isinstance(e, ImportError):
        details["module"] = e.name
    else:
        message = f"{path} could not be loaded: {message}"
    return StepError(message, "ImportError", "crash", details)


def _wants_context(f):
    """Whether a function takes a second argument that has no default, or one
    that is named context."""
    if isinstance(f, types.FunctionType):
        code = f.__code__
        if code.co_argcount < 2:
            return False
        required = code.co_argcount - len(f.__defaults__ or ())
        return required >= 2 or code.co_varnames[1] == "context"
    import inspect

    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 and (positional[1].default is positional[1].empty or positional[1].name == "context")


_loop = None


async def _await(awaitable):
    return await awaitable


def _event_loop():
    """The event loop is kept: making one costs more than most steps."""
    import asyncio  # dear to import, and most steps are not async

    global _loop
    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
    asyncio.set_event_loop(_loop)
    return _loop


def _run(awaitable):
    """Runs an async step to its end."""
    loop = _event_loop()
    try:
        return loop.run_until_complete(_await(awaitable))
    finally:
        _end_tasks(loop)


def _end_tasks(loop):
    """Ends what a step has started and not awaited."""
    import asyncio

    left = asyncio.all_tasks(loop)
    if left:
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


def iterate(items):
    """The items of an asynchronous iterator."""
    loop = _event_loop()
    try:
        while True:
            try:
                item = loop.run_until_complete(_await(items.__anext__()))
            except StopAsyncIteration:
                return
            yield item
    finally:
        _end_tasks(loop)
