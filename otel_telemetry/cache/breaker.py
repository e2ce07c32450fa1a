"""A circuit breaker: after a timeout, or some failures in a row, it refuses for a while; then it allows one try."""

import threading
import time
from typing import Final

FAILURES: Final = 3


class Breaker:
    """Counts failures in a row; thread-safe.

    A try whose result is never reported blocks nothing: the next one is allowed after `cooldown` seconds.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._failures = 0
        self._next_try = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Return whether to try now."""
        if self._failures < FAILURES:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._next_try:
                return False
            self._next_try = now + self._cooldown
            return True

    def failed(self, *, timed_out: bool) -> None:
        """Note a failure. One that took all of its time is enough: nobody shall wait for the next."""
        with self._lock:
            self._failures = FAILURES if timed_out else self._failures + 1
            self._next_try = time.monotonic() + self._cooldown

    def succeeded(self) -> None:
        """Note a success."""
        if self._failures:
            with self._lock:
                self._failures = 0
