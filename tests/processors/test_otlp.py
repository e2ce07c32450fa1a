"""Every string field of the OTLP schema is cleaned; everything else arrives as it was sent."""

import base64
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp import fields as otlp_fields
from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.planting_otlp import ID, REQUESTS, SAFE, UNKNOWN, fields_of

PLANTED = "jane.roe@example.com"
MARK = "[REDACTED_EMAIL]"
EXAMPLES = Path(__file__).parents[1] / "otlp_examples"


@pytest.fixture(scope="module")
def otlp() -> OtlpRedactor:
    return OtlpRedactor(Redactor(RedactionSettings()))


def full_request(signal: Signal, text: str) -> tuple[Message, int]:
    """Put the text into each string field of the schema, in every shape; return how many places took it."""
    request = REQUESTS[signal]()
    slots = [(field, slot) for field in fields_of(signal) for slot in field.slots()]
    slots = [(field, slot) for field, slot in slots if slot.shape not in (ID, UNKNOWN, SAFE)]
    slots = [(field, slot) for field, slot in slots if not slot.by_name and not slot.is_hard]  # there any text goes
    for field, slot in slots:
        field.plant(request, slot, text)
    return request, len(slots)


def replaced(message: Message) -> Message:
    """Return the message with the mark where the planted text was; bytes hold it as bytes."""
    text = json_format.MessageToJson(message).replace(PLANTED, MARK)
    text = text.replace(base64.b64encode(PLANTED.encode()).decode(), base64.b64encode(MARK.encode()).decode())
    return json_format.Parse(text, type(message)())


@pytest.mark.parametrize("signal", REQUESTS)
def test_every_string_field_of_the_schema_is_cleaned_and_all_else_is_kept(otlp: OtlpRedactor, signal: Signal) -> None:
    request, planted = full_request(signal, PLANTED)
    assert planted > {"traces": 100, "logs": 60, "metrics": 200}[signal]
    clean = otlp.redact(signal, request.SerializeToString())
    assert PLANTED.encode() not in clean.body
    assert REQUESTS[signal].FromString(clean.body) == replaced(request)
    assert (clean.rejected, clean.problem) == (0, "")
    assert clean.items > 0


@pytest.mark.parametrize("signal", REQUESTS)
def test_a_clean_request_goes_on_as_the_very_bytes_that_came(otlp: OtlpRedactor, signal: Signal) -> None:
    body = full_request(signal, "nothing personal")[0].SerializeToString()
    assert otlp.redact(signal, body).body is body


@pytest.mark.parametrize("signal", REQUESTS)
def test_a_second_pass_changes_nothing(otlp: OtlpRedactor, signal: Signal) -> None:
    once = otlp.redact(signal, full_request(signal, PLANTED)[0].SerializeToString()).body
    assert otlp.redact(signal, once).body == once


@pytest.mark.parametrize("signal", REQUESTS)
def test_fields_that_the_schema_does_not_have_yet_are_kept_and_cleaned(otlp: OtlpRedactor, signal: Signal) -> None:
    text = wire.length_delimited(900, PLANTED.encode())
    message = wire.length_delimited(901, wire.length_delimited(3, b"kept") + wire.length_delimited(4, text))
    number = wire.encode_varint(902 << 3) + b"\x05"
    clean = otlp.redact(signal, full_request(signal, "x")[0].SerializeToString() + text + message + number).body
    assert PLANTED.encode() not in clean
    mark = wire.length_delimited(900, MARK.encode())
    assert clean.endswith(
        mark + wire.length_delimited(901, wire.length_delimited(3, b"kept") + wire.length_delimited(4, mark)) + number
    )


