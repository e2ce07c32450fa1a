"""Points of one metric that mean the same series once their attributes are redacted, put together.

The data model of OTLP allows one point per set of attributes: two people whose addresses became the same marker are one
series from then on. Sums and counts are added, the newest gauge stays, and exponential histograms are brought to the
coarser scale of the two first (a bucket at scale s is two buckets at s+1: index >> 1).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

from opentelemetry.sdk.metrics.export import (
    Buckets,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
)


def merged(points: Iterable[Any], *, newest: bool = False) -> list[Any]:
    """Return the points with one for each set of attributes. `newest`: values are readings, not amounts (a gauge)."""
    series: dict[Any, list[Any]] = {}
    for point in points:
        series.setdefault(_identity(point), []).append(point)
    join = _newer if newest else _joined
    return [reduce(join, same) for same in series.values()]


def _identity(point: Any) -> Any:
    """Return what makes a series: its attributes, and for histograms the bounds, without which nothing adds up."""
    attributes = tuple(sorted((key, repr(value)) for key, value in point.attributes.items()))
    return attributes, tuple(point.explicit_bounds) if isinstance(point, HistogramDataPoint) else None


def _newer(one: Any, other: Any) -> Any:
    return other if other.time_unix_nano >= one.time_unix_nano else one


def _joined(one: Any, other: Any) -> Any:
    shared: dict[str, Any] = {
        "start_time_unix_nano": _earliest(one.start_time_unix_nano, other.start_time_unix_nano),
        "time_unix_nano": max(one.time_unix_nano, other.time_unix_nano),
        "exemplars": [*one.exemplars, *other.exemplars],
    }
    if isinstance(one, NumberDataPoint):
        return replace(one, value=one.value + other.value, **shared)
    shared |= {
        "count": one.count + other.count,
        "sum": one.sum + other.sum,
        "min": min(one.min, other.min),
        "max": max(one.max, other.max),
    }
    if isinstance(one, HistogramDataPoint):
        counts = [a + b for a, b in zip(one.bucket_counts, other.bucket_counts, strict=True)]
        return replace(one, bucket_counts=counts, **shared)
    return replace(one, **_exponential(one, other), **shared)


def _earliest(one: int | None, other: int | None) -> int | None:
    known = [start for start in (one, other) if start is not None]
    return min(known) if known else None


def _exponential(one: ExponentialHistogramDataPoint, other: ExponentialHistogramDataPoint) -> dict[str, Any]:
    scale = min(one.scale, other.scale)
    sides = {
        side: _buckets(*((getattr(point, side), point.scale - scale) for point in (one, other)))
        for side in ("positive", "negative")
    }
    return {"scale": scale, "zero_count": one.zero_count + other.zero_count, **sides}


def _buckets(*parts: tuple[Buckets, int]) -> Buckets:
    counts: Counter[int] = Counter()
    for buckets, steps in parts:
        for index, count in enumerate(buckets.bucket_counts, start=buckets.offset):
            counts[index >> steps] += count
    filled = [index for index, count in counts.items() if count]
    if not filled:
        return Buckets(0, [])
    low, high = min(filled), max(filled)
    return Buckets(low, [counts[index] for index in range(low, high + 1)])


__all__ = ["merged"]
