"""What a destination will not take: whether it refuses everything, and one line a minute in the log about it."""

import logging
import time
from collections import Counter
from typing import Final

_EVERYTHING: Final = 3  # batches in a row: one alone may well be the batch's own fault
_SILENT_SECONDS: Final = 60.0

_log = logging.getLogger("otel_telemetry.gateway.deliver")


class Refusals:
    """Counts the batches that a destination refused since it last took one. For one thread; any may read `problem`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._in_a_row = 0
        self._reason = ""
        self._unlogged: Counter[str] = Counter()
        self._first = 0
        self._logged_at = -_SILENT_SECONDS

    @property
    def problem(self) -> str:
        """Return why the destination refuses everything; "" if it does not."""
        if self._in_a_row < _EVERYTHING:
            return ""
        return f"refuses everything, the last {self._in_a_row} batches in a row: {self._reason}"

    def took(self) -> None:
        """Take note that it took something."""
        self._in_a_row = 0

    def refused(self, reason: str) -> None:
        """Take note of a batch of which it took nothing."""
        self._in_a_row += 1
        self._reason = reason

    def set_aside(self, seq: int, reason: str) -> None:
        """Take note of a dead letter for the log."""
        if not self._unlogged:
            self._first = seq
        self._unlogged[reason.partition(":")[0]] += 1

    def log_refusals(self) -> None:
        """Log new dead letters, at most one line a minute."""
        if not self._unlogged or time.monotonic() - self._logged_at < _SILENT_SECONDS:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self._unlogged.items()))
        _log.error(
            "%s can never take %d batches, the first is %d (%s); they are kept as dead letters: "
            "`otel-telemetry spool status` shows them",
            self._name, self._unlogged.total(), self._first, reasons,
        )  # fmt: skip
        self._unlogged.clear()
        self._logged_at = time.monotonic()
