"""Text that the parser does not show, but that stands in the bytes which are stored and passed on, is cleaned too."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_telemetry.base.otlp_values import with_all_values
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.otlp.wire import length_delimited as field
from otel_telemetry.processors.redact.redactor import Redactor

TEXT = b"jane.roe@example.com"
NAME = field(1, b"a")
FINE = field(1, b"fine")  # as a value
HIDDEN = field(1, TEXT)
NOT_UTF8 = b"\xff" + TEXT
NESTED = field(6, field(1, field(1, b"inner") + field(2, HIDDEN + FINE)))


#: Attributes whose value, as parsers see it, is harmless.
def named(key: bytes, value: bytes) -> bytes:
    """Return a pair, as it stands in an attribute and in a map."""
    return field(1, key) + field(2, value)


#: Maps in which a key has two values, of which parsers show the last.
TWICE = {
    "a text": field(6, field(1, named(b"to", HIDDEN)) + field(1, named(b"to", FINE))),
    "in a list": field(5, field(1, field(6, field(1, named(b"to", HIDDEN)) + field(1, named(b"to", FINE))))),
    "a map": field(6, field(1, named(b"to", field(6, field(1, named(b"x", HIDDEN))))) + field(1, named(b"to", FINE))),
    "a secret": field(6, field(1, named(b"password", HIDDEN)) + field(1, named(b"password", FINE))),
}
ATTRIBUTES = {
    "a text before the text that counts": NAME + field(2, HIDDEN + FINE),
    "a text before a number": NAME + field(2, HIDDEN + b"\x18\x05"),
    "a value before the value that counts": NAME + field(2, HIDDEN) + field(2, FINE),
    "a name before the name that counts": field(1, TEXT) + NAME + field(2, FINE),
    "a text before another in a nested value": NAME + field(2, NESTED),
    "a text where a number should be": NAME + field(2, field(3, TEXT) + FINE),
    "an unknown field": NAME + field(2, FINE) + field(99, TEXT),
    "an unknown field that is not UTF-8": NAME + field(2, FINE) + field(99, NOT_UTF8),
}


@pytest.fixture(scope="module")
def otlp() -> OtlpRedactor:
    return OtlpRedactor(Redactor(RedactionSettings()))


@pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=list(ATTRIBUTES))
def test_what_an_attribute_hides_is_cleaned_and_what_it_shows_is_kept(otlp: OtlpRedactor, attribute: bytes) -> None:
    body = field(1, field(2, field(2, field(6, attribute))))
    before = ExportLogsServiceRequest.FromString(body)
    clean = otlp.redact("logs", body)
    assert clean.items == 1
    assert TEXT not in clean.body
    after = ExportLogsServiceRequest.FromString(clean.body)
    assert [_shown(after), "fine" in str(after) or "int_value: 5" in str(after)] == [_shown(before), True]


@pytest.mark.parametrize("place", [5, 6], ids=["body", "attribute"])
@pytest.mark.parametrize("twice", TWICE.values(), ids=list(TWICE))
def test_a_key_with_two_values_hides_neither(otlp: OtlpRedactor, twice: bytes, place: int) -> None:
    body = field(1, field(2, field(2, field(place, twice if place == 5 else named(b"a", twice)))))
    assert TEXT.decode() in str(with_all_values(AnyValue.FromString(twice))), "the leak check sees both"
    assert TEXT not in otlp.redact("logs", body).body


def _shown(request: ExportLogsServiceRequest) -> list[str]:
    return [pair.key for pair in request.resource_logs[0].scope_logs[0].log_records[0].attributes]


def test_a_body_hides_nothing_either(otlp: OtlpRedactor) -> None:
    body = field(1, field(2, field(2, field(5, HIDDEN + FINE))))
    clean = otlp.redact("logs", body)
    assert TEXT not in clean.body
    record = ExportLogsServiceRequest.FromString(clean.body).resource_logs[0].scope_logs[0].log_records[0]
    assert record.body.string_value == "fine"


@pytest.mark.parametrize("number", [6, 7])  # a span's kind and start, which are no texts
@pytest.mark.parametrize("text", [TEXT, NOT_UTF8])
def test_a_text_in_place_of_a_number_of_a_span_is_cleaned(otlp: OtlpRedactor, number: int, text: bytes) -> None:
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="GET /").SerializeToString() + field(number, text)
    group = ResourceSpans(scope_spans=[ScopeSpans(spans=[Span.FromString(span)])])
    clean = otlp.redact("traces", ExportTraceServiceRequest(resource_spans=[group]).SerializeToString())
    assert clean.items == 1
    assert TEXT not in clean.body
    assert ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans[0].name == "GET /"


#: Texts in a field of the schema's future: also fields, one of which is to be redacted, and all of one with another.
FUTURE = [
    b"r " + b"x@ab.com, or mail jane@exam".rjust(32) + b"ple.com",  # of 32 bytes, a number of one, one of four
    field(1, b"call 555 and") + field(14, field(14, b" jane@example.com ")),
]


@pytest.mark.parametrize("future", FUTURE)
@pytest.mark.parametrize("place", ["span", "request"])
def test_a_text_that_reads_as_fields_is_read_as_a_text_too(otlp: OtlpRedactor, future: bytes, place: str) -> None:
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name="GET /").SerializeToString()
    spans = field(2, span + field(90, future) if place == "span" else span)
    clean = otlp.redact("traces", field(1, field(2, spans)) + (field(90, future) if place == "request" else b""))
    assert clean.items == 1
    assert b"jane" not in clean.body


@pytest.mark.parametrize("number", [5, 7, 90])  # a name, a start, and none
def test_eight_bytes_of_text_in_a_number_are_left_out(otlp: OtlpRedactor, number: int) -> None:
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, end_time_unix_nano=1).SerializeToString()
    hidden = wire.encode_varint(number << 3 | wire.FIXED64) + b"a@bcd.de"
    clean = otlp.redact("traces", field(1, field(2, field(2, span + hidden))))
    assert clean.items == 1
    assert b"a@bcd.de" not in clean.body


#: In the place of a trace id, though none is so long: not UTF-8 with a text in it, and a message with a group.
NO_IDS = [NOT_UTF8, NAME + b"\xff\xfe " + TEXT + b" ", b"\x2b" + field(5, b" " + TEXT + b" ") + b"\x34\xff"]


@pytest.mark.parametrize("no_id", NO_IDS)
def test_what_is_no_id_by_its_length_hides_nothing(otlp: OtlpRedactor, no_id: bytes) -> None:
    record = field(5, field(1, b"fine")) + field(9, no_id)
    clean = otlp.redact("logs", field(1, field(2, field(2, record))))
    assert b"jane" not in clean.body
    assert clean.items == 1
    random_id = field(9, bytes(range(200, 216)))
    kept = field(1, field(2, field(2, field(5, HIDDEN) + random_id)))
    assert random_id in otlp.redact("logs", kept).body
