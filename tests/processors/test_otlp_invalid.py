"""One item that protobuf's parser refuses never takes the others with it, whatever is wrong in it and wherever."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import Clean, OtlpRedactor
from otel_telemetry.processors.otlp.wire import encode_varint, length_delimited
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify.planting_otlp import REQUESTS

GOOD = 40
BAD_AT = 13
GROUPS = {"traces": "resource_spans", "logs": "resource_logs", "metrics": "resource_metrics"}
SCOPES = {"traces": "scope_spans", "logs": "scope_logs", "metrics": "scope_metrics"}
ITEMS = {"traces": "spans", "logs": "log_records", "metrics": "metrics"}


@pytest.fixture(scope="module")
def otlp() -> OtlpRedactor:
    return OtlpRedactor(Redactor(RedactionSettings()))


def good_item(signal: Signal, number: int) -> bytes:
    """Return one span, log record or metric (with one data point) as it stands in a request."""
    request: Any = REQUESTS[signal]()
    item = getattr(getattr(getattr(request, GROUPS[signal]).add(), SCOPES[signal]).add(), ITEMS[signal]).add()
    if signal == "traces":
        item.trace_id, item.span_id, item.name = b"t" * 16, (number + 1).to_bytes(8, "big"), f"step {number}"
    elif signal == "logs":
        item.body.string_value = f"step {number}"
    else:
        item.name = f"steps.{number}"
        item.gauge.data_points.add(as_int=number)
    return bytes(item.SerializeToString())


def in_scope(items: list[bytes], tail: bytes = b"") -> bytes:
    return b"".join(length_delimited(2, item) for item in items) + tail


def request_of(*scopes: bytes, resource: bytes = b"") -> bytes:
    return length_delimited(1, resource + b"".join(length_delimited(2, scope) for scope in scopes))


def nested(levels: int) -> bytes:
    """Return an AnyValue with so many lists in each other, written without a parser's help."""
    value = AnyValue(string_value="deep").SerializeToString()
    for _ in range(levels):
        value = length_delimited(5, length_delimited(1, value))
    return value


def attribute(value: bytes, key: bytes = b"k") -> bytes:
    return length_delimited(1, key) + length_delimited(2, value)


