"""Names are taken out of what leaves: OTLP requests in the gateway, and what the SDK's exporters are given."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry import assemble, assemble_gateway
from otel_telemetry.base import metrics
from otel_telemetry.exporters.request_log import RequestLogSpanExporter
from otel_telemetry.processors.config import NerSettings, RedactionSettings
from otel_telemetry.processors.ner import sdk as ner_export
from otel_telemetry.processors.ner.text import NerRedactor, ner_of
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.settings import load
from tests.processors.ner_pipeline import FAILING, THREADS, make_pipeline

CONTENT = "gen_ai.input.messages"
MESSAGES = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "I am Jane Roe, jane@example.com"}]}])
LEFT = "I am [REDACTED_PERSON], [REDACTED_EMAIL]"

Counters = Callable[[str], dict[tuple[Any, ...], int]]


@pytest.fixture(scope="module")
def ner(tmp_path_factory: pytest.TempPathFactory) -> NerRedactor:
    model = make_pipeline(tmp_path_factory.mktemp("ner") / "pipeline")
    settings = RedactionSettings(ner=NerSettings(enabled=True, model=model))
    made = ner_of(settings, Redactor(settings))
    assert made is not None
    return made


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    for name in ("redactions", "dropped", "leaks"):
        monkeypatch.setattr(metrics, name, meter.create_counter(name))

    def read(name: str) -> dict[tuple[Any, ...], int]:
        data: Any = reader.get_metrics_data()
        points = data.resource_metrics[0].scope_metrics[0].metrics if data else ()
        return {tuple(p.attributes.values()): p.value for m in points if m.name == name for p in m.data.data_points}

    return read


def span_of(number: int, **attributes: str) -> dict[str, Any]:
    return {
        "trace_id": b"t" * 16,
        "span_id": bytes([number]) * 8,
        "name": f"span {number}",
        "attributes": [{"key": key, "value": {"string_value": value}} for key, value in attributes.items()],
    }


def traces(*spans: dict[str, Any], service: str = "shop") -> bytes:
    resource = {"attributes": [{"key": "service.name", "value": {"string_value": service}}]}
    groups = [{"resource": resource, "scope_spans": [{"spans": spans}]}]
    return bytes(ExportTraceServiceRequest(resource_spans=groups).SerializeToString())  # type: ignore[arg-type]  # as mappings


def logs(*records: dict[str, Any]) -> bytes:
    groups = [{"scope_logs": [{"log_records": records}]}]
    return bytes(ExportLogsServiceRequest(resource_logs=groups).SerializeToString())  # type: ignore[arg-type]  # as mappings


def texts(span: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in span.attributes}


# --- OTLP ------------------------------------------------------------------------------------------------------------


def test_spans_and_their_events_lose_names_behind_the_rules(ner: NerRedactor, counters: Counters) -> None:
    span = span_of(1, **{CONTENT: MESSAGES, "app.owner": "Jane Roe"})
    span["events"] = [
        {
            "name": "exception",
            "attributes": [{"key": "exception.message", "value": {"string_value": "no such user: Mr Poe"}}],
        }
    ]
    clean = OtlpRedactor(Redactor(RedactionSettings()), ner=ner, summary=True).redact("traces", traces(span))
    (out,) = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    assert json.loads(texts(out)[CONTENT])[0]["parts"][0]["content"] == LEFT
    assert texts(out)["app.owner"] == "Jane Roe"  # no natural language, by the settings
    assert out.events[0].attributes[0].value.string_value == "no such user: [REDACTED_PERSON]"
    counts = {p.key: p.value.int_value for p in out.attributes if p.key.startswith("otel_telemetry.redacted.")}
    assert counts == {"otel_telemetry.redacted.email": 1, "otel_telemetry.redacted.person": 2}
    assert counters("redactions") == {("EMAIL", "email", "shop"): 1, ("PERSON", "ner.person", "shop"): 2}
    assert (clean.items, clean.rejected) == (1, 0)
    assert counters("leaks") == {}


def test_log_bodies_of_any_shape_lose_names(ner: NerRedactor) -> None:
    body = {"kvlist_value": {"values": [{"key": "note", "value": {"string_value": "ask Jane Roe in Bergen"}}]}}
    clean = OtlpRedactor(Redactor(RedactionSettings()), ner=ner).redact(
        "logs", logs({"body": {"string_value": "Mr Poe called"}}, {"body": body}, {"severity_text": "INFO"})
    )
    first, second, third = ExportLogsServiceRequest.FromString(clean.body).resource_logs[0].scope_logs[0].log_records
    assert first.body.string_value == "[REDACTED_PERSON] called"
    assert second.body.kvlist_value.values[0].value.string_value == "ask [REDACTED_PERSON] in [REDACTED_LOCATION]"
    assert third.severity_text == "INFO"


def test_requests_without_names_and_metrics_go_on_as_the_bytes_that_came(ner: NerRedactor) -> None:
    redactor = OtlpRedactor(Redactor(RedactionSettings()), ner=ner)
    body = traces(span_of(1, **{CONTENT: "how do I wax a tent?", "http.route": "/ask"}))
    assert redactor.redact("traces", body).body is body
    groups = [{"scope_metrics": [{"metrics": [{"name": "Jane Roe", "description": "in Bergen"}]}]}]
    measured = ExportMetricsServiceRequest(resource_metrics=groups).SerializeToString()  # type: ignore[arg-type]  # as mappings
    assert redactor.redact("metrics", measured).body is measured


def test_an_item_that_cannot_be_looked_at_is_left_out_and_the_others_go_on(
    ner: NerRedactor, counters: Counters
) -> None:
    body = traces(*(span_of(n, **{CONTENT: f"Jane Roe {FAILING if n == 2 else ''}"}) for n in (1, 2, 3)))
    clean = OtlpRedactor(Redactor(RedactionSettings()), ner=ner).redact("traces", body)
    spans = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    assert [(span.name, texts(span)[CONTENT].strip()) for span in spans] == [
        ("span 1", "[REDACTED_PERSON]"),
        ("span 3", "[REDACTED_PERSON]"),
    ]
    assert (clean.items, clean.rejected) == (2, 1)
    assert clean.problem.startswith("resource_spans[0].scope_spans[0].spans[1]: dropped")
    assert counters("dropped") == {("traces", "redaction_failed"): 1}


def test_the_gateway_of_the_settings_looks_for_names(tmp_path: Path) -> None:
    settings = load(redaction={"ner": {"enabled": True, "model": make_pipeline(tmp_path / "pipeline")}})
    rules = assemble.redactor_of(settings)
    clean = assemble_gateway.otlp_redactor_of(settings, rules).redact(
        "logs", logs({"body": {"string_value": "Jane Roe"}})
    )
    assert b"[REDACTED_PERSON]" in clean.body


# --- the SDK ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tracer_provider() -> Iterator[TracerProvider]:
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def test_every_exporter_of_a_provider_is_given_spans_without_names_added_before_or_after(
    ner: NerRedactor, tracer_provider: TracerProvider, counters: Counters
) -> None:
    before, after = InMemorySpanExporter(), InMemorySpanExporter()
    tracer_provider.add_span_processor(BatchSpanProcessor(before))
    ner_export.protect(tracer_provider, None, ner, summary=True)
    tracer_provider.add_span_processor(SimpleSpanProcessor(after))
    link = trace.Link(trace.SpanContext(1, 2, is_remote=True), {CONTENT: "with Jane Roe"})
    with tracer_provider.get_tracer("t").start_as_current_span(
        "ask", attributes={CONTENT: "I am Jane Roe", "app.owner": "Jane Roe"}, links=[link]
    ) as span:
        span.add_event("gen_ai.choice", {"gen_ai.completion": "Hello Mr Poe"})
    tracer_provider.force_flush()
    for exporter in (before, after):
        (out,) = exporter.get_finished_spans()
        assert dict(out.attributes or {}) == {
            CONTENT: "I am [REDACTED_PERSON]",
            "app.owner": "Jane Roe",
            "otel_telemetry.redacted.person": 3,
        }
        assert dict(out.events[0].attributes or {}) == {"gen_ai.completion": "Hello [REDACTED_PERSON]"}
        assert dict(out.links[0].attributes or {}) == {CONTENT: "with [REDACTED_PERSON]"}
        assert out.resource.attributes["service.name"] == "shop"
    assert counters("redactions") == {("PERSON", "ner.person", "shop"): 6}


def test_a_span_without_a_name_in_it_is_handed_on_as_it_is(ner: NerRedactor, tracer_provider: TracerProvider) -> None:
    seen = InMemorySpanExporter()
    exporter = ner_export.NerSpanExporter(seen, ner)
    span = tracer_provider.get_tracer("t").start_span("ask", attributes={CONTENT: "wax a tent"})
    span.end()
    readable = span._readable_span()  # type: ignore[attr-defined]  # of the SDK's span
    exporter.export([readable])
    assert seen.get_finished_spans()[0] is readable


def test_a_span_that_cannot_be_looked_at_is_not_exported_and_counted(
    ner: NerRedactor, tracer_provider: TracerProvider, counters: Counters
) -> None:
    exporter = InMemorySpanExporter()
    tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
    ner_export.protect(tracer_provider, None, ner)
    for text in ("Jane Roe", f"Jane Roe {FAILING}", "Mr Poe"):
        tracer_provider.get_tracer("t").start_span("ask", attributes={CONTENT: text}).end()
    tracer_provider.force_flush()
    assert [(span.attributes or {})[CONTENT] for span in exporter.get_finished_spans()] == ["[REDACTED_PERSON]"] * 2
    assert counters("dropped") == {("traces", "redaction_failed"): 1}


def test_the_thread_that_ends_a_span_does_not_wait_for_the_pipeline(
    ner: NerRedactor, tracer_provider: TracerProvider
) -> None:
    exported = threading.Event()

    class Exporter(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            exported.set()
            return super().export(spans)

    tracer_provider.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=10))
    ner_export.protect(tracer_provider, None, ner)
    THREADS.clear()
    tracer_provider.get_tracer("t").start_span("ask", attributes={CONTENT: "Jane Roe"}).end()
    assert exported.wait(30)
    assert THREADS
    assert threading.get_ident() not in THREADS


def test_log_records_are_exported_without_names_and_others_see_theirs_unchanged(
    ner: NerRedactor, counters: Counters
) -> None:
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    before, after = InMemoryLogRecordExporter(), InMemoryLogRecordExporter()
    provider.add_log_record_processor(BatchLogRecordProcessor(before))
    ner_export.protect(None, provider, ner)
    provider.add_log_record_processor(SimpleLogRecordProcessor(after))
    logger = provider.get_logger("t")
    given = LogRecord(body={"said": ["Jane Roe"]}, attributes={"gen_ai.prompt": "Mr Poe", "n": 1})
    logger.emit(given)
    logger.emit(LogRecord(body=f"Jane Roe {FAILING}"))
    provider.force_flush()
    for exporter in (before, after):
        (out,) = exporter.get_finished_logs()
        assert out.log_record.body == {"said": ["[REDACTED_PERSON]"]}
        assert dict(out.log_record.attributes or {}) == {"gen_ai.prompt": "[REDACTED_PERSON]", "n": 1}
    assert given.body == {"said": ["Jane Roe"]}
    assert counters("dropped") == {("logs", "redaction_failed"): 2}
    provider.shutdown()


def test_shutting_down_and_flushing_reach_the_exporter(ner: NerRedactor) -> None:
    spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()
    wrapped = ner_export.NerSpanExporter(spans, ner)
    wrapped_logs = ner_export.NerLogExporter(records, ner)
    assert wrapped.force_flush()
    assert wrapped_logs.force_flush()
    wrapped.shutdown()
    wrapped_logs.shutdown()
    assert spans._stopped
    assert records._stopped


def test_rows_of_the_request_log_hold_no_names(
    ner: NerRedactor, tracer_provider: TracerProvider, tmp_path: Path
) -> None:
    database = tmp_path / "rows.db"
    exporter = RequestLogSpanExporter(url=f"sqlite:///{database}", store_text=True)
    tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
    ner_export.protect(tracer_provider, None, ner)
    attributes = {"request_log.route": "direct", "gen_ai.operation.name": "chat", CONTENT: MESSAGES}
    tracer_provider.get_tracer("t").start_span("ask", attributes=attributes).end()
    tracer_provider.shutdown()
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    assert "Jane Roe" not in dump
    assert "[REDACTED_PERSON]" in dump


def test_configure_puts_it_in_front_of_the_exporters_it_makes(tmp_path: Path) -> None:
    code = f"""
