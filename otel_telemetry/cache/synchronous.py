"""Look-ups for threads. asynchronous.py is its twin for tasks, with the same steps."""

import random
import time
import uuid
from collections.abc import Callable
from typing import Any

from otel_telemetry.cache import entries
from otel_telemetry.cache.entries import Entry
from otel_telemetry.cache.entry_handler import Computation, EntryHandler, found, made, since
from otel_telemetry.cache.flights import Flight, FlightOutcome, Flights, InFlight, is_in_flight
from otel_telemetry.cache.redis_store import LOCK_SECONDS, PAUSES, RedisStore


class SyncLookup:
    """Looks up, stores, and calls through."""

    def __init__(self, handler: EntryHandler) -> None:
        self._handler = handler
        self._flights: Flights[str, Flight] = Flights(Flight)

    def lookup(self, key: str) -> Entry | None:
        """Return the stored value, and count the look-up."""
        hit = self._look(key)
        return None if hit is None else hit[1]

    def _look(self, key: str) -> tuple[bytes, Entry] | None:
        started = time.perf_counter()
        data = self._handler.store.get(key)
        entry = self._handler.opened(key, data)
        if data is None or entry is None:
            self._handler.miss(key)
            return None
        self._handler.hit(key, len(data), entry.took_ms, entry.cost_usd, since(started))
        return data, entry

    def store(self, key: str, value: Any, ttl: float | None) -> Entry | None:
        """Store a value; return the stored value."""
        packed = self._handler.packed(key, value, entries.dump(value), (None, None), ttl)
        if packed is None or not self._handler.store.set(key, *packed):
            return None
        return self._handler.opened(key, packed[0])

    def through(self, key: str, ttl: float | None, call: Callable[[], Any]) -> Any:
        """Return the stored value, or the result of `call`; one call at a time for a key."""
        if is_in_flight(key):
            return call()
        started = time.perf_counter()
        while True:
            flight, leads = self._flights.join(key)
            if leads:
                return self._lead(flight, key, ttl, call)
            outcome = flight.wait(self._handler.config.flight_wait)
            if outcome is not FlightOutcome.GIVEN_UP:
                break
        result = flight.result
        if result is None:
            self._handler.miss(key)
            return call()
        self._handler.hit(key, result.size, result.took_ms, result.cost_usd, since(started))
        return result.value()

    def _lead(self, flight: Flight, key: str, ttl: float | None, call: Callable[[], Any]) -> Any:
        try:
            hit = self._look(key)
            if hit is not None:
                if flight.is_awaited:  # else whoever comes just now looks for itself
                    flight.end(FlightOutcome.LANDED, found(key, *hit))
                return hit[1].value
            return self._make(flight, key, ttl, call)
        except Exception:
            flight.end(FlightOutcome.FAILED)
            raise
        finally:
            self._flights.leave(key)
            flight.end(FlightOutcome.GIVEN_UP)

    def _make(self, flight: Flight, key: str, ttl: float | None, call: Callable[[], Any]) -> Any:
        store, token = self._handler.store, ""
        if isinstance(store, RedisStore) and self._handler.config.lock_wait > 0:
            mine = uuid.uuid4().hex
            claimed = store.claim(key, mine, LOCK_SECONDS)
            other = self._wait_for_other(store, key) if claimed is False else None
            if other is not None:
                flight.end(FlightOutcome.LANDED, found(key, *other))
                return other[1].value
            token = mine if claimed else ""
        try:
            with InFlight(key), Computation() as computation:
                value = call()
            cost = self._handler.cost(computation.spent)
            text = entries.dump(value)
            flight.end(FlightOutcome.LANDED, made(text, computation.took_ms, cost))
            packed = self._handler.packed(key, value, text, (computation.took_ms, cost), ttl)
            if packed is not None:
                store.set(key, *packed)
            return value
        finally:
            if token and isinstance(store, RedisStore):
                store.release(key, token)

    def _wait_for_other(self, store: RedisStore, key: str) -> tuple[bytes, Entry] | None:
        """Wait until another process has made the value, gives up, or takes too long; return what it made."""
        started = time.perf_counter()
        until = time.monotonic() + self._handler.config.lock_wait
        for pause in PAUSES:
            left = until - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, pause * (0.5 + random.random())))  # noqa: S311 - not in step with others
            data, locked = store.peek(key)
            entry = self._handler.opened(key, data)
            if data is not None and entry is not None:
                self._handler.hit(key, len(data), entry.took_ms, entry.cost_usd, since(started))
                return data, entry
            if not locked:
                break
        return None