NAMED = {
    "an attribute": KeyValue(key="db.password", value=AnyValue(string_value="sunflower")).SerializeToString(),
    "a number": KeyValue(key="credit_card_number", value=AnyValue(int_value=4_111)).SerializeToString(),
    "a value before its name": wire.length_delimited(2, b"sunflower") + wire.length_delimited(1, b"password"),
    "an attribute with more": KeyValue(key="password", value=AnyValue(string_value="sunflower")).SerializeToString()
    + wire.length_delimited(7, b"more")
    + wire.encode_varint(8 << 3)
    + b"\x05",
    "a name given twice": wire.length_delimited(1, b"color")
    + wire.length_delimited(1, b"password")
    + wire.length_delimited(2, b"sunflower"),
    "an entry of a map": wire.length_delimited(1, b"client_secret") + wire.length_delimited(2, b"sunflower"),
}


@pytest.mark.parametrize("signal", REQUESTS)
@pytest.mark.parametrize("what", NAMED)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_name_decides_in_fields_that_the_schema_does_not_have_yet(
    otlp: OtlpRedactor, signal: Signal, what: str, depth: int
) -> None:
    field = wire.length_delimited(900, NAMED[what])
    for _ in range(depth):
        field = wire.length_delimited(901, wire.length_delimited(3, b"kept") + field)
    item = wire.length_delimited(2, field) if signal == "traces" else b""  # in a scope, of which it is a field, too
    given = full_request(signal, "x")[0].SerializeToString()
    clean = otlp.redact(signal, given + field + wire.length_delimited(1, wire.length_delimited(2, field + item))).body
    assert b"sunflower" not in clean
    assert NAMED[what] not in clean
    assert clean.count(b"kept") >= 2 * depth
    plain = KeyValue(key="color", value=AnyValue(string_value="sunflower")).SerializeToString()
    assert plain in otlp.redact(signal, given + wire.length_delimited(900, plain)).body


def test_an_unknown_field_inside_an_attribute_is_cleaned_too(otlp: OtlpRedactor) -> None:
    attribute = KeyValue(key="k", value=AnyValue(string_value=PLANTED)).SerializeToString()
    attribute += wire.length_delimited(77, PLANTED.encode())
    resource = wire.length_delimited(1, wire.length_delimited(1, attribute))
    clean = otlp.redact("traces", wire.length_delimited(1, resource)).body
    assert PLANTED.encode() not in clean
    assert clean.count(MARK.encode()) == 2


def test_the_items_of_a_request_are_counted_as_otlp_counts_them(otlp: OtlpRedactor) -> None:
    for name, signal, items in (("trace", "traces", 1), ("logs", "logs", 1), ("metrics", "metrics", 3)):
        path = EXAMPLES / f"{name}.json"
        given_ids = json.loads(path.read_text())
        request = REQUESTS[signal]()  # type: ignore[index]  # the three names above
        json_format.ParseDict(_without_ids(given_ids), request, ignore_unknown_fields=True)
        if signal == "traces":
            span = request.resource_spans[0].scope_spans[0].spans[0]  # type: ignore[attr-defined]
            span.trace_id, span.span_id = b"t" * 16, b"s" * 8
        assert otlp.redact(signal, request.SerializeToString()).items >= items  # type: ignore[arg-type]


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(inner) for key, inner in value.items() if not key.endswith(("Id", "_id"))}
    return [_without_ids(inner) for inner in value] if isinstance(value, list) else value


def test_text_in_the_place_of_an_id_is_left_out_and_what_it_stood_in_is_kept(otlp: OtlpRedactor) -> None:
    request = ExportTraceServiceRequest.FromString(two_spans())
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.parent_span_id = PLANTED.encode()
    span.links.add(trace_id=PLANTED.encode(), span_id=b"s" * 8)
    clean = otlp.redact("traces", request.SerializeToString())
    assert PLANTED.encode() not in clean.body
    span.ClearField("parent_span_id")
    span.links[0].ClearField("trace_id")
    assert (clean.body, clean.rejected) == (request.SerializeToString(), 0)


def test_a_span_whose_own_id_is_text_is_left_out(otlp: OtlpRedactor) -> None:
    clean = otlp.redact("traces", two_spans(trace_id=b"jane.roe@example"))
    assert clean.rejected == 0  # sixteen bytes that no rule knows: an id like any other
    clean = otlp.redact("traces", two_spans(trace_id=b"j.roe@example.io"))
    assert b"example.io" not in clean.body
    assert (clean.items, clean.rejected) == (1, 1)


