"""One call per key at a time: when several callers want the same value, one fetches it and the others wait.

The waiting callers get the fetched value as bytes, so that no object is shared. They wait for a limited time, and

- if the fetch failed, each caller fetches by itself, as without this module: nobody waits for a second failure;
- if the fetch was abandoned (a cancelled task, an exit), one of the waiting callers takes over.

A caller that is fetching a key does not wait for the same key: a function may call itself.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from decimal import Decimal
from enum import Enum, auto
from typing import Any, Generic, NamedTuple, TypeVar

_in_flight: ContextVar[frozenset[str]] = ContextVar("otel_telemetry_flights", default=frozenset())
K = TypeVar("K", bound=Hashable)


class FlightOutcome(Enum):
    """How a flight ended, or that it has not ended within the wait."""

    LANDED = auto()
    FAILED = auto()
    GIVEN_UP = auto()
    LATE = auto()


class FlightResult(NamedTuple):
    """What a flight brought. Each call of `value` gives a new object; `size` in bytes, the rest as far as known."""

    value: Callable[[], Any]
    size: int
    took_ms: float | None
    cost_usd: Decimal | None


E = TypeVar("E", threading.Event, asyncio.Event)


class _Flight(Generic[E]):
    """One flight. Its creator leads it; subclasses define how others wait for it."""

    _kind: type[E]

    def __init__(self) -> None:
        self._over: E | None = None  # made for the first one who waits: most flights are alone
        self.outcome = FlightOutcome.LATE
        self.result: FlightResult | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits or has waited."""
        return self._over is not None

    def end(self, outcome: FlightOutcome, result: FlightResult | None = None) -> None:
        """Set how it ended; the first call counts."""
        if self.outcome is FlightOutcome.LATE:
            self.result = result
            self.outcome = outcome
            if self._over is not None:
                self._over.set()

    def expect(self) -> None:
        """Record that a caller is about to wait. Called for one at a time."""
        if self._over is None:
            self._over = self._kind()


class Flight(_Flight[threading.Event]):
    """One flight of threads."""

    _kind = threading.Event

    def wait(self, seconds: float) -> FlightOutcome:
        """Wait for the end."""
        # Who ends a flight says so, then looks for the event; who waits makes the event, then looks for the end.
        if self.outcome is FlightOutcome.LATE and self._over is not None:
            self._over.wait(seconds)
        return self.outcome


class AsyncFlight(_Flight[asyncio.Event]):
    """One flight of tasks of one event loop."""

    _kind = asyncio.Event

    async def wait(self, seconds: float) -> FlightOutcome:
        """Wait for the end."""
        if self.outcome is not FlightOutcome.LATE or self._over is None:
            return self.outcome
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return FlightOutcome.LATE
        return self.outcome


F = TypeVar("F", Flight, AsyncFlight)


class Flights(Generic[K, F]):
    """The flights under way."""

    def __init__(self, kind: type[F]) -> None:
        self._kind: type[F] = kind
        self._under_way: dict[K, F] = {}
        self._lock = threading.Lock()

    def join(self, key: K) -> tuple[F, bool]:
        """Return the flight of a key, and whether the caller leads it."""
        with self._lock:
            flight = self._under_way.get(key)
            if flight is not None:
                flight.expect()
                return flight, False
            flight = self._under_way[key] = self._kind()
            return flight, True

    def leave(self, key: K) -> None:
        """End the flight of a key: the next caller leads a new one."""
        with self._lock:
            self._under_way.pop(key, None)


def is_in_flight(key: str) -> bool:
    """Return whether this thread or task is on the flight of a key."""
    return key in _in_flight.get()


class InFlight:
    """Marks this thread or task as being on the flight of a key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        self._before = _in_flight.get()
        _in_flight.set(self._before | {self._key})

    def __exit__(self, *_: object) -> None:
        _in_flight.set(self._before)
