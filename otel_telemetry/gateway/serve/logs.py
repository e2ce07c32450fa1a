"""What `otel-telemetry serve` logs: text for people or one JSON object a line for machines, and how much of it.

The level is that of our own loggers; of the libraries beneath only what needs attention is shown.
"""

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from logging.handlers import MemoryHandler
from typing import Final

from rich.console import Console
from rich.logging import RichHandler

from otel_telemetry.gateway.config import GatewaySettings

_OURS: Final = "otel_telemetry"
_TEXT: Final = "%(asctime)s %(levelname)s %(message)s"
_MOST_EARLY: Final = 1000
_NEVER: Final = sys.maxsize
_MOST_FAILURES: Final = 1000
_AGAIN_SECONDS: Final = 60.0
#: Loggers of what happens to requests in the libraries beneath.
_OF_REQUESTS: Final = ("uvicorn.error", "asyncio")


class RareFailures(logging.Filter):
    """Lets each failure of a request pass once a minute: its sender may repeat it, and a traceback is 50 lines long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._until: dict[tuple[object, ...], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        if not record.exc_info or record.exc_info[2] is None:
            return True
        frame = traceback.extract_tb(record.exc_info[2])[-1]
        what = record.name, record.exc_info[0], frame.filename, frame.lineno
        now = self._clock()
        if self._until.get(what, 0.0) > now:
            return False
        if len(self._until) >= _MOST_FAILURES:
            self._until.clear()
        self._until[what] = now + _AGAIN_SECONDS
        return True


class _State:
    """How this process logs: its name among those of the gateway, and its handler once there is one."""

    process = "gateway"
    handler: logging.Handler | None = None
    rare = RareFailures()


class JsonFormatter(logging.Formatter):
    """One JSON object a record, in one line: time, level, logger, message, process, pid; error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": _State.process,
            "pid": os.getpid(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


@contextlib.contextmanager
def buffered() -> Iterator[None]:
    """Hold back log records until `use` sets their format; if that never happens, they are written as text."""
    root = logging.getLogger()
    early = MemoryHandler(_MOST_EARLY, flushLevel=_NEVER, flushOnClose=False)
    root.addHandler(early)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(early)
        shown = _State.handler or _handler("text")
        for record in early.buffer:
            if logging.getLogger(record.name).isEnabledFor(record.levelno):
                shown.handle(record)


def use(config: GatewaySettings) -> None:
    """Log in the format of the settings from now on; may be called again."""
    root = logging.getLogger()
    if _State.handler:
        root.removeHandler(_State.handler)
    _State.handler = _handler(config.log_format)
    root.addHandler(_State.handler)
    for name in _OF_REQUESTS:
        logging.getLogger(name).addFilter(_State.rare)
    logging.captureWarnings(capture=config.log_format == "json")
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    logging.getLogger(_OURS).setLevel(level)
    root.setLevel(max(level, logging.WARNING))


def name_process(name: str) -> None:
    """Set the name of this process within the gateway."""
    _State.process = name


def _handler(form: str) -> logging.Handler:
    terminal = Console(stderr=True)
    if form == "text" and terminal.is_terminal:
        rich = RichHandler(console=terminal, show_path=False)
        rich.setFormatter(logging.Formatter("%(message)s"))
        return rich
    stream = logging.StreamHandler()
    stream.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(_TEXT))
    return stream
