"""Limits the CPU time of a task to a share of one core: a token bucket of seconds."""

import threading
import time
from collections.abc import Callable
from typing import Final

#: For how long unused time is saved up, in seconds.
_SAVED: Final = 10.0


class Allowance:
    """Seconds of work that may be done. Thread-safe."""

    def __init__(self, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`share` of one core, above 0 and at most 1; `clock` gives seconds."""
        self._share = share
        self._clock = clock
        self._left = share * _SAVED
        self._at = clock()
        self._lock = threading.Lock()

    def is_used_up(self) -> bool:
        """Return whether no more work may be done now."""
        with self._lock:
            now = self._clock()
            self._left = min(self._left + (now - self._at) * self._share, self._share * _SAVED)
            self._at = now
            return self._left <= 0

    def use(self, seconds: float) -> None:
        """Subtract the seconds that a task took, even if that is more than was left."""
        with self._lock:
            self._left -= seconds
