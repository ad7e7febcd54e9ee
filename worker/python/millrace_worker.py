#!/usr/bin/env python3
"""The executor for steps of the kind "python". The engine starts it."""

import sys

if sys.version_info < (3, 9):
    sys.stderr.write("millrace_worker.py: Python 3.9 or later is needed, this is %d.%d (%s)\n" % (sys.version_info[:2] + (sys.executable,)))
    sys.exit(2)

if __name__ == "__main__":
    # Behind everything else: a step's own modules go before what lies here.
    sys.path.append(sys.path.pop(0))
    import millrace

    millrace.main()
