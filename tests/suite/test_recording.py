"""Rows of what the sampler leaves out; exporters of others get what the sampler lets through."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_telemetry.app import recording
from otel_telemetry.commands.surroundings import Destination, unseen_by_sampler
from otel_telemetry.exporters.request_log import RequestLogSpanExporter
from otel_telemetry.processors.span import RedactionSpanProcessor, protect
from otel_telemetry.settings import Settings

REQUESTS = 200


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture(name="provided", params=[BatchSpanProcessor, SimpleSpanProcessor])
def provided_fixture(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Sampler], tuple[TracerProvider, InMemorySpanExporter, Path]]:
    def provide(sampler: Sampler) -> tuple[TracerProvider, InMemorySpanExporter, Path]:
        path, elsewhere = tmp_path / "rows.db", InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler)
        exporter: SpanExporter = RequestLogSpanExporter(url=f"sqlite:///{path}")
        provider.add_span_processor(request.param(exporter))
        provider.add_span_processor(SimpleSpanProcessor(elsewhere))
        protect(provider, RedactionSpanProcessor())
        assert recording.record_unsampled(provider, RequestLogSpanExporter)
        return provider, elsewhere, path

    return provide


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.1))])
def test_every_request_has_a_row_and_only_sampled_ones_go_elsewhere(provided, sampler) -> None:  # type: ignore[no-untyped-def]
    provider, elsewhere, path = provided(sampler)
    tracer = provider.get_tracer("app")
    for number in range(REQUESTS):
        attributes = {"request_log.route": f"mail{number}@example.com"}
        with tracer.start_as_current_span("request", attributes=attributes), tracer.start_as_current_span("step"):
            pass
    provider.shutdown()
    assert rows(path, "SELECT count(*) FROM request_log") == [(REQUESTS,)]
    assert rows(path, "SELECT DISTINCT route FROM request_log") == [("[REDACTED_EMAIL]",)]
    exported = elsewhere.get_finished_spans()
    assert all(span.context is not None and span.context.trace_flags.sampled for span in exported)
    assert len(exported) == 0 if sampler is ALWAYS_OFF else 0 < len(exported) < REQUESTS


def test_a_caller_that_does_not_sample_hides_no_request(provided) -> None:  # type: ignore[no-untyped-def]
    provider, elsewhere, path = provided(ParentBased(TraceIdRatioBased(1.0)))
    caller = NonRecordingSpan(SpanContext(1 << 100, 1 << 40, is_remote=True, trace_flags=TraceFlags(0)))
    with provider.get_tracer("app").start_as_current_span(
        "request", context=trace.set_span_in_context(caller), attributes={"request_log.route": "a"}
    ):
        pass
    provider.shutdown()
    assert rows(path, "SELECT route FROM request_log") == [("a",)]
    assert elsewhere.get_finished_spans() == ()


def test_without_a_request_log_the_sampler_stays_what_it_is() -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    assert not recording.record_unsampled(provider, RequestLogSpanExporter)
    assert provider.sampler is ALWAYS_OFF
    provider.shutdown()


@pytest.mark.parametrize(
    ("sampler", "argument", "exporter", "unsampled", "warned"),
    [
        ("parentbased_traceidratio", "0.1", "otlp", True, "10 % of requests"),
        ("traceidratio", "x", "otlp", True, "some requests"),
        ("always_off", "", "otlp", True, "no request"),
        ("parentbased_traceidratio", "0.1", "request_log", False, "10 % of requests"),
        ("parentbased_traceidratio", "0.1", "request_log", True, ""),
        ("parentbased_always_on", "", "otlp", True, ""),
        ("", "", "otlp", True, ""),
    ],
)
def test_what_the_sampler_hides_is_said(  # noqa: PLR0917 - parameters
    monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, exporter: str, unsampled: bool, warned: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    settings = Settings(request_log={"unsampled": unsampled})  # type: ignore[arg-type]
    found = unseen_by_sampler(settings, [Destination("traces", exporter)])
    assert warned in found if warned else found == ""
