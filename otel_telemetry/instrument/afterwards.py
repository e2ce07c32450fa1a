"""What need not be done while the app waits: one daemon thread that runs it right afterwards.

Reading an answer, ending its span and recording metrics cost more than the rest of a call together. And a response that
was thrown away unread must not be ended by its destructor, which may run anywhere, also in the middle of the SDK's own
locks; putting something into a SimpleQueue is safe there. What is left is done at exit, and before anybody counts on it
(`flush`). A fork waits for the task that runs: a lock that it holds would be held for ever in the child.
"""

import atexit
import functools
import os
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from wrapt import register_post_import_hook

from otel_telemetry.instrument.shield import shielded

MAX_WAITING = 4096  # tasks; beyond, who brings one does it
MAX_ANSWERS = 256  # the same for tasks that hold an answer, of up to 256 KiB each
GATHERING = 0.02  # seconds in which more may come before the thread looks again: waking it costs who brings a task

AT_EXIT = 2.0  # seconds that the end of the process waits for what the thread is doing
AT_FORK = 0.25  # seconds that a fork waits for it

Task = tuple[Callable[..., None], tuple[Any, ...]]

_queue: queue.SimpleQueue[Task] = queue.SimpleQueue()
_starting = threading.Lock()
_hurry = threading.Event()
_working = threading.RLock()  # held by the thread while it runs a task
_forking = threading.local()
_thread: threading.Thread | None = None


def do(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function soon on the thread, or here if too much waits already."""
    if _queue.qsize() < MAX_WAITING:
        _queue.put((function, arguments))
    else:
        _run(function, arguments)


def do_answer(function: Callable[..., None], *arguments: Any) -> None:
    """Do the same with a task that holds an answer."""
    if _queue.qsize() < MAX_ANSWERS:
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
    if _thread is None or not _thread.is_alive() or _thread is threading.current_thread():
        drain()
        return True
    done = threading.Event()
    _queue.put((done.set, ()))
    _hurry.set()
    return done.wait(timeout)


def drain(working: AbstractContextManager[Any] = nullcontext()) -> None:  # noqa: B008 - it holds nothing
    """Do, on this thread, what waits; `working` is entered for each task."""
    while True:
        try:
            function, arguments = _queue.get_nowait()
        except queue.Empty:
            return
        with working:
            _run(function, arguments)


def _work() -> None:
    while True:
        function, arguments = _queue.get()
        _hurry.clear()
        with _working:
            _run(function, arguments)
        del function, arguments
        drain(_working)
        _hurry.wait(GATHERING)


def _run(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - the thread goes on
        shielded("afterwards", error)


def _before_fork() -> None:
    _forking.waited = _working.acquire(timeout=AT_FORK)


def _after_fork_in_parent() -> None:
    if _forking.waited:
        _working.release()


def _after_fork() -> None:
    """Start over in a child: the thread did not come along, and what waits is its parent's to do."""
    global _hurry, _queue, _starting, _thread, _working  # noqa: PLW0603 - what a child has of its own
    _queue, _starting, _hurry, _thread = queue.SimpleQueue(), threading.Lock(), threading.Event(), None
    _working = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)


def at_exit() -> None:
    """Do what waits before the providers that exist by now shut down: their own exit handlers run after ours."""
    atexit.unregister(_finish)
    atexit.register(_finish)
    _watch_forks()


@functools.cache  # once a process, and its forks
def _watch_forks() -> None:
    register_post_import_hook(_at_end_of_forks, "multiprocessing.util")
    register_post_import_hook(_at_end_of_forks, "billiard.util")


def _at_end_of_forks(util: Any) -> None:
    """Do the same where `multiprocessing` ends a process that it forked: with os._exit, after its own finalizers.

    Those of a higher priority run first; the flush of providers (app/lifecycle.py) has 0.
    """
    util.register_after_fork(_finish, lambda end: util.Finalize(None, end, exitpriority=1))


def _finish() -> None:
    flush(AT_EXIT)
    drain()
