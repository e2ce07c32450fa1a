"""Memory that large requests and batches took, given back to the system."""

import contextlib
import ctypes
import functools
import threading
import time
from collections.abc import Callable
from typing import Final

_SECONDS: Final = 1.0  # it takes milliseconds: not more often

LARGE: Final = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_OPTIONS: Final = ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 4 << 20), (_M_TRIM_THRESHOLD, 8 << 20))

_last = 0.0
_lock = threading.Lock()


def limit_free_memory() -> None:
    """Set glibc to hold little freed memory: two heaps for all threads, large blocks mapped by themselves."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for what, value in _OPTIONS:
            libc.mallopt(what, value)


def give_back(size: int = LARGE) -> None:
    """Have the C library return what is free after work of that size, where it can. For worker threads."""
    if size < LARGE:
        return
    global _last  # noqa: PLW0603 - of the process, as its heap
    with _lock:
        now = time.monotonic()
        if now - _last < _SECONDS:
            return
        _last = now
    _trim()(0)


def let_go(error: BaseException) -> None:
    """Free what an error that was handled still holds: the frames it went through, with the bytes they worked on.

    Where one of these frames holds the error in turn, both would stay until the next full garbage collection.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


@functools.cache
def _trim() -> Callable[[int], object]:
    """Return glibc's malloc_trim; musl and macOS have none, and give back by themselves."""
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return int
    return trim