import otel_telemetry
from opentelemetry import trace
otel_telemetry.configure(
    exporter="request_log",
    request_log={{"url": "sqlite:///rows.db", "store_text": True}},
    redaction={{"ner": {{"enabled": True, "model": {make_pipeline(tmp_path / "pipeline", watched=False)!r}}}}},
)
trace.get_tracer("t").start_span("ask", attributes={{"gen_ai.operation.name": "chat", {CONTENT!r}: {MESSAGES!r}}}).end()
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert LEFT in dump
    assert "Jane" not in dump


def test_a_scan_finds_names_in_rows_that_were_stored_without_it(tmp_path: Path) -> None:
    exporter = RequestLogSpanExporter(url=f"sqlite:///{tmp_path / 'rows.db'}", store_text=True)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    attributes = {"request_log.route": "Bergen", "gen_ai.operation.name": "chat", CONTENT: "ask Jane Roe"}
    provider.get_tracer("t").start_span("ask", attributes=attributes).end()
    provider.shutdown()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    on = {
        "OTEL_TELEMETRY_REDACTION__NER__ENABLED": "true",
        "OTEL_TELEMETRY_REDACTION__NER__MODEL": make_pipeline(tmp_path / "pipeline", watched=False),
        "OTEL_TELEMETRY_REQUEST_LOG__URL": f"sqlite:///{tmp_path / 'rows.db'}",
    }
    command = [sys.executable, "-m", "otel_telemetry.cli", "scan", "--fix"]
    done = subprocess.run(command, cwd=tmp_path, env=plain | on, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert "ask [REDACTED_PERSON]" in dump
    assert "Jane Roe" not in dump
    assert "Bergen" in dump
