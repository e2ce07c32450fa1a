"""The contract's gauge of tokens per second: an average, so that one odd call does not stand for all.

    tokens of the calls of the last minute / seconds in which these calls made them

A minute is six slots of ten seconds. The gauge keeps its value while there are no calls.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from otel_telemetry.base import conventions
from otel_telemetry.base.label_bounds import MOST_SETS

_SLOT_SECONDS: Final = 10
_SLOTS: Final = 6
_FASTEST: Final = 1e9  # tokens in a second
_MOST: Final = 1e9

Attributes = Mapping[str, str | int]
_Sums = dict[int, tuple[float, float]]
"""Tokens and seconds, by slot."""


class OutputRate:
    """The gauge of one meter; an average for each set of attributes, of which the latest are known."""

    def __init__(self, meter: Meter) -> None:
        self._gauge = meter.create_gauge(
            conventions.TOKENS_PER_SECOND_METRIC, description="Output rate: average of the calls of the last minute."
        )
        self._sums: dict[frozenset[tuple[str, str | int]], _Sums] = {}
        self._lock = threading.Lock()

    def record(
        self, tokens: float, seconds: float, attributes: Attributes | None = None, context: Context | None = None
    ) -> None:
        """Record a call that made so many tokens in so many seconds, both above 0; figures of no model are left out."""
        if not tokens < min(seconds * _FASTEST, _MOST):
            return
        slot = int(time.monotonic()) // _SLOT_SECONDS
        key = frozenset((attributes or {}).items())
        with self._lock:
            known = self._sums.pop(key, {})
            sums = {at: sum_ for at, sum_ in known.items() if at > slot - _SLOTS}
            before = sums.get(slot, (0.0, 0.0))
            sums[slot] = (before[0] + tokens, before[1] + seconds)
            if len(self._sums) >= MOST_SETS:
                del self._sums[next(iter(self._sums))]
            self._sums[key] = sums
            made, took = map(sum, zip(*sums.values(), strict=True))
        self._gauge.set(made / took, attributes, context)
