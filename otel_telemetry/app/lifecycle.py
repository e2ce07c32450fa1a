"""Flushes telemetry when the process ends, however it ends."""

import atexit
import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from wrapt import register_post_import_hook, wrap_function_wrapper

from otel_telemetry.instrument import afterwards

_logger = logging.getLogger(__name__)
_FLUSH_SECONDS = 5.0
"""How long the end of a process waits for its last flush: the SDK alone waits for 10 to 30 s where nobody listens."""

_HANDLERS = 10
"""How many signals that end a process at its end are not heard."""

_ENDING = (signal.SIGTERM, signal.SIGINT)


def flush_at_end() -> None:
    """Flush all providers when this process, or one forked from it, ends; safe to repeat.

    The SDK itself flushes in Python's exit handlers, for as long as its exporters try. They do not run when a signal
    ends the process, nor in the processes that `multiprocessing` forks, nor under a worker that gives signals back to
    the system before it runs.
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
    _ignore_signals()
    _LastFlush().run()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _ignore_signals() -> None:
    """Let a last flush that has begun come to its end: a second signal would cut it off."""
    _replace(_flush_and_end, signal.SIG_IGN)


def _replace(old: Any, new: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is old:
                signal.signal(number, new)


@functools.cache  # once a process, and its forks
def _watch_other_ends() -> None:
    flush = _LastFlush()
    atexit.register(_at_exit, flush)  # exit handlers run in reverse: this comes before the SDK's
    with contextlib.suppress(AttributeError, RuntimeError):
        # Python 3.12 starts no threads any more once exit handlers run. These come before, and threads go on.
        threading._register_atexit(_prepare, flush)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    register_post_import_hook(_at_end_of_forks, "multiprocessing.util")
    register_post_import_hook(_at_end_of_celery_workers, "celery.signals")
    register_post_import_hook(_at_end_of_jobs, "rq.worker")
    register_post_import_hook(_in_workers, "gunicorn.workers.base")


def _undisturbed(step: Callable[["_LastFlush"], None]) -> Callable[["_LastFlush"], None]:
    """Take a step once more where a signal handler that is not ours ends the process in the middle of it.

    Servers send a signal to their workers that the terminal has sent them already; gunicorn's workers then raise.
    """

    def taken(flush: "_LastFlush") -> None:
        for _ in range(_HANDLERS):
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                return step(flush)
        return None

    return taken


@_undisturbed
def _prepare(flush: "_LastFlush") -> None:
    with contextlib.suppress(RuntimeError):  # Python 3.12.0 and 3.12.1 start none here either
        flush.prepare()


@_undisturbed
def _at_exit(flush: "_LastFlush") -> None:
    _ignore_signals()
    with contextlib.suppress(RuntimeError):  # no more threads here: the SDK's own handlers flush, in their time
        flush.prepare()
        flush.run([_taken_from_the_sdk(provider) for provider in providers()])


def _taken_from_the_sdk(provider: Any) -> bool:
    """Take the SDK's own exit handler out; false where there is none: that provider was shut down, or is not to be."""
    handlers = [getattr(provider, name, None) for name in ("_atexit_handler", "_at_exit_handler")]  # it has both names
    for handler in filter(None, handlers):
        atexit.unregister(handler)
    return any(handlers)


def _at_end_of_forks(util: Any) -> None:
    """Flush where `multiprocessing` ends a process that it has forked: with os._exit, after its own finalizers."""
    util.register_after_fork(_end_of_fork, lambda end: util.Finalize(None, end, exitpriority=0))


def _end_of_fork() -> None:
    _ignore_signals()
    _LastFlush().run()


def _at_end_of_celery_workers(signals: Any) -> None:
    """Flush where Celery ends a process of its pool: after `max_tasks_per_child` tasks, or by a signal."""
    signals.worker_process_init.connect(lambda **_: flush_on_signals(), weak=False)  # it has taken our handlers away
    signals.worker_process_shutdown.connect(lambda **_: _end_of_fork(), weak=False)


def _at_end_of_jobs(worker: Any) -> None:
    """Flush where a worker of RQ has run a job in a process of its own, which it ends with os._exit."""

    def performed(wrapped: Callable[..., Any], worker: Any, args: Any, kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        finally:
            if getattr(worker, "_is_horse", False):
                _end_of_fork()

    wrap_function_wrapper(worker, "Worker.perform_job", performed)


def flush(timeout: float = _FLUSH_SECONDS) -> bool:
    """Write what is waiting of spans, logs and metrics now; return whether all of it was out in `timeout` seconds.

    For the end of a task where the process goes on or is about to be frozen (AWS Lambda, notebooks, job queues).
    Never raises.
    """
    deadline = time.monotonic() + timeout
    afterwards.flush(min(timeout, afterwards.AT_EXIT))  # what calls have measured is waiting there, too
    flushed = [_flushed(provider, timeout) for provider in providers()]  # all at once
    return all(done.wait(max(0.0, deadline - time.monotonic())) for done in flushed)


def _flushed(provider: Any, timeout: float) -> threading.Event:
    """Flush a provider in a thread: some wait longer for their exporters than they are asked to."""
    done = threading.Event()

    def run() -> None:
        try:
            force_flush = getattr(provider, "force_flush", None)
            if force_flush is None or force_flush(int(timeout * 1000)) is not False:
                done.set()
        except Exception:
            _logger.warning("a flush failed", exc_info=True)

    threading.Thread(target=run, name="otel-telemetry-flush", daemon=True).start()
    return done


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
        _shut_down(provider)


def _shut_down(provider: Any) -> None:
    shutdown: Callable[[], None] | None = getattr(provider, "shutdown", None)
    if shutdown is not None:
        try:
            shutdown()
        except Exception:
            _logger.warning("the last flush failed", exc_info=True)


class _LastFlush:
    """Flushes and stops all providers at once, each in a thread of its own, and waits for them a bounded time.

    In threads also because the one that asks may have been interrupted while it held the lock of a queue.
    """

    def __init__(self) -> None:
        self._go = threading.Event()
        self._done: list[threading.Event] = []
        self._wanted: Sequence[bool] = (True, True, True)

    def prepare(self) -> None:
        """Start the threads; they wait for `run`. Raises RuntimeError where Python starts no threads any more."""
        if not self._done:
            done = [threading.Event() for _ in providers()]
            threads = [
                threading.Thread(target=self._flush, args=each, name="otel-telemetry-flush", daemon=True)
                for each in enumerate(done)
            ]
            for thread in threads:
                thread.start()
            self._done = done

    def run(self, wanted: Sequence[bool] = (True, True, True)) -> None:
        """Flush those `providers` that are wanted; return when all is out, or after _FLUSH_SECONDS."""
        self._wanted = wanted
        self.prepare()
        deadline = time.monotonic() + _FLUSH_SECONDS
        self._go.set()
        for done in self._done:  # events, for `join` takes a thread for ended where a signal handler raises in it
            while not done.is_set() and (left := deadline - time.monotonic()) > 0:
                with contextlib.suppress(SystemExit, KeyboardInterrupt):  # handlers that are not ours
                    done.wait(left)
        if not all(done.is_set() for done in self._done):
            _logger.warning(
                "the last flush was stopped after %g s: data that no exporter had accepted by then is lost",
                _FLUSH_SECONDS,
            )

    def _flush(self, number: int, done: threading.Event) -> None:
        self._go.wait()
        try:
            if self._wanted[number]:
                afterwards.flush(afterwards.AT_EXIT)  # if it is stuck, the others still have their time
                _shut_down(providers()[number])
        finally:
            done.set()
