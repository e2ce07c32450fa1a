"""Shared by both interfaces of the cache: conversion of values to bytes and back, counting, and the request's row."""

import random
import time
from decimal import Decimal
from typing import Any, Final, Self

from otel_telemetry.base import metrics
from otel_telemetry.cache import entries
from otel_telemetry.cache.entries import Entry
from otel_telemetry.cache.flights import FlightResult
from otel_telemetry.cache.memory import MemoryStore
from otel_telemetry.cache.parts import Parts
from otel_telemetry.cache.redis_store import RedisStore
from otel_telemetry.instrument import active
from otel_telemetry.instrument.active import ModelUsage
from otel_telemetry.instrument.cache_measures import RESPONSE, CacheMeasures
from otel_telemetry.instrument.families import Families
from otel_telemetry.instrument.shield import shielded

COMPONENT: Final = "cache"


class EntryHandler:
    """Converts, counts and reports. Does no input or output. No method raises."""

    def __init__(self, parts: Parts, measures: CacheMeasures) -> None:
        self.config = parts.config
        self.store: MemoryStore | RedisStore = (
            RedisStore(parts.config) if parts.config.url else MemoryStore(parts.config)
        )
        self._redactor = parts.redactor
        self._price = parts.price
        self._measures = measures
        self._families = Families()

    def _problem(self, operation: str, reason: str) -> None:
        metrics.cache_problems.add(1, {"operation": operation, "reason": reason})

    # --- bytes --------------------------------------------------------------------------------------------------

    def opened(self, key: str, data: bytes | None) -> Entry | None:
        """Return the entry in what the store gave, or None."""
        if data is None:
            return None
        try:
            return entries.unpack(key, data)
        except entries.Corrupt:
            self._problem("get", "corrupt")
            return None

    def plain(self, data: bytes, seconds: float) -> Entry | None:
        """Return what an older service left, redacted, or None; `seconds` is how long it is still there."""
        entry = entries.plain(data, seconds, time.time())
        clean = None if entry is None else self._redacted(entry.value, data)
        if entry is None or clean is None:
            self._problem("get", "corrupt" if entry is None else "redaction_failed")
            return None
        return entry._replace(value=entries.load(clean))

    def packed(
        self, key: str, value: Any, text: bytes | None, cost: tuple[float | None, Decimal | None], ttl: float | None
    ) -> tuple[bytes, float] | None:
        """Return the bytes to store for a value and its JSON, and the seconds to keep them, or None."""
        reason, clean = "value", None
        if text is not None and len(text) > self.config.max_value_bytes:
            reason = "too_large"
        elif text is not None:
            reason, clean = "redaction_failed", self._redacted(value, text)
        if clean is None:
            self._problem("set", reason)
            return None
        seconds = self._seconds(ttl)
        now = time.time()
        return entries.pack(key, clean, now, expires=now + seconds, took_ms=cost[0], usd=cost[1]), seconds

    def _redacted(self, value: Any, text: bytes) -> bytes | None:
        """Return the JSON of the redacted value, or None: what cannot be redacted is not kept."""
        try:
            clean = self._redactor.value(value)
        except Exception as error:  # noqa: BLE001 - fail closed
            shielded(COMPONENT, error)
            metrics.dropped.add(1, {"signal": "cache", "reason": "redaction_failed"})
            return None
        return text if clean is value else entries.dump(clean)

    def _seconds(self, ttl: float | None) -> float:
        wanted = self.config.ttl if ttl is None else ttl
        return wanted * (1 - self.config.ttl_jitter * random.random())  # noqa: S311 - spreads expiry, hides nothing

    # --- what is told -------------------------------------------------------------------------------------------

    def hit(self, key: str, size: int, took_ms: float | None, usd: Decimal | None, waited_ms: float) -> None:
        """Count a hit and mark the request's row with what it saved."""
        try:
            self._measures.count((RESPONSE, "get", self._families.of(key)), 1, 0, size)
            root = active.live_root()
            if root is not None:
                root.cache_hit(None if took_ms is None else max(0.0, took_ms - waited_ms), usd)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)

    def miss(self, key: str) -> None:
        """Count a miss."""
        try:
            self._measures.count((RESPONSE, "get", self._families.of(key)), 0, 1)
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)

    def cost(self, spent: list[ModelUsage]) -> Decimal | None:
        """Return what model calls cost, or None where there were none or that is not known."""
        try:
            return self._price(spent) if self._price is not None and spent else None
        except Exception as error:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, error)
            return None


def since(started: float) -> float:
    """Return the milliseconds since a moment of perf_counter."""
    return (time.perf_counter() - started) * 1000


class Computation:
    """The computation of a value: its time, and the model calls that begin while it lasts."""

    def __enter__(self) -> Self:
        self.spent: list[ModelUsage] = []
        self._before = active.spending.get()
        active.spending.set(self.spent)
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.took_ms = since(self._started)
        active.spending.set(self._before)
        if self._before is not None:
            self._before.extend(self.spent)  # a value made of values costs what they cost


def found(key: str, data: bytes, entry: Entry) -> FlightResult:
    """Return the value for callers that wait for a found value."""
    return FlightResult(lambda: entries.unpack(key, data).value, len(data), entry.took_ms, entry.cost_usd)


def made(text: bytes | None, took_ms: float, usd: Decimal | None) -> FlightResult | None:
    """Return the value for callers that wait for a new value, or None if each has to make its own."""
    return None if text is None else FlightResult(lambda: entries.load(text), len(text), took_ms, usd)
