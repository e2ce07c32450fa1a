"""A histogram that takes many values at a time, for where recording each by itself costs more than what it measures.

An instrument of OpenTelemetry takes a value in about 6 µs, of which next to nothing is the counting; a batch of rows
has thousands of values for a handful of series. So values are counted here, a list at a time. The gateway shows these
counts at /metrics (`take_over`); in any other process each value is recorded with OpenTelemetry too, for whatever
MeterProvider the app has.
"""

import os
import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.metrics import Meter


@dataclass(slots=True, frozen=True)
class Series:
    """How many values are in each bucket, the last beyond all bounds (not cumulative), and the sum of the values."""

    words: tuple[str, ...]
    counts: Sequence[int]
    total: float


class Histogram:
    """Seconds in buckets, whose upper `bounds` belong to them, for each set of words that stand for its `labels`.

    Who calls bounds how many sets there are. `name` is OpenTelemetry's.
    """

    def __init__(
        self, meter: Meter, name: str, labels: Sequence[str], bounds: Sequence[float], description: str
    ) -> None:
        self.name: Final = name
        self.labels: Final = tuple(labels)
        self.bounds: Final = tuple(bounds)
        self.description: Final = description
        self._instrument = meter.create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=self.bounds
        )
        self._taken_over = False
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._totals: dict[tuple[str, ...], float] = {}
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Make the lock anew: in a forked child, a thread that is not there may have held it."""
        self._lock = threading.Lock()

    def record_all(self, seconds: Sequence[float], words: tuple[str, ...]) -> None:
        """Count values of one series; `words` are the values of its labels."""
        if not seconds:
            return
        with self._lock:
            counts = self._counts.setdefault(words, [0] * (len(self.bounds) + 1))
            for value in seconds:
                counts[bisect_left(self.bounds, value)] += 1
            self._totals[words] = self._totals.get(words, 0.0) + sum(seconds)
        if not self._taken_over:
            named = dict(zip(self.labels, words, strict=True))
            for value in seconds:
                self._instrument.record(value, named)

    def take_over(self) -> None:
        """Say that the caller shows `series` from now on: OpenTelemetry is told no more."""
        self._taken_over = True

    def series(self) -> list[Series]:
        """Return what was counted."""
        with self._lock:
            return [Series(words, tuple(counts), self._totals[words]) for words, counts in self._counts.items()]
