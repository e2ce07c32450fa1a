"""The way through the cache for tasks of event loops. synchronous.py is its twin for threads, with the same steps."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from otel_telemetry.cache import entry as entries
from otel_telemetry.cache.entry import Entry
from otel_telemetry.cache.flights import Aboard, AsyncFlight, Ending, Flights, is_aboard
from otel_telemetry.cache.keeper import Keeper, Making, found, made, since
from otel_telemetry.cache.redis_store import LOCK_SECONDS, PAUSES, RedisStore


class AsyncWay:
    """Looks up, stores, and calls through."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._flights: Flights[tuple[asyncio.AbstractEventLoop, str], AsyncFlight] = Flights(AsyncFlight)

    async def lookup(self, key: str) -> Entry | None:
        """Return what is kept, and count it."""
        hit = await self._look(key)
        return None if hit is None else hit[1]

    async def _look(self, key: str) -> tuple[bytes, Entry] | None:
        started = time.perf_counter()
        data = await self._keeper.store.aget(key)
        entry = self._keeper.opened(key, data)
        if data is None or entry is None:
            self._keeper.miss(key)
            return None
        self._keeper.hit(key, len(data), entry.took_ms, entry.cost_usd, since(started))
        return data, entry

    async def store(self, key: str, value: Any, ttl: float | None) -> Entry | None:
        """Keep a value; return what is kept."""
        packed = self._keeper.packed(key, value, entries.dump(value), (None, None), ttl)
        if packed is None or not await self._keeper.store.aset(key, *packed):
            return None
        return self._keeper.opened(key, packed[0])

    async def through(self, key: str, ttl: float | None, call: Callable[[], Awaitable[Any]]) -> Any:
        """Return what is kept, or what `call` makes; one call at a time for a key."""
        if is_aboard(key):
            return await call()
        started = time.perf_counter()
        here = (asyncio.get_running_loop(), key)
        while True:
            flight, leads = self._flights.join(here)
            if leads:
                return await self._lead(flight, key, ttl, call)
            ending = await flight.wait(self._keeper.config.flight_wait)
            if ending is not Ending.GIVEN_UP:
                break
        landed = flight.landed
        if landed is None:
            self._keeper.miss(key)
            return await call()
        self._keeper.hit(key, landed.size, landed.took_ms, landed.cost_usd, since(started))
        return landed.value()

    async def _lead(self, flight: AsyncFlight, key: str, ttl: float | None, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            hit = await self._look(key)
            if hit is not None:
                if flight.is_awaited:  # else whoever comes just now looks for itself
                    flight.end(Ending.LANDED, found(key, *hit))
                return hit[1].value
            return await self._make(flight, key, ttl, call)
        except Exception:
            flight.end(Ending.FAILED)
            raise
        finally:
            self._flights.leave((asyncio.get_running_loop(), key))
            flight.end(Ending.GIVEN_UP)

    async def _make(self, flight: AsyncFlight, key: str, ttl: float | None, call: Callable[[], Awaitable[Any]]) -> Any:
        store, token = self._keeper.store, ""
        if isinstance(store, RedisStore) and self._keeper.config.lock_wait > 0:
            mine = uuid.uuid4().hex
            claimed = await store.aclaim(key, mine, LOCK_SECONDS)
            other = await self._wait_for_other(store, key) if claimed is False else None
            if other is not None:
                flight.end(Ending.LANDED, found(key, *other))
                return other[1].value
            token = mine if claimed else ""
        try:
            with Aboard(key), Making() as making:
                value = await call()
            cost = self._keeper.cost(making.spent)
            text = entries.dump(value)
            flight.end(Ending.LANDED, made(text, making.took_ms, cost))
            packed = self._keeper.packed(key, value, text, (making.took_ms, cost), ttl)
            if packed is not None:
                await store.aset(key, *packed)
            return value
        finally:
            if token and isinstance(store, RedisStore):
                await store.arelease(key, token)

    async def _wait_for_other(self, store: RedisStore, key: str) -> tuple[bytes, Entry] | None:
        """Wait until another process has made the value, gives up, or takes too long; return what it made."""
        started = time.perf_counter()
        until = time.monotonic() + self._keeper.config.lock_wait
        for pause in PAUSES:
            left = until - time.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(left, pause * (0.5 + random.random())))  # noqa: S311 - not in step with others
            data, locked = await store.apeek(key)
            entry = self._keeper.opened(key, data)
            if data is not None and entry is not None:
                self._keeper.hit(key, len(data), entry.took_ms, entry.cost_usd, since(started))
                return data, entry
            if not locked:
                break
        return None
