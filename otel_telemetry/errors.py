"""Every exception of the suite, as one tree.

TelemetryError
├── ConfigurationError      a setting cannot be used; names the key and the next step
│   └── RuleError           a detection rule or policy entry cannot be used; names file and rule
├── MalformedTelemetry      a payload is not valid OTLP (or not a valid event); names the field
├── Overloaded              cannot take more right now; the sender should retry after `retry_after` seconds
├── DeliveryRefused         a destination will not take these items, however often they are sent
└── StoreError              a database or the spool cannot do what was asked
    ├── SchemaTooNew        the database was written by a newer version; nothing was changed
    └── StoreUnavailable    a passing fault: the same call may succeed later
        └── SpoolDamaged    the spool's file is damaged: it is set right when all have let go of it

None of these reaches an instrumented application: they are raised at start-up, or caught at the border of a thread.
"""


class TelemetryError(Exception):
    """Base of every error that the suite raises on purpose."""


class ConfigurationError(TelemetryError):
    """A setting that cannot be used.

    `key` is the setting's full dotted name, `problem` what is wrong with it, `hint` what to do next.
    """

    def __init__(self, key: str, problem: str, hint: str = "") -> None:
        self.key = key
        self.problem = problem
        self.hint = hint
        super().__init__(f"{key}: {problem}" + (f"\n  next: {hint}" if hint else ""))


class RuleError(ConfigurationError):
    """A detection rule or policy entry that cannot be used. `key` is `file: entry`."""


class MalformedTelemetry(TelemetryError):
    """A payload that breaks its protocol. `field` is the path of the offending field, or "" for the whole body."""

    def __init__(self, problem: str, field: str = "") -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}" if field else problem)


class Overloaded(TelemetryError):
    """The receiver cannot take more right now. `retry_after` is in seconds; OTLP clients give up beyond about 9."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(f"{reason}; retry in {retry_after:g} s")


class StoreError(TelemetryError):
    """A database or the spool cannot do what was asked."""


class SchemaTooNew(StoreError):
    """The database was written by a newer version of this package. It was left untouched."""


class StoreUnavailable(StoreError):
    """The database or destination is away, locked or full for now; the same call may succeed later.

    `retry_after` is how long it asked to be left alone, in seconds; 0 where it did not say. `timed_out`: it did
    not finish in time, so that less at once may help.
    """

    def __init__(self, message: str, retry_after: float = 0.0, *, timed_out: bool = False) -> None:
        self.retry_after = retry_after
        self.timed_out = timed_out
        super().__init__(message)


class SpoolDamaged(StoreUnavailable):
    """The spool's file is damaged, and processes have it open: it is set right once they have let go."""


class DeliveryRefused(TelemetryError):
    """A destination will not take these items, however often they are sent.

    `reason` is a stable word for counters. `doubtful` says that the answer may as well be a passing fault of the
    destination (HTTP 500), so that some more tries are worth their while, after `retry_after` seconds if it said so.
    """

    def __init__(self, reason: str, detail: str, *, doubtful: bool = False, retry_after: float = 0.0) -> None:
        self.reason = reason
        self.detail = detail
        self.doubtful = doubtful
        self.retry_after = retry_after
        super().__init__(f"{reason}: {detail}")
