#!/usr/bin/env python3
"""The executor for steps of the kind "python". The engine starts it."""

import os
import sys

if sys.version_info < (3, 9):
    sys.stderr.write("millrace_worker.py: Python 3.9 or later is needed, this is %d.%d (%s)\n" % (sys.version_info[:2] + (sys.executable,)))
    sys.exit(2)

if __name__ == "__main__":
    # The package beside this file, also where Python leaves the script's folder
    # out of the path (-I, -P) or another millrace is installed.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [here] + [p for p in sys.path if p != here]
    import millrace

    # From here on behind everything else: a step's own modules go first.
    sys.path.append(sys.path.pop(0))
    millrace.main()
