"""What leaves an exporter of SDK spans holds nothing that was planted, wherever it was planted."""

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    Span,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.span import TraceState

from otel_telemetry.base import metrics
from otel_telemetry.processors import span
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

PLANTED = "jane.roe@example.com"


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


def make(*processors: SpanProcessor, many: Any = None, resource: dict[str, Any] | None = None) -> TracerProvider:
    provider = TracerProvider(
        resource=Resource(resource or {"service.name": "shop"}),
        shutdown_on_exit=False,
        active_span_processor=many or SynchronousMultiSpanProcessor(),
    )
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def plant(provider: TracerProvider) -> None:
    """End one span with the planted address in every field that takes text."""
    state = TraceState([("vendor", PLANTED)])
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    tracer = provider.get_tracer(PLANTED, PLANTED, attributes={"scope": PLANTED})
    started = tracer.start_span(
        f"mail {PLANTED}",
        context=set_span_in_context(NonRecordingSpan(parent)),
        attributes={
            "text": f"to {PLANTED}",
            f"key {PLANTED}": "value",
            "list": [PLANTED, "x"],
            "bytes": PLANTED.encode(),
            "json": f'{{"deep": [{{"mail": "{PLANTED}"}}]}}',
        },
        links=[Link(SpanContext(3, 4, is_remote=True, trace_state=state), {"link": PLANTED})],
    )
    started.set_attribute("map", {"inner": {"mail": [PLANTED]}})
    started.add_event(PLANTED, {"event": PLANTED})
    started.record_exception(ValueError(f"no such user {PLANTED}"))
    started.set_status(StatusCode.ERROR, f"failed for {PLANTED}")
    started.end()


def leaves(done: ReadableSpan) -> bytes:
    """Return everything of a span that an exporter can read, as OTLP and as text."""
    readable = (done.name, dict(done.attributes or {}), done.events, done.status.description, done.context.trace_state)
    return encode_spans([done]).SerializeToString() + repr(readable).encode()


def exported(exporter: InMemorySpanExporter) -> bytes:
    spans = exporter.get_finished_spans()
    assert len(spans) == 1
    return leaves(spans[0])


@pytest.mark.parametrize("many", [SynchronousMultiSpanProcessor, ConcurrentMultiSpanProcessor])
def test_no_planted_value_leaves_through_exporters_before_or_behind(many: type, redactor: Redactor) -> None:
    before, behind, batch = InMemorySpanExporter(), InMemorySpanExporter(), InMemorySpanExporter()
    processors = (
        SimpleSpanProcessor(before),
        BatchSpanProcessor(batch),
        span.RedactionSpanProcessor(redactor),
        SimpleSpanProcessor(behind),
    )
    provider = make(*processors, many=many(), resource={"service.name": "shop", "owner": PLANTED})
    plant(provider)
    provider.shutdown()
    for exporter in (before, behind, batch):
        data = exported(exporter)
        assert PLANTED.encode() not in data
        assert data.count(b"[REDACTED_EMAIL]") >= 15  # it is marked in each of the places, in both encodings


def test_a_clean_span_goes_on_untouched(redactor: Redactor) -> None:
    exporter = InMemorySpanExporter()
    provider = make(SimpleSpanProcessor(exporter), span.RedactionSpanProcessor(redactor))
    attributes: dict[str, Any] = {"http.request.method": "GET", "n": 7, "ok": True, "ratio": 0.5, "list": ("a", "b")}
    tracer = provider.get_tracer("lib", "1.0")
    with tracer.start_as_current_span("GET /items", attributes=attributes, kind=SpanKind.SERVER) as started:
        started.add_event("cache.miss", {"key": "k"})
    done = exporter.get_finished_spans()[0]
    assert dict(done.attributes or {}) == attributes
    assert (done.name, done.kind, done.events[0].name) == ("GET /items", SpanKind.SERVER, "cache.miss")
    assert done.instrumentation_scope is not None
    assert (done.instrumentation_scope.name, done.resource.attributes["service.name"]) == ("lib", "shop")


