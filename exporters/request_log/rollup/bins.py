"""Durations as counts in bins: 64 per doubling of a millisecond, so that a bin's middle is at most 0.8 % off.

Counts of several periods are added; a percentile is the middle of the bin that contains its rank.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

import orjson

_PER_DOUBLING: Final = 64
_DOUBLINGS: Final = 40  # up to some 35 years
_ALL: Final = _PER_DOUBLING * _DOUBLINGS + 2  # bins
_CENT: Final = 100
_EMPTY: Final = len("[]")

Bins = dict[int, int]


def bin_of(milliseconds: float) -> int:
    """Return the bin of a duration; below a millisecond there is one."""
    if not milliseconds >= 1:
        return 0
    mantissa, exponent = math.frexp(min(milliseconds, 2.0**_DOUBLINGS))
    return 1 + (exponent - 1) * _PER_DOUBLING + int((mantissa * 2 - 1) * _PER_DOUBLING)


def middle(number: int) -> float:
    """Return the duration in the middle of a bin."""
    if number == 0:
        return 0.5
    doubling, part = divmod(number - 1, _PER_DOUBLING)
    return (1 + (part + 0.5) / _PER_DOUBLING) * 2.0**doubling


def add(bins: Bins, more: Mapping[int, int]) -> None:
    """Add counts to others."""
    if not bins:
        bins.update(more)
        return
    known = bins.get
    for number, count in more.items():
        bins[number] = known(number, 0) + count


def subtract(bins: Bins, less: Mapping[int, int]) -> None:
    """Take counts from others that contain them."""
    for number, count in less.items():
        left = bins.get(number, 0) - count
        if left > 0:
            bins[number] = left
        else:
            bins.pop(number, None)


def merged(counted: Iterable[Bins], stored: Iterable[str] = ()) -> Bins:
    """Return the sum of counts, some of them as they are stored: these are counted in a list, which is quicker."""
    found: Bins = {}
    for each in counted:
        add(found, each)
    texts = [text[1:-1] for text in stored if len(text) > _EMPTY]
    if not texts:
        return found
    numbers = [0] * _ALL
    parts = iter(orjson.loads(f"[{','.join(texts)}]"))
    for number, count in zip(parts, parts, strict=True):
        numbers[number] += count
    counts = {number: count for number, count in enumerate(numbers) if count}
    add(counts, found)
    return counts


def percentiles(bins: Mapping[int, int], percents: Sequence[int]) -> list[float | None]:
    """Return percentiles by nearest rank, each None of nothing; `percents` ascend."""
    ordered = sorted(bins)
    reached = list(accumulate(bins[number] for number in ordered))
    if not reached:
        return [None] * len(percents)
    return [middle(ordered[bisect_left(reached, -(-reached[-1] * percent // _CENT))]) for percent in percents]


def dump(bins: Bins) -> str:
    """Return bins as they are stored: a JSON array of bin, count, bin, count and so on."""
    return orjson.dumps([part for pair in sorted(bins.items()) for part in pair]).decode()


def load(text: str) -> Bins:
    """Return bins that were stored."""
    if not text:
        return {}
    parts = iter(orjson.loads(text))
    return dict(zip(parts, parts, strict=True))


__all__ = ["Bins", "add", "bin_of", "dump", "load", "merged", "middle", "percentiles", "subtract"]