def two_spans(**bad: Any) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.add(name="bad", **({"trace_id": b"t" * 16, "span_id": b"s" * 8} | bad))
    spans.add(name="good", trace_id=b"t" * 16, span_id=b"u" * 8)
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"trace_id": b"short"}, "trace_id: 5 bytes, must be 16"),
        ({"span_id": b""}, "span_id: 0 bytes, must be 8"),
        ({"trace_id": bytes(16)}, "trace_id: all zeros, which is not a valid id"),
    ],
)
def test_a_span_without_valid_ids_is_left_out_by_name_and_the_good_one_beside_it_is_kept(
    otlp: OtlpRedactor, bad: dict[str, bytes], problem: str
) -> None:
    clean = otlp.redact("traces", two_spans(**bad))
    spans = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in spans] == ["good"]
    assert (clean.items, clean.rejected) == (1, 1)
    assert clean.problem == f"resource_spans[0].scope_spans[0].spans[0].{problem}"


class _Broken(Redactor):
    """Cannot redact one particular text."""

    def string(self, text: str, *args: Any, **kwargs: Any) -> str:
        if PLANTED in text:
            raise RuntimeError(text)
        return super().string(text, *args, **kwargs)


def test_a_span_that_cannot_be_redacted_is_left_out_and_the_good_one_beside_it_is_kept() -> None:
    broken = OtlpRedactor(_Broken(RedactionSettings()))
    clean = broken.redact("traces", two_spans(trace_state=f"a={PLANTED}"))
    assert PLANTED.encode() not in clean.body
    spans = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in spans] == ["good"]
    assert (clean.items, clean.rejected) == (1, 1)
    assert PLANTED not in clean.problem


def test_a_resource_that_cannot_be_redacted_takes_its_spans_along_and_no_others() -> None:
    request = ExportTraceServiceRequest.FromString(two_spans())
    request.resource_spans[0].schema_url = PLANTED
    request.resource_spans.append(ExportTraceServiceRequest.FromString(two_spans()).resource_spans[0])
    clean = OtlpRedactor(_Broken(RedactionSettings())).redact("traces", request.SerializeToString())
    assert len(ExportTraceServiceRequest.FromString(clean.body).resource_spans) == 1
    assert (clean.items, clean.rejected) == (2, 2)


@pytest.mark.parametrize("body", [b"\xff\xff", b"not protobuf", b"\x0a\x05ab"])
def test_what_is_not_protobuf_is_refused(otlp: OtlpRedactor, body: bytes) -> None:
    with pytest.raises(MalformedTelemetry, match="not a valid protobuf ExportTraceServiceRequest"):
        otlp.redact("traces", body)


def test_an_empty_request_is_fine(otlp: OtlpRedactor) -> None:
    assert otlp.redact("logs", b"").items == 0


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=300), signal=st.sampled_from(sorted(REQUESTS)))
def test_any_bytes_are_cleaned_or_refused_and_what_comes_out_is_a_request(
    otlp: OtlpRedactor, body: bytes, signal: Signal
) -> None:
    try:
        clean = otlp.redact(signal, body)
    except MalformedTelemetry:
        return
    REQUESTS[signal].FromString(clean.body)


