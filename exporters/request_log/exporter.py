"""`RequestLogSpanExporter` and `RequestLogLogExporter`: rows straight from an app's SDK, without a gateway.

They run on the batch processors' threads. The SDK ignores a failed export, so retries happen here, and what is lost in
the end is counted. Nothing raises: not even a wrong setting, once the app is running; it is logged once.
"""

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_telemetry.base import admission, conventions, records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.dialects.dialects import DETAILS_EVENT
from otel_telemetry.exporters.request_log.events import app_events
from otel_telemetry.exporters.request_log.kpis import observed
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.read import logs, span_facts
from otel_telemetry.exporters.request_log.store.redactions import Redactions
from otel_telemetry.exporters.request_log.store.retry import RetryingWriter, settings_of, store_of

_OURS: Final = conventions.APP_EVENTS | {DETAILS_EVENT}


class RequestLogSpanExporter(SpanExporter):
    """Writes spans as rows of request_log and llm_call.

    `RequestLogSpanExporter(url="sqlite:///app.db", store_text=True)`, or `config=` with the settings as one object.
    The database is opened with the first export, in whichever process that happens.
    """

    def __init__(self, url: str | None = None, *, config: RequestLogSettings | None = None, **settings: Any) -> None:
        given = settings_of(url, config, settings)
        self.url, self._store = given.url, store_of(given)
        self._writer = RetryingWriter("traces")
        self._redactions = Redactions(given.url)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch; on failure its spans are counted as dropped. What redaction counts is written beside them."""
        self._redactions.start()
        admitted = admission.spans(spans)
        ours = self._convert(admitted)
        written = self._writer.run(len(admitted), lambda: self._write(ours))
        return SpanExportResult.SUCCESS if written else SpanExportResult.FAILURE

    def _write(self, spans: Sequence[records.Span]) -> None:
        self._store.write(spans)
        if active.wants("spans"):
            self._store.keep_seen(observed.of_spans(active.kpis, spans))

    def _convert(self, spans: Sequence[ReadableSpan]) -> list[records.Span]:
        ours = []
        for span in spans:
            try:
                ours.append(span_facts.from_sdk(span))
            except Exception:  # noqa: BLE001  # one odd span does not take its batch along
                self._writer.drop(1, "invalid")
        return ours

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here: an export has written when it returns."""
        del timeout_millis
        return True

    def shutdown(self) -> None:
        """Stop retrying and close the database; another exporter that shares it opens it again."""
        self._writer.stop()
        self._redactions.stop()
        self._store.close()


class RequestLogLogExporter(LogRecordExporter):
    """Writes log records of model calls, workflows, feedback and browsers as rows; other log records have none.

    Takes what RequestLogSpanExporter takes. Of the same settings both write through one connection.
    """

    def __init__(self, url: str | None = None, *, config: RequestLogSettings | None = None, **settings: Any) -> None:
        given = settings_of(url, config, settings)
        self.url, self._store = given.url, store_of(given)
        self._writer = RetryingWriter("logs")

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Write what becomes rows of a batch; on failure these are counted as dropped."""
        ours = [record for record in admission.logs(batch) if active.wants("logs") or _is_ours(record)]
        if not ours:
            return LogRecordExportResult.SUCCESS
        bodies = self._encode(ours)
        written = self._writer.run(len(ours), lambda: self._write(bodies))
        return LogRecordExportResult.SUCCESS if written else LogRecordExportResult.FAILURE

    def _encode(self, ours: Sequence[ReadableLogRecord]) -> list[bytes]:
        """Return records as OTLP, which is how they are read wherever they come from."""
        try:
            return [encode_logs(ours).SerializeToString()]
        except Exception:  # noqa: BLE001  # one odd record does not take its batch along
            if len(ours) > 1:
                return [body for record in ours for body in self._encode([record])]
            self._writer.drop(1, "invalid")
            return []

    def _write(self, bodies: Sequence[bytes]) -> None:
        calls = [call for body in bodies for call in logs.from_otlp(body)]
        events = [each for body in bodies for each in app_events.from_otlp(body)]
        if calls:
            self._store.write(calls)
        if events:
            self._store.write_events(events)
        if active.wants("logs"):
            self._store.keep_seen(one for body in bodies for one in observed.of_logs(active.kpis, body))

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        """Nothing waits here: an export has written when it returns."""
        del timeout_millis
        return True

    def shutdown(self) -> None:
        """Stop retrying and close the database; another exporter that shares it opens it again."""
        self._writer.stop()
        self._store.close()


def _is_ours(record: ReadableLogRecord) -> bool:
    log = record.log_record
    return log.event_name in _OURS or (log.attributes or {}).get(app_events.EVENT_NAME) in _OURS