#: What protobuf's parser refuses, as bytes behind those of a span that is fine: what the reason must say, and where.
FAULTS: dict[str, tuple[bytes, str, str]] = {
    "name": (length_delimited(5, b"na\xffme"), ".name", "UTF-8"),
    "surrogate": (length_delimited(5, b"\xed\xa0\x80"), ".name", "UTF-8"),
    "overlong UTF-8": (length_delimited(5, b"\xc0\xaf"), ".name", "UTF-8"),
    "trace state": (length_delimited(3, b"a=\xf5"), ".trace_state", "UTF-8"),
    "attribute key": (length_delimited(9, attribute(b"", b"\x80")), ".attributes[0].key", "UTF-8"),
    "attribute value": (
        length_delimited(9, attribute(length_delimited(1, b"\xfe"))),
        ".attributes[0].value.string_value",
        "UTF-8",
    ),
    "event name": (length_delimited(11, length_delimited(2, b"\xff")), ".events[0].name", "UTF-8"),
    "status message": (length_delimited(15, length_delimited(2, b"\xff")), ".status.message", "UTF-8"),
    "attribute cut off": (length_delimited(9, attribute(b"")[:-1]), ".attributes[0]", "cut off"),
    "string cut off": (encode_varint(5 << 3 | 2) + b"\x50abc", "", "cut off"),
    "fixed number cut off": (encode_varint(7 << 3 | 1) + b"\0\0\0", "", "cut off"),
    "number without end": (encode_varint(6 << 3) + b"\xff" * 11, "", "cut off"),
    "field number zero": (b"\x02\x01x", "", "cut off"),
    "no such wire type": (b"\x0f", "", "cut off"),
    "group without end": (b"\xa3\x06\x08\x01", "", "cut off"),
    "group ended by another": (b"\xa3\x06\xac\x06", "", "cut off"),
    "end of no group": (b"\xa4\x06", "", "cut off"),
    "groups without number": (b"\xa3\x06" * 120 + b"\xa4\x06" * 120, "", "not valid protobuf"),
    "tag too long": (b"\xaa\x80\x80\x80\x80\x80\x80\x00\x01x", "", "not valid protobuf"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_span_costs_itself_only_and_its_fault_is_named_with_its_path(otlp: OtlpRedactor, fault: str) -> None:
    tail, field, reason = FAULTS[fault]
    items = [good_item("traces", number) for number in range(GOOD)]
    items.insert(BAD_AT, good_item("traces", 999) + tail)
    body = request_of(in_scope([good_item("traces", 998)]), in_scope(items))
    clean = otlp.redact("traces", body)
    assert (clean.items, clean.rejected) == (GOOD + 1, 1)
    path = f"resource_spans[0].scope_spans[1].spans[{BAD_AT}]{field}"
    assert clean.problem.startswith(path)
    assert reason in clean.problem
    assert "step 999" not in clean.problem
    assert names_of(clean) == {"step 998", *(f"step {number}" for number in range(GOOD))}


def test_a_value_that_is_nested_too_deep_is_replaced_and_its_span_stays(otlp: OtlpRedactor) -> None:
    deep = good_item("traces", 1) + length_delimited(9, attribute(nested(60), b"deep"))
    cut_off = good_item("traces", 2) + length_delimited(9, attribute(b"")[:-1])
    clean = otlp.redact("traces", request_of(in_scope([good_item("traces", 0), deep, cut_off])))
    assert (clean.items, clean.rejected) == (2, 1)
    assert names_of(clean) == {"step 0", "step 1"}
    assert b"[REDACTED_DEPTH]" in clean.body
    assert otlp.redact("traces", clean.body).body == clean.body


def names_of(clean: Clean) -> set[str]:
    request = ExportTraceServiceRequest.FromString(clean.body)
    return {span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans}


@pytest.mark.parametrize("signal", REQUESTS)
@pytest.mark.parametrize("number", [0, BAD_AT, GOOD])
def test_it_is_the_same_for_all_signals_and_places(otlp: OtlpRedactor, signal: Signal, number: int) -> None:
    items = [good_item(signal, number) for number in range(GOOD)]
    bad = good_item(signal, 7).replace(b"step", b"s\xff\xfep")
    items.insert(number, bad)
    clean = otlp.redact(signal, request_of(in_scope(items)))
    assert (clean.items, clean.rejected) == (GOOD, 1)
    assert clean.problem.startswith(f"{GROUPS[signal]}[0].{SCOPES[signal]}[0].{ITEMS[signal]}[{number}].")
    REQUESTS[signal].FromString(clean.body)


def test_one_bad_data_point_leaves_the_others_of_its_metric(otlp: OtlpRedactor) -> None:
    point = length_delimited(7, attribute(length_delimited(1, b"fine")))
    bad = length_delimited(7, attribute(length_delimited(1, b"\xff")))
    gauge = b"".join(length_delimited(1, each) for each in (point, bad, point, point))
    metric = length_delimited(1, b"queue.length") + length_delimited(5, gauge)
    clean = otlp.redact("metrics", request_of(in_scope([metric, good_item("metrics", 1)])))
    assert (clean.items, clean.rejected) == (4, 1)
    where = "resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[1].attributes[0].value.string_value"
    assert clean.problem == f"{where}: not valid UTF-8"


def test_a_metric_whose_name_is_bad_takes_its_own_points_with_it(otlp: OtlpRedactor) -> None:
    gauge = b"".join(length_delimited(1, b"") for _ in range(3))
    metric = length_delimited(1, b"\xff") + length_delimited(5, gauge)
    clean = otlp.redact("metrics", request_of(in_scope([metric, good_item("metrics", 1)])))
    assert (clean.items, clean.rejected) == (1, 3)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda bad, items: request_of(in_scope(items), resource=length_delimited(1, bad)), ".resource.attributes[0]"),
        (lambda bad, items: request_of(in_scope(items, length_delimited(3, b"\xff"))), ".scope_spans[0].schema_url"),
        (lambda bad, items: request_of(in_scope(items), resource=length_delimited(3, b"\xff")), ".schema_url"),
    ],
)
def test_what_shares_a_bad_resource_or_scope_goes_and_other_resources_stay(
    otlp: OtlpRedactor, make: Callable[[bytes, list[bytes]], bytes], path: str
) -> None:
    bad = length_delimited(1, attribute(length_delimited(1, b"\xff")))
    body = make(bad, [good_item("traces", 1), good_item("traces", 2)]) + request_of(in_scope([good_item("traces", 3)]))
    clean = otlp.redact("traces", body)
    assert (clean.items, clean.rejected) == (1, 2)
    assert clean.problem.startswith(f"resource_spans[0]{path}")
    assert names_of(clean) == {"step 3"}


