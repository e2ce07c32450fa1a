"""Ids of our own: UUIDs of version 7 (RFC 9562), in the order in which they were made, and ids of keys."""

import os
import threading
import time
from hashlib import blake2b
from typing import Final
from uuid import UUID

_MILLISECOND: Final = 1_000_000
_RANDOM_BYTES: Final = 8
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return a UUID of version 7: 60 bits of time, then 62 random ones.

    The 12 bits behind the milliseconds are their fraction (RFC 9562, section 6.2, method 3), and never go back in one
    process: of two ids the one that was made later is the greater.
    """
    global _last  # noqa: PLW0603  # the clock of the process
    now = time.time_ns()
    ticks = now // _MILLISECOND << 12 | (now % _MILLISECOND << 12) // _MILLISECOND
    with _lock:
        _last = ticks = max(ticks, _last + 1)
    return _uuid(ticks >> 12, ticks & 0xFFF, int.from_bytes(os.urandom(_RANDOM_BYTES)), version=7)


def id_from(*parts: str) -> str:
    """Return the UUID (version 8) that follows from texts: the same ones give the same id."""
    data = b"".join(len(part).to_bytes(4) + part for part in (text.encode("utf-8", "surrogatepass") for text in parts))
    number = int(digest(data, b"otel id"), 16)
    return _uuid(number >> 80, number >> 64 & 0xFFF, number, version=8)


def digest(data: bytes, kind: bytes, *, size: int = 16, key: bytes = b"") -> str:
    """Return `size` bytes that follow from the data, in hex. Digests of different kinds have nothing in common.

    `kind` has at most 16 bytes (the personalization of BLAKE2b, RFC 7693), `key` at most 64.
    """
    return blake2b(data, digest_size=size, key=key, person=kind).hexdigest()


def _uuid(high: int, middle: int, low: int, *, version: int) -> str:
    return str(UUID(int=(high & (1 << 48) - 1) << 80 | version << 76 | middle << 64 | 0b10 << 62 | low & (1 << 62) - 1))
