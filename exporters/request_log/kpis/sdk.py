"""Figures of spans and log records inside an app: counted as they end, for the app's own MeterProvider.

Registered after redaction, so that they read only redacted data. If the app writes its rows itself, the exporter also
stores their values (exporter.py), for the report.
"""

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log.kpis import observed
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.read import span_facts


class KpiSpans(SpanProcessor):
    """Counts what each span is in the figures that are made of spans."""

    def __init__(self, kpis: Sequence[Kpi]) -> None:
        self._kpis = kpis

    def on_end(self, span: ReadableSpan) -> None:
        """Count a span. Never raises."""
        try:
            for one in observed.of_spans(self._kpis, [span_facts.from_sdk(span)]):
                active.seen(one.kpi, one.value)
        except Exception:  # noqa: BLE001  # telemetry fails open
            metrics.instrumentation_errors.add(1, {"component": "kpi"})


class KpiLogs(LogRecordProcessor):
    """Counts what each log record is in the figures that are made of logs."""

    def __init__(self, kpis: Sequence[Kpi]) -> None:
        self._kpis = kpis

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Count a record. Never raises."""
        try:
            readable = ReadableLogRecord(
                log_record=log_record.log_record,
                resource=log_record.resource or Resource.get_empty(),
                instrumentation_scope=log_record.instrumentation_scope,
            )
            for one in observed.of_logs(self._kpis, encode_logs([readable]).SerializeToString()):
                active.seen(one.kpi, one.value)
        except Exception:  # noqa: BLE001  # telemetry fails open
            metrics.instrumentation_errors.add(1, {"component": "kpi"})

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here."""
        del timeout_millis
        return True
