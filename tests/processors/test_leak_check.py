"""A sample of what leaves is looked at again: a leak is counted, and what redaction itself writes is none."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.base import metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.insight import active_rules
from otel_telemetry.processors.redact.leak_check import LeakCheck
from otel_telemetry.processors.redact.policy import IP
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor
from otel_telemetry.processors.verify.canaries import Canaries
from otel_telemetry.processors.verify.planting_otlp import CLIENT, REQUESTS, fields_of

PLANTED = "jane.roe@example.com"
POLICY = """
types: {EMAIL: hash, CREDIT_CARD: mask, PHONE: keep, SSN: drop, IBAN: hash, API_KEY: mask}
keys: {"note.kept": keep}
email_domain: true
"""


class Counters:
    """What the two counters say: (signal, type or "") -> number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reader = InMemoryMetricReader()
        meter = MeterProvider([self._reader]).get_meter("test")
        for name in ("leaks", "leak_checks", "instrumentation_errors"):
            monkeypatch.setattr(metrics, name, meter.create_counter(name))

    def read(self, name: str) -> dict[tuple[Any, ...], int]:
        data: Any = self._reader.get_metrics_data()
        found = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            if metric.name == name:
                found = {tuple(point.attributes.values()): point.value for point in metric.data.data_points}
        return found


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    return Counters(monkeypatch)


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


@pytest.fixture(scope="module", params=["built-in policy", "another policy"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RedactionSettings:
    if request.param == "built-in policy":
        return RedactionSettings()
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(POLICY)
    return RedactionSettings(policy=path, pseudonyms=PseudonymSettings(secret="0123456789abcdef0123"))


class _Blind(Redactor):
    """A redactor whose scan of bytes and records overlooks everything."""

    def located(self, data: bytes) -> Any:
        del data
        return (), ()

    def seen(self, texts: Any) -> Any:
        del texts


def planted(signal: Signal, settings: RedactionSettings) -> Iterator[bytes]:
    canaries = Canaries(active_rules(settings))
    for type_ in canaries.types:
        request = REQUESTS[signal]()
        slots = [(field, slot) for field in fields_of(signal) for slot in field.slots() if not field.own_id]
        for field, slot in slots:
            if not slot.by_name and (slot.shape != CLIENT or type_ == IP):
                field.plant(request, slot, canaries.of(type_).text)
        yield request.SerializeToString()


@pytest.mark.parametrize("signal", REQUESTS)
def test_nothing_is_left_in_requests_with_every_type_in_every_field(
    signal: Signal, settings: RedactionSettings, counters: Counters
) -> None:
    otlp = OtlpRedactor(Redactor(settings), leak_check_ratio=1, summary=True)
    requests = list(planted(signal, settings))
    for body in requests:
        otlp.redact(signal, body)
    assert counters.read("leaks") == {}
    assert counters.read("leak_checks") == {(signal,): len(requests)}


def spans(*names: str) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="owner").value.string_value = names[0]
    items = group.scope_spans.add().spans
    for name in names:
        items.add(name=name, trace_id=b"t" * 16, span_id=b"s" * 8)
    return request.SerializeToString()


def test_what_the_scan_of_a_request_overlooks_is_counted_by_signal_and_type(counters: Counters) -> None:
    OtlpRedactor(_Blind(RedactionSettings()), leak_check_ratio=1).redact("traces", spans(PLANTED, "GET /"))
    assert counters.read("leaks") == {("traces", "EMAIL"): 2}


class Reading(InMemorySpanExporter):
    """Reads what it is given, as every exporter does."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert all(dict(span.attributes or {}) for span in spans)
        return super().export(spans)


def test_a_span_is_looked_at_again_when_it_leaves(redactor: Redactor, counters: Counters) -> None:
    memory, read = InMemorySpanExporter(), Reading()
    for exporter, checks in ((memory, {}), (read, {("traces",): 1})):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(RedactionSpanProcessor(redactor, leak_check_ratio=1))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.get_tracer("t").start_span("x", attributes={"a": "b"}).end()
        assert counters.read("leak_checks") == checks


def test_a_leaking_span_and_log_record_of_the_sdk_are_counted(counters: Counters) -> None:
    blind = RedactionSettings()
    spans_out = RedactionSpanProcessor(Redactor(blind), leak_check_ratio=1)
    logs_out = RedactionLogProcessor(Redactor(blind), leak_check_ratio=1)
    for processor in (spans_out, logs_out):
        processor._origins.redactor = _Blind(blind)
    tracer = TracerProvider(shutdown_on_exit=False)
    tracer.add_span_processor(spans_out)
    tracer.add_span_processor(SimpleSpanProcessor(Reading()))
    tracer.get_tracer("t").start_span("x", attributes={"a": PLANTED}).end()
    logger = LoggerProvider(shutdown_on_exit=False)
    logger.add_log_record_processor(logs_out)
    logger.get_logger("t").emit(LogRecord(body={"to": [PLANTED]}, attributes={"ssn": 123456789}))
    assert counters.read("leaks") == {("traces", "EMAIL"): 1, ("logs", "EMAIL"): 1, ("logs", "SSN"): 1}


@pytest.mark.parametrize("summary", [False, True])
def test_a_redacted_span_with_and_without_its_summary_is_no_leak(
    summary: bool, redactor: Redactor, counters: Counters
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionSpanProcessor(redactor, summary=summary, leak_check_ratio=1))
    provider.add_span_processor(SimpleSpanProcessor(Reading()))
    started = provider.get_tracer(PLANTED).start_span("x", attributes={"a": PLANTED, "password": "hunter2"})
    started.add_event(PLANTED, {"user.id": "jane"})
    started.end()
    assert (counters.read("leaks"), counters.read("leak_checks")) == ({}, {("traces",): 1})


def test_counts_that_an_sdk_added_pass_the_gateway(redactor: Redactor) -> None:
    request = ExportTraceServiceRequest.FromString(spans("x"))
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="otel_telemetry.redacted.password").value.int_value = 2
    body = request.SerializeToString()
    assert OtlpRedactor(redactor).redact("traces", body).body == body


def test_the_first_record_and_then_every_nth_is_looked_at() -> None:
    check = LeakCheck("traces", 0.25)
    assert [check.due() for _ in range(9)] == [True, False, False, False, True, False, False, False, True]


def test_a_ratio_of_nothing_looks_at_nothing(redactor: Redactor, counters: Counters) -> None:
    assert not any(LeakCheck("logs", 0).due() for _ in range(100))
    OtlpRedactor(redactor, leak_check_ratio=0).redact("traces", spans("x"))
    assert counters.read("leak_checks") == {}


def test_the_work_of_one_check_is_bounded_and_spread_over_the_request(counters: Counters) -> None:
    OtlpRedactor(_Blind(RedactionSettings()), leak_check_ratio=1).redact("traces", spans(*[PLANTED] * 640))
    assert counters.read("leaks") == {("traces", "EMAIL"): 32 + 1}


class _Failing(Redactor):
    """Cannot look at anything a second time."""

    def __init__(self, settings: RedactionSettings) -> None:
        super().__init__(settings)
        self.armed = False

    def string(self, *args: Any, **kwargs: Any) -> str:
        if self.armed:
            raise RuntimeError
        return super().string(*args, **kwargs)


def test_a_check_that_fails_costs_neither_the_span_nor_the_request(counters: Counters) -> None:
    failing = _Failing(RedactionSettings())
    otlp = OtlpRedactor(failing, leak_check_ratio=1)
    failing.armed = True
    assert otlp.redact("traces", spans("GET /")).items == 1
    assert counters.read("instrumentation_errors") == {("leak_check",): 1}