def test_keys_that_become_the_same_do_not_take_each_others_place(redactor: Redactor) -> None:
    exporter = InMemorySpanExporter()
    provider = make(span.RedactionSpanProcessor(redactor), SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("x", attributes={"a@example.com": 1, "b@example.com": 2}).end()
    assert dict(exporter.get_finished_spans()[0].attributes or {}) == {"[REDACTED_EMAIL]": 1, "[REDACTED_EMAIL]_": 2}


class _Broken(Redactor):
    def seen(self, texts: Any) -> Any:
        if any(PLANTED in text for text in texts):
            raise RuntimeError
        return super().seen(texts)


def test_a_span_that_cannot_be_redacted_is_dropped_and_counted_and_the_app_does_not_notice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("test").create_counter("dropped")
    monkeypatch.setattr(metrics, "dropped", counter)
    simple, batch = InMemorySpanExporter(), InMemorySpanExporter()
    broken = span.RedactionSpanProcessor(_Broken(RedactionSettings()))
    provider = make(SimpleSpanProcessor(simple), BatchSpanProcessor(batch), broken)
    plant(provider)
    provider.get_tracer("t").start_span("next").end()
    provider.shutdown()
    for exporter in (simple, batch):
        assert [s.name for s in exporter.get_finished_spans()] == ["next"]
    data: Any = reader.get_metrics_data()
    point = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    assert (point.value, dict(point.attributes)) == (1, {"signal": "traces", "reason": "redaction_failed"})


class _Nosy(SpanProcessor):
    """Somebody else's processor that looks at spans while they end, and at finished ones that are not sampled."""

    def __init__(self) -> None:
        self.seen = b""

    def _on_ending(self, span: Span) -> None:
        self.seen += leaves(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.seen += leaves(span)


def test_protect_lets_not_even_other_ending_hooks_see_what_was_planted(redactor: Redactor) -> None:
    nosy = _Nosy()
    provider = make(nosy)
    span.protect(provider, span.RedactionSpanProcessor(redactor))
    plant(provider)
    assert b"[REDACTED_EMAIL]" in nosy.seen
    assert PLANTED.encode() not in nosy.seen


def test_a_processor_that_exports_unsampled_spans_gets_nothing_out_of_a_failed_one() -> None:
    nosy = _Nosy()
    provider = make()
    provider.add_span_processor(span.RedactionSpanProcessor(_Broken(RedactionSettings())))
    provider.add_span_processor(nosy)
    plant(provider)
    assert PLANTED.encode() not in nosy.seen


def test_counts_by_type_are_added_where_asked_for(redactor: Redactor) -> None:
    exporter = InMemorySpanExporter()
    provider = make(span.RedactionSpanProcessor(redactor, summary=True), SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("x", attributes={"a": PLANTED, "b": f"{PLANTED} and bob@example.org"}).end()
    assert dict(exporter.get_finished_spans()[0].attributes or {})["otel_telemetry.redacted.email"] == 3


def test_limits_and_drop_counts_of_the_sdk_survive_redaction(redactor: Redactor) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=2, max_events=1), shutdown_on_exit=False)
    provider.add_span_processor(span.RedactionSpanProcessor(redactor))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    started = provider.get_tracer("t").start_span("x", attributes={"a": PLANTED, "b": PLANTED, "c": PLANTED})
    started.add_event("one")
    started.add_event(PLANTED)
    started.end()
    done = exporter.get_finished_spans()[0]
    assert (done.dropped_attributes, done.dropped_events) == (1, 1)


class _Sink(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise OSError(PLANTED)


def test_an_exporter_that_raises_is_none_of_our_business(redactor: Redactor) -> None:
    provider = make(span.RedactionSpanProcessor(redactor), SimpleSpanProcessor(_Sink()))
    plant(provider)
