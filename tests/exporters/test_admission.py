"""Exporters that are called directly, past every processor of ours, let nothing raw out."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_telemetry.base import admission, conventions
from otel_telemetry.exporters.request_log.exporter import RequestLogLogExporter, RequestLogSpanExporter
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.metric import MetricRedaction
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.sdk import fail_closed
from otel_telemetry.processors.span import RedactionSpanProcessor

PLANTED = "erika.muster@example.org"


class Hands(SpanProcessor):
    """Hands an exporter its own copy of each span that starts, as it is then."""

    def __init__(self, exporter: RequestLogSpanExporter) -> None:
        self.exporter = exporter
        self.results: list[SpanExportResult] = []

    def on_start(self, span, parent_context=None):
        copy = ReadableSpan(
            name=span.name, context=span.context, attributes=dict(span.attributes), start_time=1, end_time=2
        )
        self.results.append(self.exporter.export([copy]))


@pytest.fixture(name="guarded")
def guarded_fixture() -> Iterator[None]:
    redactor = Redactor(RedactionSettings())
    fail_closed.guard(RedactionSpanProcessor(redactor), RedactionLogProcessor(redactor), MetricRedaction(redactor))
    yield
    fail_closed.release()


@pytest.mark.usefixtures("guarded")
def test_a_span_that_somebody_hands_to_an_exporter_is_clean_in_the_database(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    exporter = RequestLogSpanExporter(url=f"sqlite:///{file}", store_text=True)
    provider = TracerProvider()
    hands = Hands(exporter)
    provider.add_span_processor(hands)
    with provider.get_tracer("t").start_as_current_span(
        "chat", attributes={"request_log.query_text": f"I am {PLANTED}"}
    ):
        pass
    exporter.shutdown()
    assert hands.results == [SpanExportResult.SUCCESS]
    assert PLANTED.encode() not in b"".join(part.read_bytes() for part in tmp_path.iterdir())


@pytest.mark.usefixtures("guarded")
def test_what_cannot_be_cleaned_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, span: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(RedactionSpanProcessor, "_clean", broken)
    assert admission.spans([ReadableSpan(name=PLANTED)]) == []


@pytest.mark.usefixtures("guarded")
def test_a_log_record_that_somebody_hands_over_is_clean() -> None:
    seen: list[str] = []

    class Exporter(RequestLogLogExporter):
        def _encode(self, ours):
            seen.extend(str(record.log_record.body) for record in ours)
            return super()._encode(ours)

    record = LogRecord(body=f"I am {PLANTED}", event_name=conventions.WORKFLOW_EVENT)
    Exporter(url="sqlite://").export([ReadWriteLogRecord(record)])  # type: ignore[list-item]  # as a processor has it
    assert seen == ["I am [REDACTED_EMAIL]"]


@pytest.mark.usefixtures("guarded")
def test_a_log_record_that_cannot_be_changed_is_admitted_clean_and_no_second_time() -> None:
    raw = ReadableLogRecord(LogRecord(body=f"I am {PLANTED}"), Resource({"host.name": PLANTED}))
    (clean,) = admission.logs([raw])
    assert clean.log_record.body == "I am [REDACTED_EMAIL]"
    assert PLANTED not in str(dict(clean.resource.attributes))
    wrapped = ReadableLogRecord(clean.log_record, clean.resource, clean.instrumentation_scope)
    assert admission.logs([wrapped]) == [wrapped]
    (again,) = admission.logs([ReadableLogRecord(clean.log_record, Resource({"host.name": PLANTED}))])
    assert PLANTED not in str(dict(again.resource.attributes))


def test_without_redaction_all_are_admitted() -> None:
    span = ReadableSpan(name=PLANTED)
    assert admission.spans([span]) == [span]


def collected() -> MetricsData:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("t").create_counter("calls").add(1, {"user": PLANTED})
    data = reader.get_metrics_data()
    assert isinstance(data, MetricsData)
    return data


class Metrics(ConsoleMetricExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        self.seen.append(metrics_data.to_json())
        return MetricExportResult.SUCCESS


def test_metrics_that_somebody_hands_to_a_reader_are_clean_at_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = collected()  # before there is a guard
    assert PLANTED in raw.to_json()
    redactor = Redactor(RedactionSettings())
    fail_closed.guard(RedactionSpanProcessor(redactor), RedactionLogProcessor(redactor), MetricRedaction(redactor))
    try:
        exporter = Metrics()
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        reader._receive_metrics(raw)
        assert len(exporter.seen) == 1
        assert PLANTED not in exporter.seen[0]
        admitted = admission.metrics(raw)
        assert PLANTED not in admitted.to_json()
        assert admission.metrics(admitted) is admitted  # it is marked, and costs nothing more
        monkeypatch.setattr(MetricRedaction, "clean", lambda *_: None)  # nothing may leave
        reader._receive_metrics(raw)
        assert len(exporter.seen) == 1
    finally:
        fail_closed.release()
    assert admission.metrics(raw) is raw
