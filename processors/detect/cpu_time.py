"""How much CPU time a text may take, and a whole request: bounds for texts that are made to take long.

What was not looked at in that time counts as one finding, `UNSCANNED`: it is replaced, never passed on.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: CPU time for one pass over a text: several times what the densest texts take, of nothing but e-mail addresses.
_BASE_SECONDS: Final = 0.5
_SECONDS_PER_BYTE: Final = 15e-6
#: And for all that is in a request.
_REQUEST_SECONDS: Final = 2.0
_REQUEST_SECONDS_PER_BYTE: Final = 20e-6


class _Bound(threading.local):
    ends = math.inf


_bound = _Bound()


def seconds_for(size: int) -> float:
    """Return how many seconds of CPU time rules may take for a text of so many bytes."""
    return _BASE_SECONDS + size * _SECONDS_PER_BYTE


@contextmanager
def for_request(size: int) -> Iterator[None]:
    """Bound the CPU time that rules take in this thread within the block, for a request of so many bytes."""
    before = _bound.ends
    _bound.ends = time.thread_time() + _REQUEST_SECONDS + size * _REQUEST_SECONDS_PER_BYTE
    try:
        yield
    finally:
        _bound.ends = before


def end_for(size: int) -> float:
    """Return the value of `time.thread_time` at which a text of so many bytes, or its request, has taken its time."""
    return min(_bound.ends, time.thread_time() + seconds_for(size))


def is_used_up() -> bool:
    """Return whether the request that this thread works on has taken its time."""
    return _bound.ends < math.inf and time.thread_time() >= _bound.ends
