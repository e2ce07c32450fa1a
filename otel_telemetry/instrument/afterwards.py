"""What need not be done while the app waits: one daemon thread that runs it right afterwards.

Recording metrics costs more than the rest of a call together. And a response that was thrown away unread must not be
ended by its destructor, which may run anywhere, also in the middle of the SDK's own locks; putting something into a
SimpleQueue is safe there. What is left is done at exit, and before anybody counts on it (`flush`).
"""

import atexit
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from otel_telemetry.instrument.shield import shielded

MAX_WAITING = 4096  # tasks; beyond, who brings one does it
GATHERING = 0.02  # seconds in which more may come before the thread looks again: waking it costs who brings a task

Task = tuple[Callable[..., None], tuple[Any, ...]]

_queue: queue.SimpleQueue[Task] = queue.SimpleQueue()
_starting = threading.Lock()
_hurry = threading.Event()
_thread: threading.Thread | None = None


def do(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function soon on the thread, or here if too much waits already."""
    if _queue.qsize() < MAX_WAITING:
        _queue.put((function, arguments))
    else:
        _run(function, arguments)


def watch() -> None:
    """Start the thread of this process where it does not run yet. Must not be called by a destructor."""
    global _thread  # noqa: PLW0603 - one thread a process
    if _thread is not None:
        return
    with _starting:
        if _thread is None:
            _thread = threading.Thread(target=_work, name="otel_telemetry_afterwards", daemon=True)
            _thread.start()


def flush(timeout: float = 5.0) -> bool:
    """Wait until everything brought so far is done; False if it took longer than `timeout` seconds."""
    if _thread is None or not _thread.is_alive():
        drain()
        return True
    done = threading.Event()
    _queue.put((done.set, ()))
    _hurry.set()
    return done.wait(timeout)


def drain() -> None:
    """Do, on this thread, what waits."""
    while True:
        try:
            function, arguments = _queue.get_nowait()
        except queue.Empty:
            return
        _run(function, arguments)


def _work() -> None:
    while True:
        function, arguments = _queue.get()
        _hurry.clear()
        _run(function, arguments)
        del function, arguments
        drain()
        _hurry.wait(GATHERING)


def _run(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - the thread goes on
        shielded("afterwards", error)


def _after_fork() -> None:
    """Start over in a child: the thread did not come along, and what waits is its parent's to do."""
    global _hurry, _queue, _starting, _thread
    _queue, _starting, _hurry, _thread = queue.SimpleQueue(), threading.Lock(), threading.Event(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def at_exit() -> None:
    """Do what waits before the providers that exist by now shut down: their own exit handlers run after ours."""
    atexit.unregister(drain)
    atexit.register(drain)
