"""What a process owes its telemetry: a last flush when it is told to end, and warnings that somebody sees."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.instrumentation.logging.handler import LoggingHandler

_FLUSH_SECONDS = 5.0


def flush_on_sigterm() -> None:
    """Flush all providers when SIGTERM ends the process; where the app has a handler of its own, leave that alone.

    Python's exit handlers, on which the SDK flushes, do not run when a signal ends the process. uvicorn restores the
    handler it found once it has shut down, and raises the signal again: that is when this one runs.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    if on_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _flush_and_end)


def _flush_and_end(number: int, frame: FrameType | None) -> None:
    del frame
    # In a thread of its own: this one may have been interrupted while it held the lock of a queue.
    flushing = threading.Thread(target=_shut_down_providers, name="otel-telemetry-flush", daemon=True)
    flushing.start()
    flushing.join(_FLUSH_SECONDS)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _shut_down_providers() -> None:
    for provider in (trace.get_tracer_provider(), get_logger_provider(), metrics.get_meter_provider()):
        shutdown: Callable[[], None] | None = getattr(provider, "shutdown", None)
        if shutdown is not None:
            shutdown()


class _LastWord(logging.StreamHandler[TextIO]):
    """Prints our warnings where nobody else does: a root logger with OpenTelemetry's handler alone prints nothing."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setLevel(logging.WARNING)
        self.setFormatter(logging.Formatter("otel-telemetry: %(message)s"))

    def filter(self, record: logging.LogRecord) -> bool:
        """Stay silent where the app has set up logging."""
        others = [handler for handler in logging.getLogger().handlers if not isinstance(handler, LoggingHandler)]
        return not others and bool(super().filter(record))


def show_warnings() -> None:
    """Make sure that our warnings are seen in an app that has not set up logging; safe to repeat."""
    ours = logging.getLogger("otel_telemetry")
    if not any(isinstance(handler, _LastWord) for handler in ours.handlers):
        ours.addHandler(_LastWord())
