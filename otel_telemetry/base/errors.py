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
        ├── DiskFull        the disk of the spool has no room
        ├── BrokersAway     Kafka takes no messages
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


class TooDense(TelemetryError):
    """A request that would take too much memory for its size. `what` names what it has too much of."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the request has {what}; send smaller batches")


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
    """The database or destination is down, locked or full for now; the same call may succeed later.

    `retry_after` is the time in seconds that it asked to wait; 0 if it gave none. `timed_out`: it did not finish in
    time, so a smaller call may help.
    """

    def __init__(self, message: str, retry_after: float = 0.0, *, timed_out: bool = False) -> None:
        self.retry_after = retry_after
        self.timed_out = timed_out
        super().__init__(message)


class DiskFull(StoreUnavailable):
    """The spool's disk is full: nothing can be stored."""


class BrokersAway(StoreUnavailable):
    """Kafka does not take or give messages right now. The message names its brokers, and the reason."""


class SpoolDamaged(StoreUnavailable):
    """The spool's file is damaged, and processes have it open: it is set right once they have let go."""


class DeliveryRefused(TelemetryError):
    """A destination never accepts these items, however often they are sent.

    `reason` is a fixed word for counters. `doubtful`: the answer may be a temporary fault of the destination (HTTP
    500), so some more tries are useful, after `retry_after` seconds if it gave that.
    """

    def __init__(self, reason: str, detail: str, *, doubtful: bool = False, retry_after: float = 0.0) -> None:
        self.reason = reason
        self.detail = detail
        self.doubtful = doubtful
        self.retry_after = retry_after
        super().__init__(f"{reason}: {detail}")
