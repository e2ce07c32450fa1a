"""Shows warnings on the terminal although OpenTelemetry's handler on the root logger would hide them."""

import logging
import sys
from collections.abc import Iterator
from typing import TextIO

from opentelemetry.instrumentation.logging.handler import LoggingHandler


class _WarningsToStderr(logging.StreamHandler[TextIO]):
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
    if not any(isinstance(handler, _WarningsToStderr) for handler in ours.handlers):
        ours.addHandler(_WarningsToStderr())


def keep_last_resort() -> None:
    """Let an app that has not set up logging see its warnings on stderr, as without OpenTelemetry; safe to repeat.

    Python prints them only where a logger has no handler at all (`logging.lastResort`), and OpenTelemetry's is one.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LoggingHandler) and _print_last_resort not in handler.filters:
            handler.addFilter(_print_last_resort)


def _print_last_resort(record: logging.LogRecord) -> bool:
    last = logging.lastResort
    is_shown = any(not isinstance(handler, LoggingHandler) for handler in _handlers(record.name))
    if last is not None and record.levelno >= last.level and not is_shown:
        last.handle(record)
    return True


def _handlers(name: str) -> Iterator[logging.Handler]:
    """Yield the handlers that a record of that logger reaches."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
