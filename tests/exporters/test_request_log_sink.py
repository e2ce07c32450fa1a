"""The gateway's sink: OTLP bytes become the same rows as the SDK's spans, and only bytes that are OTLP."""

import base64
import gc
import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_telemetry.base.errors import ConfigurationError, MalformedTelemetry
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.derive.facts import IrrelevantSpan
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.exporters.request_log.store.gc_pause import held_back

EXAMPLE = Path(__file__).parents[1] / "otlp_examples" / "trace.json"


@pytest.fixture(name="sink")
def sink_fixture(tmp_path):
    sink = RequestLogSink(RequestLogSettings(url=f"sqlite:///{tmp_path / 'log.db'}"))
    yield sink
    sink.close()


@pytest.fixture(name="finished")
def finished_fixture(chat):
    """Spans of one request, as the SDK ends them."""
    provider = TracerProvider(resource=Resource({"service.name": "chat"}), shutdown_on_exit=False)
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("scope")
    request_fields: dict[str, Any] = {
        "request_log.route": "web",
        "request_log.topk": ["a", "b"],
        "request_log.deep": {"a": [1, {"b": None}]},
    }
    with tracer.start_as_current_span("POST", kind=SpanKind.SERVER, attributes=request_fields) as span:
        span.add_event("note", {"n": 1})
        with tracer.start_as_current_span("inner"), tracer.start_as_current_span("chat", attributes=chat()):
            pass
    return memory.get_finished_spans()


def body_of(spans):
    return encode_spans(spans).SerializeToString()


def test_bytes_and_sdk_spans_give_the_same_records(finished):
    from_bytes = {span.span_id: span for span in span_facts.from_otlp(body_of(finished))}
    for span in finished:
        ours, theirs = span_facts.from_sdk(span), from_bytes[f"{span.get_span_context().span_id:016x}"]
        for name in (
            "trace_id",
            "parent_span_id",
            "local_root",
            "name",
            "kind",
            "start_ns",
            "end_ns",
            "status",
            "scope",
        ):
            assert getattr(theirs, name) == getattr(ours, name), name
        plain = json.loads(json.dumps(dict(ours.attributes)))
        assert theirs.attributes == plain
        assert [event.name for event in theirs.events] == [event.name for event in ours.events]


def test_trace_bodies_become_rows_and_other_signals_none(sink, finished, rows, tmp_path):
    sink.deliver("logs", [b"whatever"])
    sink.deliver("metrics", [b"whatever"])
    sink.deliver("traces", [body_of([span]) for span in finished])
    request = rows(tmp_path / "log.db", "request_log")[0]
    assert (request["route"], request["llm_calls"], json.loads(request["topk"])) == ("web", 1, ["a", "b"])
    assert len(rows(tmp_path / "log.db", "facts")) == 3


def test_concatenated_bodies_are_one_body(sink, finished, rows, tmp_path):
    sink.deliver("traces", [b"".join(body_of([span]) for span in finished)])
    assert rows(tmp_path / "log.db", "request_log")[0]["llm_calls"] == 1


def test_a_body_that_is_no_otlp_is_malformed_and_nothing_of_its_chunk_is_stored(sink, finished, rows, tmp_path):
    with pytest.raises(MalformedTelemetry):
        sink.deliver("traces", [body_of(finished), b"\xff\xff not protobuf"])
    assert rows(tmp_path / "log.db", "request_log") == []


def test_spans_without_valid_ids_are_left_out_and_odd_enums_are_unspecified(sink, rows, tmp_path):
    good = Span(
        trace_id=b"\1" * 16, span_id=b"\2" * 8, kind=cast("Span.SpanKind.ValueType", 77), start_time_unix_nano=1
    )
    good.status.code = cast("Status.StatusCode.ValueType", 9)
    bad = [Span(trace_id=b"\1" * 5, span_id=b"\2" * 8), Span(trace_id=b"\1" * 16)]
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[*bad, good])])])
    sink.deliver("traces", [body.SerializeToString()])
    assert [span["span_id"] for span in rows(tmp_path / "log.db", "facts")] == ["02" * 8]


@pytest.mark.parametrize(("flags", "local_root"), [(0, False), (0x100, False), (0x300, True)])
def test_a_remote_parent_is_known_by_the_span_s_flags(flags, local_root):
    span = Span(trace_id=b"\1" * 16, span_id=b"\2" * 8, parent_span_id=b"\3" * 8, flags=flags)
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    assert [span.local_root for span in span_facts.from_otlp(body.SerializeToString())] == [local_root]


