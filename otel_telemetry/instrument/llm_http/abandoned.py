"""Ends the calls whose response was thrown away unread, outside of the garbage collector.

A destructor may run anywhere, also in the middle of the SDK's own locks, so ending a span there could lock up the app.
It only puts the call into a SimpleQueue, which is made for that; a daemon thread ends it.
"""

import atexit
import os
import queue
import threading
import time
from typing import Protocol


class Ends(Protocol):
    """What can be ended as of a moment in the past."""

    def finish(self, error: BaseException | None = None, *, at: tuple[float, int] | None = None) -> None:
        """End it."""
        ...


_queue: queue.SimpleQueue[tuple[Ends, tuple[float, int]]] = queue.SimpleQueue()
_starting = threading.Lock()
_thread: threading.Thread | None = None
_pid = 0


def leave(call: Ends) -> None:
    """Hand over a call; safe in a destructor."""
    _queue.put((call, (time.perf_counter(), time.time_ns())))


def watch() -> None:
    """See to it that the thread runs in this process."""
    global _thread, _pid  # noqa: PLW0603 - one thread a process
    if _thread is not None and _thread.is_alive() and _pid == os.getpid():
        return
    with _starting:
        if _thread is None or not _thread.is_alive() or _pid != os.getpid():
            _pid = os.getpid()
            _thread = threading.Thread(target=_run, name="otel_telemetry_abandoned", daemon=True)
            _thread.start()


def drain() -> None:
    """End, on this thread, what has been handed over."""
    while True:
        try:
            call, at = _queue.get_nowait()
        except queue.Empty:
            return
        call.finish(at=at)


def _run() -> None:
    while True:
        call, at = _queue.get()
        call.finish(at=at)
        del call


def _after_fork() -> None:
    """Start over in a child: neither the thread nor a lock that another thread held came along."""
    global _queue, _starting, _thread
    _queue, _starting, _thread = queue.SimpleQueue(), threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(drain)
