"""`RequestLogSpanExporter`: request rows straight from an app's OpenTelemetry SDK, without a gateway.

It runs on the batch processor's thread. The SDK ignores a failed export, so retries happen here, and what is lost in
the end is counted. Nothing raises: not even a wrong setting, once the app is running; it is logged once.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_telemetry import metrics, records
from otel_telemetry.errors import StoreUnavailable
from otel_telemetry.exporters.request_log import rows
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store import Store

_log = logging.getLogger("otel_telemetry.request_log")

#: Pauses between tries, in seconds; a locked database is already waited for by the database itself.
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)


class RequestLogSpanExporter(SpanExporter):
    """Writes spans as rows of request_log and llm_call.

    `RequestLogSpanExporter(url="sqlite:///app.db", store_text=True)`, or `config=` with the settings as one object.
    The database is opened with the first export, in whichever process that happens.
    """

    def __init__(self, url: str | None = None, *, config: RequestLogSettings | None = None, **settings: Any) -> None:
        if url is not None:
            settings["url"] = url
        base = config.model_dump() if config is not None else {}
        self._store = Store(RequestLogSettings.model_validate({**base, **settings}))
        self._stopped = threading.Event()
        self._failed: str | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch; on failure its spans are counted as dropped."""
        if self._stopped.is_set():
            return self._drop(len(spans), "shutdown")
        token = context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return self._export(spans)
        except Exception as error:  # noqa: BLE001  # telemetry fails open: the app never learns of it
            self._warn(f"cannot write to request_log: {error}")
            return self._drop(len(spans), "store_failed")
        finally:
            context.detach(token)

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        ours = self._convert(spans)
        for pause in (*_PAUSES, None):
            try:
                self._store.write(ours)
            except StoreUnavailable as error:
                metrics.write_failures.add(1, {"exporter": "request_log"})
                self._warn(str(error))
                if pause is None or self._stopped.wait(pause):
                    break
            else:
                self._failed = None
                return SpanExportResult.SUCCESS
        return self._drop(len(spans), "store_unavailable")

    def _convert(self, spans: Sequence[ReadableSpan]) -> list[records.Span]:
        ours = []
        for span in spans:
            try:
                ours.append(rows.from_sdk(span))
            except Exception:  # noqa: BLE001  # one odd span does not take its batch along
                self._drop(1, "invalid")
        return ours

    def _drop(self, count: int, reason: str) -> SpanExportResult:
        metrics.dropped.add(count, {"signal": "traces", "reason": reason})
        return SpanExportResult.FAILURE

    def _warn(self, problem: str) -> None:
        """Log a problem once, until a write succeeds or the problem becomes another."""
        if problem != self._failed:
            self._failed = problem
            _log.warning("%s", problem)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here: an export has written when it returns."""
        del timeout_millis
        return True

    def shutdown(self) -> None:
        """Stop retrying and close the database."""
        self._stopped.set()
        self._store.close()
