"""What is going on right now in this task or thread: the request's root span, the stage it is in, and what it spends.

All live in context variables, so they follow tasks and threads that copy their context, and none is ever reset by
token: a generator may be closed in another context than the one it was opened in.
"""

import time
from collections.abc import Mapping
from contextvars import ContextVar
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry import trace

from otel_telemetry.base import conventions

TTFB = conventions.REQUEST_LOG + "ttfb_ms"
CACHE_HIT = conventions.REQUEST_LOG + "cache_hit"
CACHE_SAVED_MS = conventions.REQUEST_LOG + "cache_saved_ms"
CACHE_SAVED_USD = conventions.REQUEST_LOG + "cache_saved_usd"
CACHE_UNPRICED_HITS = conventions.REQUEST_LOG + "cache_unpriced_hits"


class Root:
    """The local root span of a request, and when its answer began.

    `request_log.ttfb_ms` makes a span a request (design, D7), so it is only written once the span is known to be one:
    `request()` was entered, or a model was called under it. Either may come before or after the first byte.
    """

    __slots__ = ("_is_request", "_saved_ms", "_saved_usd", "_started", "_ttfb_ms", "_unpriced_hits", "span")

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self._started = time.perf_counter()
        self._ttfb_ms: float | None = None
        self._is_request = False
        self._saved_ms: float | None = None
        self._saved_usd: Decimal | None = None
        self._unpriced_hits = 0

    def answered(self) -> None:
        """Note that the first byte of the answer's body leaves now; later calls change nothing."""
        if self._ttfb_ms is None:
            self._ttfb_ms = round((time.perf_counter() - self._started) * 1000, 3)
            self._write()

    def is_request(self) -> None:
        """Note that this span is a request that deserves a row."""
        if not self._is_request:
            self._is_request = True
            self._write()

    def cache_hit(self, saved_ms: float | None, saved_usd: Decimal | None) -> None:
        """Record an answer from a cache, with the saved time and money if known. Several hits add up.

        Hits whose cost is not known are counted beside the sum of the others.
        """
        self.is_request()
        attributes: dict[str, bool | int | float] = {CACHE_HIT: True}
        if saved_ms is not None:
            self._saved_ms = (self._saved_ms or 0.0) + saved_ms
            attributes[CACHE_SAVED_MS] = round(self._saved_ms, 3)
        if saved_usd is not None:
            self._saved_usd = (self._saved_usd or Decimal(0)) + saved_usd
            attributes[CACHE_SAVED_USD] = float(self._saved_usd)
        else:
            self._unpriced_hits += 1
        if self._saved_usd is not None and self._unpriced_hits:
            attributes[CACHE_UNPRICED_HITS] = self._unpriced_hits
        self.span.set_attributes(attributes)

    def _write(self) -> None:
        if self._is_request and self._ttfb_ms is not None and self.span.is_recording():
            self.span.set_attribute(TTFB, self._ttfb_ms)


class ModelUsage(NamedTuple):
    """What a model call used up, as its provider reports it. Counts are None where it does not."""

    provider: str
    model: str | None
    operation: str
    input_tokens: int | None  # includes cache_read and cache_creation
    output_tokens: int | None  # includes reasoning
    cache_read: int | None
    cache_creation: int | None
    reasoning: int | None
    refused: bool  # by the server, with an HTTP status from 400 on: nobody is billed for that
    kinds: Mapping[str, int] = MappingProxyType({})  # of tokens and searches with prices of their own
    tier: str | None = None
    bill: float | None = None  # USD, as the answer itself states it


root: ContextVar[Root | None] = ContextVar("otel_telemetry_root", default=None)
stage: ContextVar[str | None] = ContextVar("otel_telemetry_stage", default=None)
#: Where model calls that begin here put what they used up when they end.
spending: ContextVar[list[ModelUsage] | None] = ContextVar("otel_telemetry_spending", default=None)


def live_root() -> Root | None:
    """Return the request's root while its span still records, else None."""
    current = root.get()
    return current if current is not None and current.span.is_recording() else None
