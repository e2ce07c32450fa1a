"""Counts each client's calls within the last minute, over all processes that are forked from here.

The counts are in anonymous memory: clients are identified by a digest under a key that is not stored, and nothing of it
is ever on disk. The number of clients is limited; above it, those that were idle for longest are forgotten.

A slot: digest (8 bytes), number of accepted calls (8 bytes), and the times of the last `most` of them (8 bytes each).
"""

import mmap
import os
import struct
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

try:
    import fcntl
except ImportError:  # Windows, where no gateway has several processes
    fcntl = None  # type: ignore[assignment]

_MOST_BYTES: Final = 4 << 20
_MOST_SLOTS: Final = 4_096
#: Slots among which a client may have its own.
_WAYS: Final = 8
_HEAD: Final = struct.Struct("=QQ")
_TIME: Final = struct.Struct("=d")


class SharedWindow:
    """Lets in `most` calls of a client in any `seconds`. Made before the fork."""

    def __init__(self, most: int, seconds: float = 60.0) -> None:
        self._most, self._seconds = most, seconds
        self._size = _HEAD.size + most * _TIME.size
        self._groups = max(1, min(_MOST_SLOTS, _MOST_BYTES // self._size) // _WAYS)
        self._memory = mmap.mmap(-1, self._groups * _WAYS * self._size)
        self._key = os.urandom(16)
        self._lock = tempfile.TemporaryFile()  # noqa: SIM115  # locks on it end with the process that holds them
        weakref.finalize(self, self._lock.close)

    def wait(self, who: str) -> float:
        """Count a call; return 0 where it may come in, else the seconds until the next one may."""
        digest = int.from_bytes(blake2b(who.encode(), digest_size=8, key=self._key).digest()) or 1
        now = time.monotonic()  # one clock for all processes
        with self._alone():
            at, calls = self._slot(digest)
            oldest = at + _HEAD.size + calls % self._most * _TIME.size
            if calls >= self._most:
                left = _TIME.unpack_from(self._memory, oldest)[0] + self._seconds - now
                if left > 0:
                    return float(left)
            _TIME.pack_into(self._memory, oldest, now)
            _HEAD.pack_into(self._memory, at, digest, calls + 1)
        return 0.0

    def _slot(self, digest: int) -> tuple[int, int]:
        """Return where a client's slot is, and how many calls are in it; that of the quietest one for a new client."""
        first = digest % self._groups * _WAYS * self._size
        quietest, since = first, float("inf")
        for at in range(first, first + _WAYS * self._size, self._size):
            known, calls = _HEAD.unpack_from(self._memory, at)
            if known == digest:
                return at, calls
            last = self._last(at, calls) if known else -1.0
            if last < since:
                quietest, since = at, last
        return quietest, 0

    def _last(self, at: int, calls: int) -> float:
        place = at + _HEAD.size + (calls - 1) % self._most * _TIME.size
        return float(_TIME.unpack_from(self._memory, place)[0])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
