"""Attributes with findings are rewritten by whoever reads them first; there is no way around that."""

import copy
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext

from otel_telemetry.base import metrics
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.sdk.deferred import DeferredAttributes
from otel_telemetry.processors.span import RedactionSpanProcessor

PLANTED = "jane.roe@example.com"
CLEAN = "[REDACTED_EMAIL]"


class _Telling(Redactor):
    """Remembers which threads looked at the attribute `mail`."""

    def __init__(self, settings: RedactionSettings) -> None:
        super().__init__(settings)
        self.looked: list[str] = []

    def item(self, key: str, value: AnyValue, findings: Any = None) -> tuple[str, AnyValue] | None:
        if key == "mail" and findings is not None:
            self.looked.append(threading.current_thread().name)
        return super().item(key, value, findings)


class _Encoding(InMemorySpanExporter):
    """Reads spans as an exporter to a collector does."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans)
        return super().export(spans)


class _Raising(Redactor):
    def item(self, key: str, value: AnyValue, findings: Any = None) -> tuple[str, AnyValue] | None:
        if key == "mail":
            raise RuntimeError(value)
        return super().item(key, value, findings)


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


def ended(redactor: Redactor, *, summary: bool = False, limits: SpanLimits | None = None) -> ReadableSpan:
    """End a span with the address in an attribute, an event and a link, and return what its exporter was given."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource({"service.name": "shop"}), shutdown_on_exit=False, span_limits=limits or SpanLimits()
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(RedactionSpanProcessor(redactor, summary=summary, leak_check_ratio=0))
    link = Link(SpanContext(3, 4, is_remote=True), {"mail": PLANTED})
    attributes: dict[str, Any] = {"first": "1", "mail": f"to {PLANTED}", "last": 2}
    span = provider.get_tracer("t").start_span("x", attributes=attributes, links=[link])
    span.add_event("sent", {"mail": PLANTED})
    span.end()
    return exporter.get_finished_spans()[0]


def test_the_thread_that_exports_rewrites_and_the_one_that_ends_the_span_does_not() -> None:
    redactor = _Telling(RedactionSettings())
    exporter = _Encoding()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.add_span_processor(RedactionSpanProcessor(redactor, leak_check_ratio=0))
    provider.get_tracer("t").start_span("x", attributes={"mail": PLANTED, "other": "x"}).end()
    assert redactor.looked == []
    provider.shutdown()
    assert PLANTED not in exporter.get_finished_spans()[0].to_json()
    assert len(redactor.looked) == 1
    assert redactor.looked != [threading.current_thread().name]


def test_every_way_to_read_leads_through_the_redaction(redactor: Redactor) -> None:
    ways: dict[str, Any] = {
        "repr": repr,
        "dict": dict,
        "copy": lambda given: given.copy(),
        "copy.copy": lambda given: dict(copy.copy(given)),
        "deepcopy": lambda given: dict(copy.deepcopy(given)),
        "items": lambda given: list(given.items()),
        "values": lambda given: list(given.values()),
        "get": lambda given: given.get("mail"),
        "inside": lambda given: given._dict,
        "equality": lambda given: [given == {"first": "1", "mail": f"to {CLEAN}", "last": 2}],
    }
    for name, way in ways.items():
        given: Any = ended(redactor)._attributes
        assert isinstance(given, DeferredAttributes)
        seen = repr(way(given))
        assert PLANTED not in seen, name
        assert CLEAN in seen or seen == "[True]", name


def test_events_and_links_are_read_redacted_too(redactor: Redactor) -> None:
    span = ended(redactor)
    assert dict(span.events[0].attributes or {}) == dict(span.links[0].attributes or {}) == {"mail": CLEAN}
    assert PLANTED not in span.to_json()


def test_order_drop_count_and_immutability_are_those_of_the_attributes_that_came(redactor: Redactor) -> None:
    span = ended(redactor, limits=SpanLimits(max_span_attributes=2))
    assert span.dropped_attributes == 1
    assert list((span.attributes or {}).items()) == [("mail", f"to {CLEAN}"), ("last", 2)]
    attributes: Any = span._attributes
    with pytest.raises(TypeError):
        attributes["x"] = 1


def counters(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that tells what was counted: (counter, type, reason) -> number."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    for name in ("redactions", "dropped"):
        monkeypatch.setattr(metrics, name, meter.create_counter(name))

    def read() -> Counter[tuple[Any, ...]]:
        data: Any = reader.get_metrics_data()
        found: Counter[tuple[Any, ...]] = Counter()
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
            for point in metric.data.data_points:
                found[metric.name, *(point.attributes.get(key, "") for key in ("type", "reason"))] += point.value
        return found

    return read


def test_many_readers_get_the_same_and_findings_are_counted_once(
    redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counters(monkeypatch)
    for _ in range(20):
        attributes = ended(redactor)._attributes
        together = threading.Barrier(4)
        results: list[Any] = []

        def look(attributes: Any = attributes, together: Any = together, results: list[Any] = results) -> None:
            together.wait(10)
            results.append(attributes._dict)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(results) == 4
        assert all(result is results[0] for result in results)
    assert read() == {("redactions", "EMAIL", ""): 20}


def test_attributes_that_cannot_be_redacted_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    read = counters(monkeypatch)
    span = ended(_Raising(RedactionSettings()))
    assert dict(span.attributes or {}) == {}
    assert read() == {("dropped", "", "redaction_failed"): 1}
    assert PLANTED not in span.to_json()


def test_a_summary_on_the_span_needs_all_findings_at_once(redactor: Redactor) -> None:
    exported: Any = ended(redactor, summary=True)
    assert not isinstance(exported._attributes, DeferredAttributes)
    assert exported.attributes["otel_telemetry.redacted.email"] == 3


def test_a_span_that_is_still_held_by_the_app_shows_nothing_either(redactor: Redactor) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionSpanProcessor(redactor))
    span: Any = provider.get_tracer("t").start_span("x", attributes={"mail": PLANTED})
    assert isinstance(span, Span)
    span.end()
    assert PLANTED not in span.to_json()
