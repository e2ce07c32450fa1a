"""Python's cycle collector, held back while a batch is on its way.

A batch is tens of thousands of small objects, none of them in a cycle, all of which are gone when it is written. The
collector looks through them again and again meanwhile, for a quarter of the time. It belongs to the whole process:
only a gateway, whose process is ours, does this.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_lock: Final = threading.Lock()
_holders = 0


@contextmanager
def held_back() -> Iterator[None]:
    """Let the collector rest, and go on when the last one is done who asked for it. One that was off stays off."""
    global _holders  # noqa: PLW0603  # the collector is global, too
    with _lock:
        ours = _holders > 0 or gc.isenabled()
        _holders += ours
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _holders -= ours
            if ours and not _holders:
                gc.enable()