def test_what_stands_before_a_break_in_a_scope_or_in_the_body_is_kept(otlp: OtlpRedactor) -> None:
    scope = in_scope([good_item("traces", 1), good_item("traces", 2)], b"\x12\x7fcut")
    clean = otlp.redact("traces", request_of(scope) + b"\x0a\x7fcut")
    assert (clean.items, clean.rejected) == (2, 2)
    assert clean.problem == "resource_spans[0].scope_spans[0].spans[2]: cut off, or not protobuf"


def test_every_bad_item_is_counted_and_the_first_is_named(otlp: OtlpRedactor) -> None:
    items = [good_item("traces", n) + (length_delimited(5, b"\xff") if n % 4 == 3 else b"") for n in range(40)]
    clean = otlp.redact("traces", request_of(in_scope(items)))
    assert (clean.items, clean.rejected) == (30, 10)
    assert "spans[3].name" in clean.problem


def test_invalid_ids_beside_invalid_items_are_counted_too(otlp: OtlpRedactor) -> None:
    short = Span(trace_id=b"x" * 15, span_id=b"s" * 8).SerializeToString()
    items = [good_item("traces", 1), short, good_item("traces", 2) + length_delimited(5, b"\xff")]
    clean = otlp.redact("traces", request_of(in_scope(items)))
    assert (clean.items, clean.rejected) == (1, 2)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (length_delimited(1, b"t" * 15), "trace_id: 15 bytes"),
        (length_delimited(1, b"t" * 4096), "trace_id: 4096 bytes"),
        (length_delimited(2, b"s" * 9), "span_id: 9 bytes"),
        (length_delimited(2, bytes(8)), "span_id: all zeros"),
        (length_delimited(1, b""), "trace_id: 0 bytes"),
    ],
)
def test_of_an_id_that_comes_twice_the_last_counts(otlp: OtlpRedactor, tail: bytes, reason: str) -> None:
    clean = otlp.redact("traces", request_of(in_scope([good_item("traces", 1), good_item("traces", 2) + tail])))
    assert (clean.items, clean.rejected) == (1, 1)
    assert clean.problem.startswith(f"resource_spans[0].scope_spans[0].spans[1].{reason}")


def test_fields_of_another_wire_type_and_fields_that_come_twice_are_no_fault(otlp: OtlpRedactor) -> None:
    odd = good_item("traces", 1) + encode_varint(5 << 3) + b"\x07" + encode_varint(1 << 3) + b"\x05"
    twice = length_delimited(5, b"first") + good_item("traces", 2)
    clean = otlp.redact("traces", request_of(in_scope([odd, twice])))
    assert (clean.items, clean.rejected) == (2, 0)
    assert names_of(clean) == {"step 1", "step 2"}


def test_the_deepest_value_that_protobuf_holds_is_kept_or_replaced_but_its_span_stays(otlp: OtlpRedactor) -> None:
    value = AnyValue(string_value="deep")
    for _ in range(46):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=[KeyValue(key="k", value=value)])
    clean = otlp.redact("traces", request_of(in_scope([span.SerializeToString()])))
    assert (clean.items, clean.rejected) == (1, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff",
        b"\x0a\xff\xff\xff",
        b"not protobuf at all",
        request_of(in_scope([good_item("traces", 1) + length_delimited(5, b"\xff")])),
    ],
)
def test_a_body_of_which_no_item_is_left_is_refused_for_good(otlp: OtlpRedactor, body: bytes) -> None:
    with pytest.raises(MalformedTelemetry, match="not a valid protobuf ExportTraceServiceRequest"):
        otlp.redact("traces", body)


def test_unknown_fields_that_cannot_be_parsed_go_alone(otlp: OtlpRedactor) -> None:
    unknown = b"\xa3\x06" * 120 + b"\xa4\x06" * 120
    clean = otlp.redact("traces", request_of(in_scope([good_item("traces", 1)])) + unknown)
    assert (clean.items, clean.rejected) == (1, 0)
    assert clean.body == request_of(in_scope([good_item("traces", 1)]))


@pytest.mark.parametrize("place", ["resource", "scope"])
@pytest.mark.parametrize("signal", list(REQUESTS))
def test_a_group_of_too_many_fields_costs_its_own_resource_only(otlp: OtlpRedactor, signal: Signal, place: str) -> None:
    endless = b"\xd3\x05" + b"\x08\x01" * 10_001 + b"\xd4\x05"
    scope = in_scope([good_item(signal, 1), good_item(signal, 2)], endless if place == "scope" else b"")
    bad = request_of(scope, resource=endless if place == "resource" else b"")
    good = request_of(in_scope([good_item(signal, 3)]))
    clean = otlp.redact(signal, bad + good)
    assert (clean.items, clean.rejected) == (1, 2)
    assert clean.body == good
    assert "[0]: dropped" in clean.problem