@settings(max_examples=300, deadline=None)
@given(
    signal=st.sampled_from(sorted(REQUESTS)),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_request_is_cleaned_or_refused_and_what_comes_out_is_a_request(
    otlp: OtlpRedactor, signal: Signal, changes: list[tuple[int, int]]
) -> None:
    body = bytearray(full_request(signal, PLANTED)[0].SerializeToString())
    for position, byte in changes:
        body[position % len(body)] = byte
    try:
        clean = otlp.redact(signal, bytes(body))
    except MalformedTelemetry:
        return
    REQUESTS[signal].FromString(clean.body)


def test_a_large_request_is_scanned_piece_by_piece_with_the_same_result(
    otlp: OtlpRedactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ExportTraceServiceRequest()
    for group in range(3):
        spans = request.resource_spans.add().scope_spans.add().spans
        for number in range(40):
            name = f"mail {PLANTED} now" if number % 3 == 0 else "x" * (number * 7)
            span = spans.add(trace_id=b"t" * 16, span_id=bytes([1, group, number, *b"12345"]), name=name)
            span.attributes.add(key="password", value=AnyValue(string_value=f"hunter{number}"))
    body = request.SerializeToString()
    whole = otlp.redact("traces", body)
    sizes: list[int] = []
    located = Redactor.located

    def watched(self: Redactor, data: bytes) -> Any:
        sizes.append(len(data))
        return located(self, data)

    monkeypatch.setattr(Redactor, "located", watched)
    monkeypatch.setattr(otlp_fields, "_PIECE", 1000)
    assert otlp.redact("traces", body) == whole
    assert PLANTED.encode() not in whole.body
    assert b"hunter" not in whole.body
    assert len(sizes) > 5
    assert max(sizes) < 1500


def test_so_many_hits_that_all_is_looked_at_cost_no_list_of_all_places(
    otlp: OtlpRedactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{PLANTED} " * 40] * 3000
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number, name in enumerate(names):
        spans.add(trace_id=b"t" * 16, span_id=(number + 1).to_bytes(8, "big"), name=name)
    everywhere = otlp_fields.Hits(lambda data: (range(1, len(data) + 1), None), request.SerializeToString())
    tracemalloc.start()
    assert everywhere.within(wire.Field(1, 2, 0, 2, 50))
    assert not everywhere.within(wire.Field(1, 2, 0, 2, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_where_every_place_may_change_a_late_field_takes_no_list_of_all_places(monkeypatch):
    """Eight megabytes full of addresses took 400 MB: a number for each of their places."""
    passed: list[Any] = []
    real = wire.fields

    def fields(buffer, start, end, marks=()):
        passed.append(marks)
        return real(buffer, start, end, marks)

    monkeypatch.setattr(wire, "fields", fields)
    monkeypatch.setattr(otlp_fields, "_PIECE", 8)
    inner = wire.length_delimited(1, b"x" * 64)
    body = wire.length_delimited(1, b"before") + wire.length_delimited(2, inner)
    hits = otlp_fields.Hits(lambda data: (range(1, len(data) + 1), None), body)
    _, late = real(body, 0, len(body))
    assert hits.within(late)
    assert list(hits.touched(late.start, late.end)) == list(real(body, late.start, late.end))
    assert passed == [range(late.start + 1, late.end + 1)]


def test_whether_a_span_calls_somebody_is_read_once(otlp: OtlpRedactor, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, kind=3)
    for _ in range(300):
        span.attributes.append(KeyValue(key="peer.ipv4", value=AnyValue(string_value="8.8.4.4")))
    read: list[tuple[int, ...]] = []
    fields: Any = wire.fields

    def noted(buffer: Any, *place: int) -> Any:
        read.append(place)
        return fields(buffer, *place)

    monkeypatch.setattr(wire, "fields", noted)
    clean = otlp.redact("traces", request.SerializeToString())
    assert b"8.8.4.4" in clean.body, "the server's address stays"
    assert max(read.count(place) for place in read) < 10


def test_a_name_like_that_of_a_count_hides_nothing(otlp: OtlpRedactor) -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    for name in ("password", PLANTED, f"a {PLANTED}"):
        span.attributes.append(KeyValue(key=f"otel_telemetry.redacted.{name}", value=AnyValue(int_value=2)))
    after = ExportTraceServiceRequest.FromString(otlp.redact("traces", request.SerializeToString()).body)
    count, *others = after.resource_spans[0].scope_spans[0].spans[0].attributes
    assert count.value.int_value == 2
    assert all(MARK in one.key for one in others)
