"""A circuit: when a failing destination is tried again, and its state meanwhile.

closed: it works, or has just begun to fail; tries come after short, growing, jittered pauses. open: it failed several
times in a row; long pauses. half_open: the pause is over, and one small request tests whether it is back.

If a destination asks for a wait, it gets that wait, in any state, but no more than five minutes: a wrong clock or a
mistyped figure there must not stop delivery for a day.
"""

import random
import time
from enum import StrEnum
from typing import Final

from otel_telemetry.base import backoff

_OPEN_AFTER: Final = 5
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0
_LONGEST_ORDERED: Final = 300.0  # a destination that asks for more is tried again after that all the same


class State(StrEnum):
    """Where the circuit stands."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Circuit:
    """Counts failures in a row. `reason` is the last one's, "" when all is well. For one thread.

    `until` is when it is tried again, in seconds since 1970, 0 when all is well. `capped`: it had asked for longer.
    """

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.failures = 0
        self.reason = ""
        self.until = 0.0
        self.capped = False

    def failed(self, reason: str, retry_after: float = 0.0) -> float:
        """Take note of a failure and return how many seconds to wait."""
        self.failures += 1
        self.reason = reason
        if self.failures >= _OPEN_AFTER:
            self.state = State.OPEN
        ordered = min(retry_after, _LONGEST_ORDERED)
        spread = backoff.spread(backoff.pause(self.failures, _FIRST_PAUSE, _LONGEST_PAUSE))
        self.capped = retry_after > ordered
        pause = max(spread, ordered * random.uniform(1, 1.1))  # noqa: S311 - never earlier than asked
        self.until = time.time() + pause
        return pause

    def probe(self) -> bool:
        """Return whether the next request is only to find out; the pause is over."""
        if self.state is State.OPEN:
            self.state = State.HALF_OPEN
        return self.state is State.HALF_OPEN

    def succeeded(self) -> int:
        """Close, and return how many tries had failed."""
        failed, self.failures = self.failures, 0
        self.state = State.CLOSED
        self.reason = ""
        self.until = 0.0
        self.capped = False
        return failed
