import json
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from otel_telemetry.base import otlp_json
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.base.otlp_json import Decoded

EXAMPLES = Path(__file__).parents[1] / "otlp_examples"
TRACE_ID = "5B8EFFF798038103D269B633813FC60C"


def spans(*given: Any, **around: Any) -> Any:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(given)} | around]}]}


def span(**fields: Any) -> Any:
    return {"traceId": TRACE_ID, "spanId": "EEE19B7EC3C1B174", "name": "a span"} | fields


def decode(body: Any, signal: Signal = "traces") -> Decoded:
    return otlp_json.decode(signal, body if isinstance(body, bytes) else json.dumps(body).encode())


def decoded_spans(body: bytes) -> Any:
    request = ExportTraceServiceRequest.FromString(decode(body).body)
    return request.resource_spans[0].scope_spans[0].spans


def value_of(any_value: dict[str, Any]) -> Any:
    attribute = {"key": "k", "value": any_value}
    return decoded_spans(spans(span(attributes=[attribute])))[0].attributes[0].value


@pytest.mark.parametrize("name", ["trace", "logs", "events", "metrics"])
def test_the_examples_of_each_signal_are_taken_whole(name: str) -> None:
    path = EXAMPLES / f"{name}.json"
    signals: dict[str, Signal] = {"trace": "traces", "events": "logs", "logs": "logs", "metrics": "metrics"}
    signal = signals[name]
    given = json.loads(path.read_text())
    done = decode(given, signal)
    assert (done.rejected, done.problem) == (0, "")
    again = json.loads(otlp_json.encode(signal, done.body))
    assert lowered(again) == lowered(given)


