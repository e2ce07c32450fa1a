"""Counts each client's calls within the last minute, over all processes of a gateway or of an app.

Processes that are forked from here share anonymous memory: nothing of it is ever on disk. Those of an app, which its
server starts one by one, share a file that only their user can read (`of_workers`). Clients are identified by a digest,
under a key made of the secret where one is given. The number of clients is limited; above it, those that were idle for
longest are forgotten.

The memory: a random key (16 bytes), then slots. A slot: digest (8 bytes), number of accepted calls (8 bytes), and the
times of the last `most` of them (8 bytes each).
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
from pathlib import Path
from typing import IO, Final, Self

try:
    import fcntl
except ImportError:  # Windows, where no gateway has several processes
    fcntl = None  # type: ignore[assignment]

_MOST_BYTES: Final = 4 << 20
_MOST_SLOTS: Final = 4_096
#: Slots among which a client may have its own.
_WAYS: Final = 8
_KEY: Final = 16
_HEAD: Final = struct.Struct("=QQ")
_TIME: Final = struct.Struct("=d")


class SharedWindow:
    """Lets in `most` calls of a client in any `seconds`. Made before the fork, or by `of_workers`."""

    def __init__(self, most: int, seconds: float = 60.0, folder: Path | None = None, secret: bytes = b"") -> None:
        self._most, self._seconds = most, seconds
        self._size = _HEAD.size + most * _TIME.size
        self._groups = max(1, min(_MOST_SLOTS, _MOST_BYTES // self._size) // _WAYS)
        size = _KEY + self._groups * _WAYS * self._size
        if folder is None:
            self._memory = mmap.mmap(-1, size)
            self._memory[:_KEY] = os.urandom(_KEY)
            self._lock: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # its locks end with the process
        else:
            self._memory = _memory_of_workers(folder / f"clients-{most}", size)
            self._lock = _opened(folder / f"clients-{most}.lock")
        self._key = blake2b(secret or self._memory[:_KEY], digest_size=32).digest()
        weakref.finalize(self, self._lock.close)

    @classmethod
    def of_workers(cls, folder: Path, most: int, secret: bytes = b"") -> Self:
        """Return the window of the processes that use this folder, anew once none is left. Raises OSError."""
        if fcntl is None:
            raise OSError("files cannot be locked here")
        return cls(most, folder=folder, secret=secret)

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
        first = _KEY + digest % self._groups * _WAYS * self._size
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
        offset = at + _HEAD.size + (calls - 1) % self._most * _TIME.size
        return float(_TIME.unpack_from(self._memory, offset)[0])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


def _memory_of_workers(path: Path, size: int) -> mmap.mmap:
    """Return the contents of a file, emptied unless another process uses it. A lock on it says that one does."""
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            os.ftruncate(file.fileno(), 0)
            os.ftruncate(file.fileno(), size)
            os.pwrite(file.fileno(), os.urandom(_KEY), 0)
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_size != size:
            raise OSError(f"{path} is of another size")
        return mmap.mmap(file.fileno(), size)  # holds the file open, and with it the lock


def _opened(path: Path) -> IO[bytes]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "r+b")
