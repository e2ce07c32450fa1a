"""Findings along time: what the counters of a gateway gained in each quarter of an hour, as long as this process runs.

The counters have no times of their own, so they are read every minute. Nothing of it is stored.
"""

import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from otel_telemetry.base import metrics

#: Type, rule and service of findings.
Key = tuple[str, ...]
QUARTER: Final = timedelta(minutes=15)
_SECONDS: Final = QUARTER.total_seconds()
_KEPT: Final = 7 * 96  # quarters: a week
_PAUSE_SECONDS: Final = 60.0


class History:
    """What was found in each quarter of an hour, by type, rule and service; `read` returns the counters."""

    def __init__(self, read: Callable[[], Mapping[Key, float]], clock: Callable[[], float] = time.time) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._before: Mapping[Key, float] | None = None
        self._quarters: deque[tuple[float, Counter[Key]]] = deque(maxlen=_KEPT)
        #: Since when it is known what was found.
        self.since: datetime | None = None

    def start(self) -> None:
        """Read the counters from now on, until nobody has this history any more."""
        threading.Thread(target=_watch, args=(weakref.ref(self),), name="otel-telemetry-findings", daemon=True).start()

    def note(self) -> None:
        """Read the counters now; what they gained since the last time counts for the present quarter."""
        with self._lock:
            now, counts = self._clock(), dict(self._read())
            before, self._before = self._before, counts
            if before is None:
                self.since = datetime.fromtimestamp(now, UTC)
                return
            gained = {key: int(value - before.get(key, 0.0)) for key, value in counts.items()}
            start = now // _SECONDS * _SECONDS
            if not self._quarters or self._quarters[-1][0] < start:
                self._quarters.append((start, Counter()))
            # A process that was started anew counts from 0.
            self._quarters[-1][1].update({key: number for key, number in gained.items() if number > 0})

    def within(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, Counter[Key]]]:
        """Yield the quarters that begin in a period, with what was found in each."""
        with self._lock:
            quarters = [(datetime.fromtimestamp(start, UTC), Counter(found)) for start, found in self._quarters]
        yield from ((start, found) for start, found in quarters if since <= start < until)


def _watch(history: "weakref.ref[History]") -> None:
    while (one := history()) is not None:
        try:
            one.note()
        except Exception:  # noqa: BLE001 - the gateway starts or ends just now; the next minute tells
            metrics.instrumentation_errors.add(1, {"component": "findings"})
        del one
        time.sleep(_PAUSE_SECONDS)
