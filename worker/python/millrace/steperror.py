"""The exceptions that a step's code raises and catches."""

SEVERITIES = ("fail", "crash", "kill", "exception", "cancel")


class StepError(Exception):
    """An error whose name and severity are the step's own choice. Any other
    exception fails its step with the name JobError."""

    def __init__(self, message, name="JobError", severity="fail", details=None):
        super().__init__(message)
        if severity not in SEVERITIES:
            raise ValueError(f"unknown severity {severity!r}: use one of {', '.join(SEVERITIES)}")
        self.name, self.severity, self.details = name, severity, dict(details or {})

    @property
    def message(self):
        return str(self)


class CallError(StepError):
    """What a called step failed with: its name, severity and details. A step
    that does not catch it fails with the same. Where each collects errors it
    stands in place of a result; using it as one raises it."""

    def __init__(self, step, message, name, severity, details=None):
        super().__init__(message, name, severity if severity in SEVERITIES else "exception", details)
        self.step = step

    def __getitem__(self, key):
        raise self


class StreamError(StepError):
    """The step at the other end of a stream failed or died."""


class Cancelled(KeyboardInterrupt):
    """Raised in the step's own code when its execution is cancelled."""
