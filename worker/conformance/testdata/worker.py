"""The behaviours as a worker program of Python."""

import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "../../python"), os.path.join(here, "../steps")]

import millrace  # noqa: E402
import steps  # noqa: E402

millrace.main({name.replace("_", "-"): f for name, f in vars(steps).items() if getattr(f, "__module__", "") == "steps"})
