"""Pauses Python's cycle collector while a batch is processed.

A batch is tens of thousands of small objects. All of them are freed when it is written, without the collector: traces
that are done with hold no cycle (`Trace.release`).
Meanwhile the collector would scan them again and again, for a quarter of the time. The collector belongs to the whole
process: only a gateway, whose process is ours, pauses it.
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
    """Pause the collector until the last caller is done. A collector that was off stays off."""
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
