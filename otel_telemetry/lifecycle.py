"""What a process owes its telemetry: a last flush, however it ends."""

import atexit
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from wrapt import register_post_import_hook, wrap_function_wrapper

_logger = logging.getLogger(__name__)
_FLUSH_SECONDS = 5.0
_ENDING = (signal.SIGTERM, signal.SIGINT)


def flush_at_end() -> None:
    """Flush all providers when this process, or one forked from it, ends; safe to repeat.

    The SDK itself flushes in Python's exit handlers. They do not run when a signal ends the process, nor in the
    processes that `multiprocessing` forks, nor under a worker that gives signals back to the system before it runs.
    """
    flush_on_signals()
    _watch_other_ends()


def flush_on_signals() -> None:
    """Flush all providers when SIGTERM (or SIGINT) ends the process; a handler of the app's own is left alone.

    uvicorn restores the handler it found once it has shut down, and raises the signal again: that is when this one
    runs. For SIGINT Python has a handler of its own, unless a worker of gunicorn's took it away.
    """
    _replace(signal.SIG_DFL, _flush_and_end)


def _flush_and_end(number: int, frame: FrameType | None) -> None:
    del frame
    _hear_no_more()
    # In a thread of its own: this one may have been interrupted while it held the lock of a queue.
    flushing = threading.Thread(target=shut_down_providers, name="otel-telemetry-flush", daemon=True)
    flushing.start()
    flushing.join(_FLUSH_SECONDS)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _hear_no_more() -> None:
    """Let a last flush that has begun come to its end: a second signal would cut it off."""
    _replace(_flush_and_end, signal.SIG_IGN)


def _replace(old: Any, new: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is old:
                signal.signal(number, new)


@functools.cache  # once a process, and its forks
def _watch_other_ends() -> None:
    atexit.register(_hear_no_more)  # exit handlers run in reverse: this comes before the SDK's
    register_post_import_hook(_at_end_of_forks, "multiprocessing.util")
    register_post_import_hook(_in_workers, "gunicorn.workers.base")


def _at_end_of_forks(util: Any) -> None:
    """Flush where `multiprocessing` ends a process that it has forked: with os._exit, after its own finalizers."""
    util.register_after_fork(_end_of_fork, lambda end: util.Finalize(None, end, exitpriority=0))


def _end_of_fork() -> None:
    _hear_no_more()
    shut_down_providers()


def _in_workers(base: Any) -> None:
    """Flush in gunicorn's workers of every class: uvicorn's lets signals end a process at once."""

    def loaded(wrapped: Callable[..., Any], worker: Any, args: Any, kwargs: Any) -> Any:
        del worker
        flush_on_signals()
        return wrapped(*args, **kwargs)

    wrap_function_wrapper(base, "Worker.load_wsgi", loaded)


def providers() -> tuple[Any, Any, Any]:
    """Return the providers of this process for spans, logs and metrics, whatever they are."""
    return trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider()


def shut_down_providers() -> None:
    """Flush and stop all providers; one that cannot be does not keep the others from it."""
    for provider in providers():
        shutdown: Callable[[], None] | None = getattr(provider, "shutdown", None)
        if shutdown is not None:
            try:
                shutdown()
            except Exception:
                _logger.warning("the last flush failed", exc_info=True)
