"""A histogram that records many values at a time, because recording each by itself costs more than what it measures.

An OpenTelemetry instrument records a value in about 6 µs, almost none of which is the counting; a batch of rows has
thousands of values for a handful of series. So values are counted here, a list at a time. The gateway shows these
counts at /metrics (`take_over`); in any other process each value is also recorded with OpenTelemetry, for the app's
MeterProvider.
"""

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.metrics import Meter

Example = tuple[str, float, float]


@dataclass(slots=True, frozen=True)
class Series:
    """How many values are in each bucket, the last beyond all bounds (not cumulative), and the sum of the values.

    `examples` has the newest of each bucket, as (trace id, value, when in seconds since 1970), where there is one.
    """

    words: tuple[str, ...]
    counts: Sequence[int]
    total: float
    examples: Sequence[Example | None]


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
        self._examples: dict[tuple[str, ...], list[Example | None]] = {}
        self._renew_lock()
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Make the lock anew: in a forked child, a thread that is not there may have held it."""
        self._lock = threading.Lock()

    def record_all(self, timed: Sequence[tuple[float, str]], words: tuple[str, ...]) -> None:
        """Count values of one series, each in seconds and with its trace id; `words` are the values of its labels."""
        if not timed:
            return
        now = time.time()
        with self._lock:
            counts = self._counts.setdefault(words, [0] * (len(self.bounds) + 1))
            examples = self._examples.setdefault(words, [None] * len(counts))
            for value, trace_id in timed:
                bucket = bisect_left(self.bounds, value)
                counts[bucket] += 1
                examples[bucket] = (trace_id, value, now)
            self._totals[words] = self._totals.get(words, 0.0) + sum(value for value, _ in timed)
        if not self._taken_over:
            named = dict(zip(self.labels, words, strict=True))
            for value, _ in timed:
                self._instrument.record(value, named)

    def take_over(self) -> None:
        """Let the caller show `series` from now on: OpenTelemetry gets no more values."""
        self._taken_over = True

    def series(self) -> list[Series]:
        """Return what was counted."""
        with self._lock:
            return [
                Series(words, tuple(counts), self._totals[words], tuple(self._examples[words]))
                for words, counts in self._counts.items()
            ]
