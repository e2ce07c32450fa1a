"""One flight per key: of many who want the same thing at the same time, one fetches it and the others wait.

Who waits gets what the one has landed, as bytes, so that nobody shares an object. They wait for a bounded time, and
- where the one failed, each goes on its own, as it would have without us: nobody waits for a second failure;
- where the one was given up (a cancelled task, an exit), one of those who wait takes over.
Whoever is on a flight already does not wait for it: a function may call itself.
"""

import asyncio
import threading
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from decimal import Decimal
from enum import Enum, auto
from typing import Any, Generic, NamedTuple, TypeVar

_aboard: ContextVar[frozenset[str]] = ContextVar("otel_telemetry_flights", default=frozenset())
K = TypeVar("K", bound=Hashable)


class Ending(Enum):
    """How a flight ended, or that it has not for the one who waited."""

    LANDED = auto()
    FAILED = auto()
    GIVEN_UP = auto()
    LATE = auto()


class Landed(NamedTuple):
    """What a flight brought. Each call of `value` gives a new object; `size` in bytes, the rest as far as known."""

    value: Callable[[], Any]
    size: int
    took_ms: float | None
    cost_usd: Decimal | None


E = TypeVar("E", threading.Event, asyncio.Event)


class _Flight(Generic[E]):
    """One flight. Whoever made it leads it; how to wait for it is up to the kind."""

    _kind: type[E]

    def __init__(self) -> None:
        self._over: E | None = None  # made for the first one who waits: most flights are alone
        self.ending = Ending.LATE
        self.landed: Landed | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits or has waited."""
        return self._over is not None

    def end(self, ending: Ending, landed: Landed | None = None) -> None:
        """Say how it ended; the first word counts."""
        if self.ending is Ending.LATE:
            self.landed = landed
            self.ending = ending
            if self._over is not None:
                self._over.set()

    def expect(self) -> None:
        """Say that somebody is about to wait. Called for one at a time."""
        if self._over is None:
            self._over = self._kind()


class Flight(_Flight[threading.Event]):
    """One flight of threads."""

    _kind = threading.Event

    def wait(self, seconds: float) -> Ending:
        """Wait for the end."""
        # Who ends a flight says so, then looks for the event; who waits makes the event, then looks for the end.
        if self.ending is Ending.LATE and self._over is not None:
            self._over.wait(seconds)
        return self.ending


class AsyncFlight(_Flight[asyncio.Event]):
    """One flight of tasks of one event loop."""

    _kind = asyncio.Event

    async def wait(self, seconds: float) -> Ending:
        """Wait for the end."""
        if self.ending is not Ending.LATE or self._over is None:
            return self.ending
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return Ending.LATE
        return self.ending


F = TypeVar("F", Flight, AsyncFlight)


class Flights(Generic[K, F]):
    """The flights under way."""

    def __init__(self, kind: type[F]) -> None:
        self._kind: type[F] = kind
        self._under_way: dict[K, F] = {}
        self._lock = threading.Lock()

    def join(self, key: K) -> tuple[F, bool]:
        """Return the flight of a key, and whether it is led by who asks."""
        with self._lock:
            flight = self._under_way.get(key)
            if flight is not None:
                flight.expect()
                return flight, False
            flight = self._under_way[key] = self._kind()
            return flight, True

    def leave(self, key: K) -> None:
        """Let the next one who comes lead a new flight."""
        with self._lock:
            self._under_way.pop(key, None)


def is_aboard(key: str) -> bool:
    """Tell whether this thread or task is on the flight of a key."""
    return key in _aboard.get()


class Aboard:
    """Marks this thread or task as being on the flight of a key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        self._before = _aboard.get()
        _aboard.set(self._before | {self._key})

    def __exit__(self, *_: object) -> None:
        _aboard.set(self._before)