def lowered(value: Any) -> Any:
    """Ids in one case and 64-bit integers as strings, as different writers of OTLP/JSON may differ in that."""
    if isinstance(value, list):
        return [lowered(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: one.lower() if key in {"traceId", "spanId", "parentSpanId"} else lowered(one)
        for key, one in value.items()
        if one not in ("", 0, [], {})
    } | {key: str(value[key]) for key in ("intValue", "count") if key in value}


def test_ids_are_hex_of_either_case() -> None:
    (one, two) = decoded_spans(spans(span(traceId=TRACE_ID), span(traceId=TRACE_ID.lower(), parentSpanId="")))
    assert one.trace_id == two.trace_id == bytes.fromhex(TRACE_ID)
    assert two.parent_span_id == b""


def test_other_bytes_are_base64_with_or_without_padding_and_url_safe() -> None:
    assert [value_of({"bytesValue": v}).bytes_value for v in ("+/8=", "-_8", "-_8=")] == [b"\xfb\xff"] * 3


def test_64_bit_integers_come_as_strings_or_numbers() -> None:
    times = ("1544712660000000000", 1544712660000000000)
    assert [s.start_time_unix_nano for s in decoded_spans(spans(*[span(startTimeUnixNano=t) for t in times]))] == [
        1544712660000000000
    ] * 2
    assert value_of({"intValue": "-9223372036854775808"}).int_value == -(1 << 63)
    assert value_of({"intValue": 3.0}).int_value == 3


def test_doubles_come_as_numbers_or_as_the_names_of_what_json_has_no_number_for() -> None:
    values = [value_of({"doubleValue": v}).double_value for v in (1, 2.5, "3.5", "Infinity", "-Infinity", "NaN")]
    assert values[:5] == [1.0, 2.5, 3.5, math.inf, -math.inf]
    assert math.isnan(values[5])


def test_enums_come_as_integers_and_those_of_a_newer_otlp_are_kept() -> None:
    assert [s.kind for s in decoded_spans(spans(span(kind=2), span(kind="SPAN_KIND_CLIENT"), span(kind=77)))] == [
        2,
        3,
        77,
    ]


def test_unknown_names_are_ignored_and_null_is_nothing() -> None:
    (one,) = decoded_spans(spans(span(futureField={"x": [1]}, status=None, attributes=None), futureScope=1))
    assert one.name == "a span"
    assert not one.HasField("status")


def test_an_empty_value_is_kept_as_an_empty_value() -> None:
    assert value_of({"stringValue": ""}).WhichOneof("value") == "string_value"
    assert value_of({"kvlistValue": {}}).WhichOneof("value") == "kvlist_value"
    assert value_of({"intValue": 0}).WhichOneof("value") == "int_value"


@pytest.mark.parametrize(
    ("fields", "path", "problem"),
    [
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano", "not an integer"),
        ({"startTimeUnixNano": True}, "startTimeUnixNano", "not an integer"),
        ({"startTimeUnixNano": -1}, "startTimeUnixNano", "not between 0 and 18446744073709551615"),
        ({"startTimeUnixNano": "9" * 5000}, "startTimeUnixNano", "not an integer"),
        ({"traceId": "xyz"}, "traceId", "not 32 hex digits"),
        ({"traceId": "abcd"}, "traceId", "not 32 hex digits"),
        ({"spanId": TRACE_ID}, "spanId", "not 16 hex digits"),
        ({"spanId": 7}, "spanId", "not a string"),
        ({"name": {"a": 1}}, "name", "not a string"),
        ({"name": "\ud800"}, "name", "not valid Unicode"),
        ({"kind": "SPAN_KIND_OF_MAGIC"}, "kind", "not an integer"),
        ({"status": "ok"}, "status", "not a JSON object"),
        ({"attributes": {"a": 1}}, "attributes", "not a JSON array"),
        ({"attributes": ["a"]}, "attributes[0]", "not a JSON object"),
        ({"events": [{}, {"timeUnixNano": []}]}, "events[1].timeUnixNano", "not an integer"),
        (
            {"attributes": [{"key": "a", "value": {"arrayValue": {"values": [{"boolValue": "yes"}]}}}]},
            "attributes[0].value.arrayValue.values[0].boolValue",
            "not true or false",
        ),
        ({"attributes": [{"value": {"doubleValue": "many"}}]}, "attributes[0].value.doubleValue", "not a number"),
        ({"attributes": [{"value": {"bytesValue": "*"}}]}, "attributes[0].value.bytesValue", "not base64"),
    ],
)
def test_one_malformed_span_is_left_out_and_named_while_its_neighbours_are_taken(
    fields: dict[str, Any], path: str, problem: str
) -> None:
    body = spans(span(name="before"), span(**fields), span(name="after"))
    done = decode(body)
    assert done.rejected == 1
    assert done.problem == f"resourceSpans[0].scopeSpans[0].spans[1].{path}: {problem}"
    assert [s.name for s in decoded_spans(body)] == ["before", "after"]


def test_when_the_only_span_is_malformed_the_request_is() -> None:
    with pytest.raises(MalformedTelemetry) as refused:
        decode(spans(span(startTimeUnixNano="alice@example.com")))
    assert refused.value.field == "resourceSpans[0].scopeSpans[0].spans[0].startTimeUnixNano"
    assert "alice" not in str(refused.value)


def test_a_malformed_data_point_leaves_the_other_points_of_its_metric() -> None:
    points = [{"asInt": "1"}, {"asInt": "one"}, {"asDouble": 3}]
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "sum": {"dataPoints": points}}]}]}]}
    done = decode(body, "metrics")
    metric = ExportMetricsServiceRequest.FromString(done.body).resource_metrics[0].scope_metrics[0].metrics[0]
    assert [p.WhichOneof("value") for p in metric.sum.data_points] == ["as_int", "as_double"]
    assert done.problem.startswith("resourceMetrics[0].scopeMetrics[0].metrics[0].sum.dataPoints[1].asInt: ")


def test_a_malformed_resource_takes_all_its_records_along_and_no_others() -> None:
    good = {"scopeLogs": [{"logRecords": [{"body": {"stringValue": "kept"}}]}]}
    records = [{"body": {"stringValue": "x"}}, {"timeUnixNano": "bad"}, {}]
    bad = {"scopeLogs": [{"logRecords": records}, {"logRecords": [{}]}], "resource": {"attributes": 1}}
    done = decode({"resourceLogs": [bad, good]}, "logs")
    assert done.rejected == 4
    (parsed,) = ExportLogsServiceRequest.FromString(done.body).resource_logs
    assert parsed.scope_logs[0].log_records[0].body.string_value == "kept"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON: Expecting value at line 1 column 1"),
        (b'{"resourceSpans": [', "not JSON: Expecting value at line 1 column 20"),
        (b"[]", "not OTLP: the body is not a JSON object"),
        (b'"text"', "not OTLP: the body is not a JSON object"),
        (b'{"resourceSpans": {}}', "resourceSpans: not a JSON array"),
        (b"\xff\xfe{\x00}\x00", "not JSON: the body is not UTF-8"),
        (b"[" * 2_000_000, "not OTLP: nested too deeply"),
        (b'{"a":' * 2_000_000, "not OTLP: nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not OTLP: a number has too many digits"),
    ],
)
def test_what_is_no_otlp_json_is_refused_with_a_reason(body: bytes, problem: str) -> None:
    with pytest.raises(MalformedTelemetry) as refused:
        decode(body)
    assert str(refused.value) == problem


