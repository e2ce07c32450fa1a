"""The cache metrics of the contract: hits, misses, hit rate, bytes, time of lookups, repairs and drift.

Hits, misses and bytes are counted in plain numbers and read at collection, because a lookup must be fast. `cache` names
the cache: `response` (ResponseCache) or `redis` (redis-py, as the app uses it).
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_telemetry.base import conventions
from otel_telemetry.instrument.families import LIMIT, OTHER

RESPONSE: Final = "response"
REDIS: Final = "redis"

Lookups = tuple[str, str, str]
"""Which lookups: cache, command, family of keys."""


class CacheMeasures:
    """The cache instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        self._counts: dict[Lookups, list[int]] = {}
        self._lock = threading.Lock()
        counter = meter.create_observable_counter
        counter(conventions.CACHE_HITS_METRIC, [self._column(0)], description="Values found, by cache and family.")
        counter(conventions.CACHE_MISSES_METRIC, [self._column(1)], description="Values not found.")
        counter(conventions.CACHE_READ_METRIC, [self._column(2)], unit="By", description="Bytes of values found.")
        meter.create_observable_gauge(
            conventions.CACHE_HIT_RATE_METRIC, [self._rates], description="Hits / (hits + misses) since the start."
        )
        self._lookup = meter.create_histogram(
            conventions.CACHE_LOOKUP_METRIC,
            "s",
            "Time of lookups.",
            explicit_bucket_boundaries_advisory=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0),
        )
        self._repairs = meter.create_counter(conventions.REPAIRS_METRIC, description="Contents repaired, by kind.")
        self._drift = meter.create_counter(conventions.DRIFT_METRIC, description="Policy drift incidents, by policy.")
        self._kinds: set[str] = set()

    def count(self, key: Lookups, hits: int, misses: int, size: int = 0) -> None:
        """Count what a lookup found; `size` in bytes."""
        with self._lock:
            counts = self._counts.get(key)
            if counts is None:
                counts = self._counts[key] = [0, 0, 0]
            counts[0] += hits
            counts[1] += misses
            counts[2] += size

    def took(self, key: Lookups, seconds: float) -> None:
        """Record how long a lookup took. Too slow for the app's own thread."""
        cache, command, family = key
        self._lookup.record(seconds, {"cache": cache, "command": command, "family": family})

    def repaired(self, kind: str, count: int) -> None:
        """Count repairs of content."""
        self._repairs.add(count, {"kind": self._bounded(kind)})

    def drifted(self, policy: str, count: int) -> None:
        """Count incidents of policy drift."""
        self._drift.add(count, {"policy": self._bounded(policy)})

    def _bounded(self, label: str) -> str:
        with self._lock:
            if len(self._kinds) < LIMIT:
                self._kinds.add(label)
            return label if label in self._kinds else OTHER

    def _column(self, index: int) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                found = [(key, counts[index]) for key, counts in self._counts.items()]
            for (cache, command, family), value in found:
                yield Observation(value, {"cache": cache, "command": command, "family": family})

        return observe

    def _rates(self, _: CallbackOptions) -> Iterable[Observation]:
        sums: dict[str, list[int]] = {}
        with self._lock:
            for (cache, _command, _family), (hits, misses, _size) in self._counts.items():
                both = sums.setdefault(cache, [0, 0])
                both[0] += hits
                both[1] += misses
        return [Observation(hits / (hits + misses), {"cache": cache}) for cache, (hits, misses) in sums.items()]


default: Final = CacheMeasures(metrics.get_meter(conventions.SCOPE_NAME))
"""Counts into whatever MeterProvider the process has."""


def record_repair(kind: str = "content", count: int = 1) -> None:
    """Count an answer that had to be repaired (broken JSON, a missing field) before it could be used."""
    default.repaired(kind, count)


def record_drift(policy: str = "policy", count: int = 1) -> None:
    """Count answers that drifted from a policy that they ought to follow."""
    default.drifted(policy, count)
