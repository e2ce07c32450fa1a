"""A circuit: when a destination that fails is tried again, and what is known of it meanwhile.

closed: it works, or has just begun to fail; tries come after short, growing, jittered pauses. open: it failed several
times in a row; long pauses. half_open: the pause is over, and one small request finds out whether it is back.
A destination that says how long it wants to be left alone is left alone for that long, in any state.
"""

import random
from enum import StrEnum
from typing import Final

_OPEN_AFTER: Final = 5
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0
_LONGEST_ORDERED: Final = 3600.0  # a destination that asks for more is asked again after an hour all the same
_JITTER: Final = 0.5


class State(StrEnum):
    """Where the circuit stands."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Circuit:
    """Counts failures in a row. `reason` is the last one's, "" when all is well. For one thread."""

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.failures = 0
        self.reason = ""

    def failed(self, reason: str, retry_after: float = 0.0) -> float:
        """Take note of a failure and return how many seconds to wait."""
        self.failures += 1
        self.reason = reason
        if self.failures >= _OPEN_AFTER:
            self.state = State.OPEN
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
        ordered = min(retry_after, _LONGEST_ORDERED)
        spread = random.uniform(1 - _JITTER, 1) * longest  # noqa: S311 - spreads retries, no secret
        return max(spread, ordered * random.uniform(1, 1.1))  # noqa: S311 - never earlier than asked

    def probe(self) -> bool:
        """Say whether the next request is only to find out; the pause is over."""
        if self.state is State.OPEN:
            self.state = State.HALF_OPEN
        return self.state is State.HALF_OPEN

    def succeeded(self) -> int:
        """Close, and return how many tries had failed."""
        failed, self.failures = self.failures, 0
        self.state = State.CLOSED
        self.reason = ""
        return failed