def nested(depth: int) -> Any:
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


def test_values_are_taken_as_deep_as_protobuf_reads_them_again() -> None:
    assert value_of(nested(30)).WhichOneof("value") == "array_value"
    done = decode(spans(span(name="flat"), span(attributes=[{"key": "k", "value": nested(200)}])))
    assert (done.rejected, done.problem) == (0, "")
    parsed = ExportTraceServiceRequest.FromString(done.body)
    assert len(parsed.resource_spans[0].scope_spans[0].spans) == 2
    assert b"[REDACTED_DEPTH]" in done.body


def test_a_body_of_another_signal_is_taken_as_empty_with_a_warning() -> None:
    done = decode(spans(span()), "logs")
    assert (done.body, done.rejected) == (b"", 0)
    assert done.problem == "the body has no resourceLogs, so nothing was taken from it"
    assert decode({}, "logs").problem == ""


def any_values() -> st.SearchStrategy[AnyValue]:
    plain = st.one_of(
        st.text().map(lambda v: AnyValue(string_value=v)),
        st.booleans().map(lambda v: AnyValue(bool_value=v)),
        st.integers(-(1 << 63), (1 << 63) - 1).map(lambda v: AnyValue(int_value=v)),
        st.floats(allow_nan=False).map(lambda v: AnyValue(double_value=v)),
        st.binary().map(lambda v: AnyValue(bytes_value=v)),
        st.just(AnyValue()),
    )
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=3).map(_array), max_leaves=8)


def _array(values: list[AnyValue]) -> AnyValue:
    made = AnyValue()
    made.array_value.values.extend(values)
    return made


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), any_values()), max_size=4), st.binary(min_size=16, max_size=16))
def test_what_is_written_as_json_is_read_back_the_same(attributes: list[tuple[str, AnyValue]], trace_id: bytes) -> None:
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add(trace_id=trace_id, span_id=b"12345678", name="n")
    for key, value in attributes:
        made.attributes.add(key=key).value.CopyFrom(value)
    body = request.SerializeToString()
    line = otlp_json.encode("traces", body)
    assert ExportTraceServiceRequest.FromString(decode(line.encode()).body) == request


def hostile_json() -> st.SearchStrategy[Any]:
    """Anything that JSON can say, with names that OTLP knows among its keys."""
    keys = (
        "resourceSpans scopeSpans spans resource attributes key value arrayValue kvlistValue values events links status"
    )
    names = st.sampled_from([*keys.split(), "traceId", "intValue", "doubleValue", "bytesValue", "kind", "name"])
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=30
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(hostile_json(), max_size=3), hostile_json())
def test_whatever_json_says_it_is_taken_as_otlp_or_refused_and_nothing_else(groups: Any, scope: Any) -> None:
    for body in ({"resourceSpans": groups}, {"resourceSpans": [{"scopeSpans": [{"spans": groups}, scope]}]}):
        try:
            done = decode(body)
        except MalformedTelemetry:
            continue
        assert ExportTraceServiceRequest.FromString(done.body).SerializeToString() == done.body


def test_it_reads_what_protobufs_own_json_reader_reads() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="h", unit="s")
    point = metric.exponential_histogram.data_points.add(count=3, sum=1.5, scale=-2, zero_count=1)
    point.positive.bucket_counts.extend([1, 2])
    point.negative.offset = -7
    metric.exponential_histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    as_json = MessageToDict(request)
    assert ParseDict(as_json, ExportMetricsServiceRequest()) == request
    assert ExportMetricsServiceRequest.FromString(decode(as_json, "metrics").body) == request
