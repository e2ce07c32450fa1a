"""An integer that is a card goes under any name, and other integers stay, in the SDK and in OTLP alike."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.base.otlp_values import to_message, to_python
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor

REDACTOR = Redactor(RedactionSettings())
CARDS = [4000056655665556, 5555555555554444, 378282246310005, 36227206271667]
OTHERS = [4000056655665557, 1_790_000_000_123_456_789, 2**63 - 1, 12, 0]


def sdk(value: Any, key: str = "app.reading") -> Any:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionSpanProcessor(REDACTOR, leak_check_ratio=1))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("s", attributes={key: value}).end()
    found = (exporter.get_finished_spans()[0].attributes or {})[key]
    return list(found) if isinstance(found, tuple) else found


def otlp(value: Any, key: str = "app.reading") -> Any:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"2" * 8)
    span.attributes.add(key=key, value=to_message(value))
    clean = OtlpRedactor(REDACTOR, leak_check_ratio=1).redact("traces", request.SerializeToString())
    (left,) = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    return to_python(left.attributes[0].value)


homes = pytest.mark.parametrize("home", [sdk, otlp])


@homes
@pytest.mark.parametrize("card", CARDS)
def test_a_card_goes_as_an_integer_under_any_name(home: Any, card: int) -> None:
    assert home(card) == "[REDACTED_CREDIT_CARD]"


@homes
@pytest.mark.parametrize("number", OTHERS)
def test_other_integers_stay(home: Any, number: int) -> None:
    assert home(number) == number


def test_a_card_goes_from_a_list_in_otlp() -> None:
    assert otlp([12, CARDS[0]]) == [12, "[REDACTED_CREDIT_CARD]"]


@homes
@pytest.mark.parametrize("name", ["credit_card", "phone"])
def test_a_card_under_the_name_of_one_of_our_counts_goes(home: Any, name: str) -> None:
    key = f"otel_telemetry.redacted.{name}"
    assert str(home(CARDS[0], key)).startswith("[REDACTED_")
    assert otlp(3, key) == 3
