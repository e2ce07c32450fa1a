"""What redaction counts, until somebody stores it: findings, leak checks and leaks by their labels, never a value.

The counters of metrics.py begin at 0 with each process, and forget. Who stores these counts takes them from here, and
adds them to what is stored (exporters/request_log/store/redactions.py).
"""

import os
import threading
from collections import Counter
from typing import Final, Literal, NamedTuple

What = Literal["finding", "leak_check", "leak"]


class Key(NamedTuple):
    """What is counted: findings and leaks have a type, findings also a rule and a service."""

    what: What
    type: str = ""
    rule: str = ""
    service: str = ""


class Counts:
    """Numbers by key. Labels are bounded before they come here, so they stay few where nobody takes them."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a process does that was forked: what was counted before is its parent's."""
        self._lock = threading.Lock()
        self._numbers: Counter[Key] = Counter()

    def add(self, key: Key, number: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._numbers[key] += number

    def take(self) -> Counter[Key]:
        """Return what was counted since the last call."""
        with self._lock:
            found, self._numbers = self._numbers, Counter()
        return found


#: The counts of this process.
counts: Final = Counts()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=counts.forget)
