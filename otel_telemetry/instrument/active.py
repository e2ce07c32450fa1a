"""What is going on right now in this task or thread: the request's root span, and the stage it is in.

Both live in context variables, so they follow tasks and threads that copy their context, and neither is ever reset by
token: a generator may be closed in another context than the one it was opened in.
"""

import time
from contextvars import ContextVar

from opentelemetry import trace

from otel_telemetry import conventions

TTFB = conventions.REQUEST_LOG + "ttfb_ms"


class Root:
    """The local root span of a request, and when its answer began.

    `request_log.ttfb_ms` makes a span a request (design, D7), so it is only written once somebody said that this span
    is one: `request()` was entered, or a model was called under it. Either may come before or after the first byte.
    """

    __slots__ = ("_is_request", "_started", "_ttfb_ms", "span")

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self._started = time.perf_counter()
        self._ttfb_ms: float | None = None
        self._is_request = False

    def answered(self) -> None:
        """Note that the first byte of the answer's body leaves now; later calls change nothing."""
        if self._ttfb_ms is None:
            self._ttfb_ms = round((time.perf_counter() - self._started) * 1000, 3)
            self._write()

    def is_request(self) -> None:
        """Note that this span is a request that deserves a row."""
        if not self._is_request:
            self._is_request = True
            self._write()

    def _write(self) -> None:
        if self._is_request and self._ttfb_ms is not None and self.span.is_recording():
            self.span.set_attribute(TTFB, self._ttfb_ms)


root: ContextVar[Root | None] = ContextVar("otel_telemetry_root", default=None)
stage: ContextVar[str | None] = ContextVar("otel_telemetry_stage", default=None)


def live_root() -> Root | None:
    """Return the request's root while its span still records, else None."""
    current = root.get()
    return current if current is not None and current.span.is_recording() else None
