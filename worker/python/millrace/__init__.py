"""Steps of millrace workflows in Python.

A program that registers its functions and calls :func:`main` can run steps::

    import millrace

    def clean(state):
        state["data"] = [r for r in state["data"] if r["valid"]]

    millrace.main({"clean": clean})

A step of the kind ``python: file.py`` needs no such program, and need not
import this package. README.md says what happens to which value.
"""

__version__ = "0.1.0"

from .executor import Context
from .state import State
from .steperror import Cancelled, CallError, StepError, StreamError
from .streams import Stream

__all__ = ["CallError", "Cancelled", "Context", "State", "StepError", "Stream", "StreamError", "main"]


def main(functions=None):
    """Runs this process as an executor; it never returns.

    functions are what steps of the kind "function" may name. The process exits
    with 0 when the supervisor is done with it, with 1 when the channel failed,
    with 2 when it was not started by a supervisor. With the argument
    ``--functions`` it prints their names instead.
    """
    import os
    import sys

    from .executor import Executor, control_socket

    functions = dict(functions or {})
    for name, f in functions.items():
        if not isinstance(name, str) or not callable(f):
            raise TypeError(f"functions[{name!r}] is not a function by name")
    if sys.argv[1:] == ["--functions"]:
        print(*sorted(functions), sep="\n")
        sys.exit(0)
    try:
        sock = control_socket()
    except OSError as e:
        print(f"{os.path.basename(sys.argv[0])}: {e}", file=sys.stderr)
        if functions:
            print(f"functions: {', '.join(sorted(functions))}", file=sys.stderr)
        sys.exit(2)
    Executor(sock, functions, __version__).run()
