"""Look-ups for tasks of event loops. synchronous.py is its twin for threads, with the same steps."""

import asyncio
import math
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from otel_telemetry.cache import entries
from otel_telemetry.cache.entries import Entry
from otel_telemetry.cache.entry_handler import Computation, EntryHandler, found, made, since
from otel_telemetry.cache.flights import AsyncFlight, FlightOutcome, Flights, InFlight, is_in_flight
from otel_telemetry.cache.redis_store import LOCK_SECONDS, PAUSES, RedisStore


class AsyncLookup:
    """Looks up, stores, and calls through."""

    def __init__(self, handler: EntryHandler) -> None:
        self._handler = handler
        self._flights: Flights[tuple[asyncio.AbstractEventLoop, str], AsyncFlight] = Flights(AsyncFlight)

    async def lookup(self, key: str, plain: str | None = None) -> Entry | None:
        """Return the stored value, and count the look-up; `plain` is the key for JSON that an older service left."""
        hit = await self._look(key, plain)
        return None if hit is None else hit[1]

    async def _look(self, key: str, plain: str | None = None) -> tuple[bytes, Entry] | None:
        started = time.perf_counter()
        data, entry = await self._handler.store.aget(key), None
        if plain is not None and isinstance(self._handler.store, RedisStore) and not entries.is_ours(data):
            data, entry = await self._left(self._handler.store, plain, data if plain == key else None)
        elif data is not None:
            entry = self._handler.opened(key, data)
        if data is None or entry is None:
            self._handler.miss(key)
            return None
        self._handler.hit(key, len(data), entry.took_ms, entry.cost_usd, since(started))
        return data, entry

    async def _left(self, store: RedisStore, key: str, data: bytes | None) -> tuple[bytes | None, Entry | None]:
        """Return what an older service left at a key of its own, for as long as it would have kept it."""
        data = await store.aget(key) if data is None else data
        seconds = None if data is None else await store.aleft(key)
        if data is None or seconds is None:
            return None, None
        return data, self._handler.plain(data, self._handler.config.ttl if seconds == math.inf else seconds)

    async def store(self, key: str, value: Any, ttl: float | None) -> Entry | None:
        """Store a value; return the stored value."""
        packed = self._handler.packed(key, value, entries.dump(value), (None, None), ttl)
        if packed is None or not await self._handler.store.aset(key, *packed):
            return None
        return self._handler.opened(key, packed[0])

    async def through(self, key: str, ttl: float | None, call: Callable[[], Awaitable[Any]]) -> Any:
        """Return the stored value, or the result of `call`; one call at a time for a key."""
        if is_in_flight(key):
            return await call()
        started = time.perf_counter()
        here = (asyncio.get_running_loop(), key)
        while True:
            flight, leads = self._flights.join(here)
            if leads:
                return await self._lead(flight, key, ttl, call)
            outcome = await flight.wait(self._handler.config.flight_wait)
            if outcome is not FlightOutcome.GIVEN_UP:
                break
        result = flight.result
        if result is None:
            self._handler.miss(key)
            return await call()
        self._handler.hit(key, result.size, result.took_ms, result.cost_usd, since(started))
        return result.value()

    async def _lead(self, flight: AsyncFlight, key: str, ttl: float | None, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            hit = await self._look(key)
            if hit is not None:
                if flight.is_awaited:  # else whoever comes just now looks for itself
                    flight.end(FlightOutcome.LANDED, found(key, *hit))
                return hit[1].value
            return await self._make(flight, key, ttl, call)
        except Exception:
            flight.end(FlightOutcome.FAILED)
            raise
        finally:
            self._flights.leave((asyncio.get_running_loop(), key))
            flight.end(FlightOutcome.GIVEN_UP)

    async def _make(self, flight: AsyncFlight, key: str, ttl: float | None, call: Callable[[], Awaitable[Any]]) -> Any:
        store, token = self._handler.store, ""
        if isinstance(store, RedisStore) and self._handler.config.lock_wait > 0:
            mine = uuid.uuid4().hex
            claimed = await store.aclaim(key, mine, LOCK_SECONDS)
            other = await self._wait_for_other(store, key) if claimed is False else None
            if other is not None:
                flight.end(FlightOutcome.LANDED, found(key, *other))
                return other[1].value
            token = mine if claimed else ""
        try:
            with InFlight(key), Computation() as computation:
                value = await call()
            cost = self._handler.cost(computation.spent)
            text = entries.dump(value)
            flight.end(FlightOutcome.LANDED, made(text, computation.took_ms, cost))
            packed = self._handler.packed(key, value, text, (computation.took_ms, cost), ttl)
            if packed is not None:
                await store.aset(key, *packed)
            return value
        finally:
            if token and isinstance(store, RedisStore):
                await store.arelease(key, token)

    async def _wait_for_other(self, store: RedisStore, key: str) -> tuple[bytes, Entry] | None:
        """Wait until another process has made the value, gives up, or takes too long; return what it made."""
        started = time.perf_counter()
        until = time.monotonic() + self._handler.config.lock_wait
        for pause in PAUSES:
            left = until - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(left, pause * (0.5 + random.random())))  # noqa: S311 - not in step with others
            data, locked = await store.apeek(key)
            entry = self._handler.opened(key, data)
            if data is not None and entry is not None:
                self._handler.hit(key, len(data), entry.took_ms, entry.cost_usd, since(started))
                return data, entry
            if not locked:
                break
        return None