GENERAL = {
    "http.route": "/chat",
    "http.request.method": "POST",
    "http.response.status_code": 503,
    "enduser.id": "0123456789ab",
    "session.id": "s",
    "client.address": "abcdef012345",
    "error.type": "timeout",
    "app.other": "x" * 900,
}


@pytest.mark.parametrize("keys", [(), tuple(GENERAL), ("http.route", "app.other"), ("error.type", "client.address")])
@pytest.mark.parametrize("parent", [b"", b"\3" * 8])
@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_span_that_says_nothing_is_read_from_bytes_alone_as_from_the_whole_span(keys, parent, code):
    span = Span(trace_id=b"\1" * 16, span_id=b"\2" * 8, parent_span_id=parent, start_time_unix_nano=10**18)
    span.end_time_unix_nano = 10**18 + 7_000_000
    span.status.code = cast("Status.StatusCode.ValueType", code)
    for key in keys:
        kind = "int_value" if isinstance(GENERAL[key], int) else "string_value"
        setattr(span.attributes.add(key=key).value, kind, GENERAL[key])
    span.events.add(name="exception").attributes.add(key="exception.message").value.string_value = "no route"
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    read = list(span_facts.condensed_from_otlp(body.SerializeToString()))
    assert read == [
        span_facts.to_fact(each, store_text=False) for each in span_facts.from_otlp(body.SerializeToString())
    ]
    assert isinstance(read[0], IrrelevantSpan)
    assert (read[0].request_fields is None) == bool(parent)


ENTRIES = (  # route, status, code, end; what is remembered of one has to be wrong of the next
    ("/a", 200, 0, 5),
    ("/a", 200, 0, 9),
    ("/a", 200, 2, 9),
    ("/a", True, 0, 9),
    ("/a", 1, 0, 9),
    ("/a", 500, 0, 9),
    ("/a", 200, 0, 0),
    ("/a", 200, 1, 10**9),
    ("/" + "a" * 200, 200, 0, 9),
    (7, 200, 0, 9),
    ("/b", "200", 0, 9),
)


def test_entry_spans_of_one_kind_in_a_row_are_read_as_each_by_itself():
    given = []
    for service in ("one", "two", "one"):
        group = ResourceSpans(scope_spans=[ScopeSpans()])
        group.resource.attributes.add(key="service.name").value.string_value = service
        for number, (route, status, code, end) in enumerate(ENTRIES):
            span = group.scope_spans[0].spans.add(trace_id=b"\1" * 16, span_id=bytes([*b"1234567", number + 1]))
            span.start_time_unix_nano, span.end_time_unix_nano = 10**18 + number, end and 10**18 + end
            span.status.code = cast("Status.StatusCode.ValueType", code)
            for key, value in (("http.route", route), ("http.response.status_code", status)):
                kind = {str: "string_value", bool: "bool_value", int: "int_value"}[type(value)]
                setattr(span.attributes.add(key=key).value, kind, value)
        given.append(group)
    body = ExportTraceServiceRequest(resource_spans=given).SerializeToString()
    alone = [span_facts.to_fact(each, store_text=False) for each in span_facts.from_otlp(body)]
    read = list(span_facts.condensed_from_otlp(body))
    assert read == alone
    assert [json.dumps(fields_of(each), sort_keys=True) for each in read] == [  # where True is not 1
        json.dumps(fields_of(each), sort_keys=True) for each in alone
    ]


def fields_of(span: object) -> dict[str, object] | None:
    assert isinstance(span, IrrelevantSpan)
    return span.request_fields


def test_a_span_that_says_something_is_read_whole(finished):
    read = {type(each).__name__ for each in span_facts.condensed_from_otlp(body_of([finished[0], finished[2]]))}
    assert read == {"Span"}


def test_a_wrong_setting_stops_the_sink_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError):
        RequestLogSink(RequestLogSettings(url=f"sqlite:///{tmp_path / 'file' / 'log.db'}"))


def test_the_example_of_the_protocol_is_read(sink, rows, tmp_path):
    text = EXAMPLE.read_text()
    document = json.loads(text)
    for of_resource in document["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    body = json_format.ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    sink.deliver("traces", [body.SerializeToString()])
    assert len(rows(tmp_path / "log.db", "facts")) >= 1


def test_the_collector_of_cycles_rests_while_somebody_asks_for_it_and_stays_off_where_it_was():
    with held_back():
        with held_back():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(MalformedTelemetry), held_back():
        raise MalformedTelemetry("no OTLP")
    assert gc.isenabled()
    gc.disable()
    try:
        with held_back():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_hostile_bytes_never_do_more_than_be_refused(sink):
    for _ in range(200):
        try:
            sink.deliver("traces", [os.urandom(60)])
        except MalformedTelemetry:
            continue
