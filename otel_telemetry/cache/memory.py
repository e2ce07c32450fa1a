"""A cache in the memory of one process: bounded in values and bytes, least recently used first out."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from otel_telemetry.cache.config import CacheSettings


class _Held(NamedTuple):
    data: bytes
    until: float  # time.monotonic()


class MemoryStore:
    """Keeps bytes by key, each for its time."""

    def __init__(self, config: CacheSettings) -> None:
        self._max_items = config.max_items
        self._max_bytes = config.max_bytes
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def answers(self) -> bool:
        """Return True: memory is always there."""
        return True

    def server_numbers(self) -> Mapping[str, float]:
        """Return nothing: there is no server."""
        return {}

    def get(self, key: str) -> bytes | None:
        """Return the stored bytes."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            if held.until <= time.monotonic():
                self._drop(key)
                return None
            self._held.move_to_end(key)
            return held.data

    def set(self, key: str, data: bytes, seconds: float) -> bool:
        """Store bytes; return False if they exceed the limit for one value."""
        if len(data) > self._max_bytes:
            return False
        with self._lock:
            self._drop(key)
            self._held[key] = _Held(data, time.monotonic() + seconds)
            self._bytes += len(data)
            while len(self._held) > self._max_items or self._bytes > self._max_bytes:
                self._drop(next(iter(self._held)))
        return True

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it existed."""
        there = self.get(key) is not None
        with self._lock:
            self._drop(key)
        return there

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._bytes -= len(held.data)

    def close(self) -> None:
        """Delete all keys."""
        with self._lock:
            self._held.clear()
            self._bytes = 0

    async def aget(self, key: str) -> bytes | None:
        """Return the stored bytes."""
        return self.get(key)

    async def aset(self, key: str, data: bytes, seconds: float) -> bool:
        """Store bytes for `seconds`."""
        return self.set(key, data, seconds)

    async def adelete(self, key: str) -> bool:
        """Delete a key."""
        return self.delete(key)

    async def aclose(self) -> None:
        """Forget everything."""
        self.close()
